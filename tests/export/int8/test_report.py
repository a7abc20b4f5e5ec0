"""The int8 verdict and report: figures are right, and a less accurate or slower model does not ship."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from cnn_export import Difference, Timing, cli, export, exporting
from cnn_export.graph.float_graph import float_graph
from cnn_export.int8 import arithmetic, search
from cnn_export.int8.quantize import calibration_set
from cnn_export.int8.reference import Reference
from cnn_export.int8.targets import kind_of_this_machine
from cnn_export.int8.verdict import compare, decide, measure, slow_reason
from cnn_export.parity import Outputs
from cnn_infer import Classifier, Spec, newest_export, verify
from cnn_infer.model import GOLDEN_KEY
from cnn_train import Run
from scipy.stats import chi2
from sklearn.metrics import accuracy_score, f1_score

Speed = Callable[[float], AbstractContextManager[None]]


def difference(lost: int, won: int, images: int) -> Difference:
    """The result of :func:`compare` for models that differ in so many pictures."""
    labels = np.arange(images) % 2
    right = np.eye(2, dtype=np.float32)[labels]
    wrong = 1 - right
    first, second = right.copy(), right.copy()
    second[:lost] = wrong[:lost]
    first[lost : lost + won] = wrong[lost : lost + won]
    return compare(first, second, labels)


FASTER = [Timing(1, 2.0, 1.0, 2.0, 50), Timing(32, 2.0, 1.0, 2.0, 50)]
SLOWER = [Timing(1, 1.0, 1.1, 0.91, 50), Timing(32, 2.0, 1.0, 2.0, 50)]
HARDLY_FASTER = [Timing(1, 1.0, 0.96, 1.04, 50), Timing(32, 2.0, 1.0, 2.0, 50)]


def test_figures_equal_scikit_learn() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 4, 500)
    first, second = (random.random((500, 4)).astype(np.float32) for _ in range(2))
    first[np.arange(400), labels[:400]] += 1
    second[np.arange(380), labels[:380]] += 1
    found = compare(first, second, labels)
    assert found.accuracy_fp32 == accuracy_score(labels, first.argmax(1))
    assert found.accuracy_int8 == accuracy_score(labels, second.argmax(1))
    assert found.macro_f1_int8 == pytest.approx(f1_score(labels, second.argmax(1), average="macro"))
    assert found.drop_points == pytest.approx(100 * (found.accuracy_fp32 - found.accuracy_int8))
    lost, won = found.lost + 0.5, found.won + 0.5
    centre, total = (lost - won) / 502, lost + won
    half = 1.959964 * ((total / 502 - centre**2) / 502) ** 0.5
    assert found.drop_interval == pytest.approx((100 * (centre - half), 100 * (centre + half)), rel=1e-3)
    assert found.flips == (first.argmax(1) != second.argmax(1)).sum()


def test_mcnemar_is_near_its_chi_square_form_and_exact_by_hand() -> None:
    many = difference(320, 260, 10_000)
    statistic = (abs(320 - 260) - 1) ** 2 / (320 + 260)
    assert many.mcnemar_p == pytest.approx(chi2.sf(statistic, 1), rel=0.05)
    # 5 to 0: two tails of 1/32
    assert difference(5, 0, 100).mcnemar_p == pytest.approx(2 / 32)
    assert difference(0, 0, 100).mcnemar_p == 1


@pytest.mark.parametrize(
    ("lost", "won", "images", "ships"),
    [(5, 0, 5000, True), (6, 0, 5000, False), (9, 4, 5000, True), (1, 0, 100, True), (2, 0, 100, False)],
)
def test_the_drop_on_validation_decides(lost: int, won: int, images: int, ships: bool) -> None:
    verdict = decide(difference(lost, won, images), FASTER)
    assert verdict.ships is ships
    assert ("one net picture" in verdict.reason) is (images == 100)


def test_a_limit_of_zero_allows_no_loss() -> None:
    assert decide(difference(0, 0, 100), FASTER, 0).ships
    assert not decide(difference(1, 0, 100), FASTER, 0).ships


@pytest.mark.parametrize("latency", [SLOWER, HARDLY_FASTER])
def test_int8_that_is_not_faster_does_not_ship(latency: list[Timing]) -> None:
    verdict = decide(difference(0, 0, 5000), latency)
    assert not verdict.ships
    assert "not faster" in verdict.reason


@pytest.mark.parametrize("instructions", ["avx512_vnni", "avx_vnni", "neon_dotprod", "avx2", "neon", "generic"])
def test_a_processor_without_byte_dot_products_is_named_as_the_reason(instructions: str) -> None:
    reason = slow_reason(instructions)
    assert bool(reason) is (instructions in ("avx2", "neon", "generic"))
    assert instructions in reason or not reason
    assert decide(difference(0, 0, 5000), FASTER).reason.endswith(slow_reason())


def test_equal_accuracy_on_other_pictures_does_not_ship() -> None:
    assert decide(difference(250, 250, 10_000), FASTER).ships
    verdict = decide(difference(251, 250, 10_000), FASTER)
    assert not verdict.good_enough
    assert "another class for 501 of 10,000 validation pictures; 5% allowed" in verdict.reason


TWO = np.arange(200) % 2


@pytest.mark.parametrize(
    ("predicted", "labels", "reason"),
    [
        (np.zeros(200, int), TWO, "fp32 predicts the same class for all 200 validation pictures"),
        (np.zeros(200, int), np.zeros(200, int), "the validation pictures have one class only"),
        (TWO, np.zeros(200, int), "the validation pictures have one class only"),
        (1 - TWO, TWO, "fp32 classifies none of the 200 validation pictures correctly"),
    ],
)
def test_a_comparison_that_means_nothing_does_not_ship(predicted: np.ndarray, labels: np.ndarray, reason: str) -> None:
    outputs = np.eye(2, dtype=np.float32)[predicted]
    verdict = decide(compare(outputs, outputs, labels), FASTER)
    assert not verdict.good_enough
    assert verdict.reason.startswith(reason)


def test_calibration_takes_the_classes_in_turn() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    chosen = calibration_set(labels, seed=0, most=20)
    assert np.bincount(labels[chosen]).tolist() == [10, 10]
    assert np.array_equal(chosen, calibration_set(labels, seed=0, most=20))
    assert len(set(chosen)) == 20
    assert len(calibration_set(labels, seed=0, most=1000)) == 100


def test_calibration_never_sees_the_test_split(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures that reach the quantiser are training pictures, each of them."""
    seen = []
    original = search.normalised

    def watched(pictures: np.ndarray, spec: Spec) -> object:
        seen.append(pictures.copy())
        return original(pictures, spec)

    monkeypatch.setattr(search, "normalised", watched)
    export(run, quantize=True, search_seconds=0)
    source = exporting.open_run_source(run, None)
    dataset = exporting.read_dataset(run, source)
    training = {picture.tobytes() for picture in dataset.train.images}
    assert {picture.tobytes() for picture in seen[0]} <= training
    assert not {picture.tobytes() for picture in dataset.test.images} & training


def test_report_equals_what_the_file_computes(run: Run) -> None:
    result = export(run, quantize=True, search_seconds=0)
    assert result.int8 is not None
    report = json.loads((run.path / "export.json").read_text())
    session = onnxruntime.InferenceSession(
        (run.path / result.int8.file).read_bytes(), providers=["CPUExecutionProvider"]
    )
    dataset = exporting.read_dataset(run, exporting.open_run_source(run, None))
    predicted = session.run(["logits"], {"image": np.asarray(dataset.test.images)})[0].argmax(1)
    assert report["int8"]["test"]["accuracy_int8"] == accuracy_score(dataset.test.labels, predicted)
    assert {"accuracy_fp32", "macro_f1_int8", "drop_interval", "mcnemar_p", "flips"} <= set(report["int8"]["test"])
    assert [entry["batch_size"] for entry in report["int8"]["latency"]] == [1, 32]
    assert report["int8"]["bytes"] == (run.path / result.int8.file).stat().st_size
    assert report["fp32"]["bytes"] == (run.path / "model.onnx").stat().st_size


@pytest.mark.parametrize("speedup", [2.0, 0.91])
def test_the_verdict_decides_the_file_name_and_the_model_that_infer_uses(
    run: Run, int8_speed: Speed, speedup: float
) -> None:
    with int8_speed(speedup):
        result = export(run, quantize=True, max_drop=100, search_seconds=0)
    accepted, rejected = run.path / "model.int8.onnx", run.path / "model.int8.rejected.onnx"
    ships = speedup > 1
    assert (accepted.exists(), rejected.exists()) == (ships, not ships)
    assert newest_export(run.path.parent).name == ("model.int8.onnx" if ships else "model.onnx")
    assert Classifier(newest_export(run.path.parent)).spec.details["precision"] == ("int8" if ships else "fp32")
    assert result.ship.exists()


def test_int8_that_is_not_faster_is_reported_with_the_reason(
    run: Run, int8_speed: Speed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through the command: the summary and the report say why the search ended, and not that it ran out of time."""
    monkeypatch.setattr(sys, "argv", ["cnn-export", str(run.path), "--quantize", "--search-seconds", "1000"])
    with int8_speed(0.95), pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    speed = "0.95x at batch 1, 0.95x at batch 32"
    reason = (
        f"int8 is not faster on this machine: {speed} (per channel); {speed} (per tensor); "
        f"the search ended after 2 candidates{slow_reason()}"
    )
    summary = capsys.readouterr().out
    assert reason in summary
    assert "2 candidates, " in summary
    assert "out of time" not in summary
    int8 = json.loads((run.path / "export.json").read_text())["int8"]
    assert int8["ended_early"] == reason
    assert int8["planned"] == len(int8["candidates"]) == 2
    assert not int8["verdict"]["ships"]


def elsewhere() -> str:
    """A target that this machine does not compute like, with exact sums."""
    return "arm" if kind_of_this_machine() != "arm" else "vnni"


def never_measured(*_: object) -> list[Timing]:
    pytest.fail("the speed of a model for other processors is measured")


def test_int8_for_other_processors_is_proven_but_its_speed_is_left_to_them(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exporting, "Search", partial(search.Search, measure_latency=never_measured))
    arguments = [str(run.path), "--quantize", "--for", elsewhere(), "--search-seconds", "0", "--max-drop", "100"]
    monkeypatch.setattr(sys, "argv", ["cnn-export", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert not left.value.code
    summary = " ".join(capsys.readouterr().out.split())
    assert "speed not measured: judge on the box verdict accurate enough: " in summary
    assert "run there: cnn-infer --judge model.onnx model.int8.onnx" in summary
    report = json.loads((run.path / "export.json").read_text())
    assert (report["ship"], report["int8"]["file"]) == ("model.onnx", "model.int8.onnx")
    assert (report["int8"]["speed"], report["int8"]["latency"]) == ("not measured: judge on the box", [])
    verdict = report["int8"]["verdict"]
    assert (verdict["ships"], verdict["good_enough"], verdict["faster"]) == (False, True, None)
    model = Classifier(run.path / "model.int8.onnx", device="cpu")
    certificate = model.spec.details["parity"]["fp32_against_int8"]
    assert (certificate["speed"], certificate["latency"]) == ("not measured: judge on the box", [])
    assert [replay.passed for replay in verify(model)] == [True] * 6
    assert newest_export(run.path.parent).name == "model.onnx"


def test_the_figures_are_those_of_the_processors_that_the_model_is_for(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model on processors that add products in 32 bits and on some that saturate them to 16 bits."""
    monkeypatch.setattr(arithmetic, "kind_of_this_machine", lambda: "another")
    found = []
    for saturating in (frozenset[str](), frozenset({"vnni"})):
        monkeypatch.setattr(arithmetic, "SATURATING", saturating)
        int8 = export(run, quantize=True, target="vnni", search_seconds=0, max_drop=100).int8
        assert int8 is not None
        golden = json.loads(Classifier(run.path / int8.file, device="cpu").model.metadata[GOLDEN_KEY])
        found.append((int8.candidates[0], [entry["probabilities"] for entry in golden]))
    (exact, exact_golden), (saturated, saturated_golden) = found
    assert saturated.sha256 == exact.sha256
    assert saturated.divergence != exact.divergence
    assert saturated_golden != exact_golden


def test_each_split_is_computed_once_for_other_processors(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact computation is slow. Single pictures are those of the conformance files."""
    original, sizes = Reference.run, []

    def counted(self: Reference, pictures: np.ndarray, what: str | None = None) -> Outputs:
        sizes.append(len(pictures))
        return original(self, pictures, what)

    monkeypatch.setattr(Reference, "run", counted)
    monkeypatch.setattr(arithmetic, "kind_of_this_machine", lambda: "another")
    result = export(run, quantize=True, target="vnni", search_seconds=0)
    assert result.int8 is not None
    assert [size for size in sizes if size > 1] == [result.int8.validation.images, result.int8.test.images]


def test_int8_that_is_slow_here_keeps_its_golden_pictures_for_other_machines(run: Run, int8_speed: Speed) -> None:
    with int8_speed(0.95):
        result = export(run, quantize=True, max_drop=100, search_seconds=0)
    assert result.int8 is not None
    assert result.int8.file == "model.int8.rejected.onnx"
    assert all(replay.passed for replay in verify(Classifier(run.path / result.int8.file, device="cpu")))


def test_latencies_are_medians_of_alternating_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that only the calls advance: 3 ms for fp32 and 2 ms for int8, and 90 ms for one call of each."""
    now, calls = 0.0, []

    def model(name: str, seconds: float) -> SimpleNamespace:
        def call(_: list[str], inputs: dict[str, np.ndarray]) -> None:
            nonlocal now
            calls.append((name, len(inputs["image"])))
            now += 0.09 if len(calls) in (61, 62) else seconds

        return SimpleNamespace(session=SimpleNamespace(run=call))

    monkeypatch.setattr("cnn_export.int8.verdict.time", SimpleNamespace(perf_counter=lambda: now))
    found = measure(model("fp32", 0.003), model("int8", 0.002), np.zeros((3, 8, 8, 1), np.uint8))
    assert [entry.batch_size for entry in found] == [1, 32]
    for entry in found:
        assert (entry.fp32_ms, entry.int8_ms, entry.speedup) == pytest.approx((3, 2, 1.5))
        assert entry.rounds >= 20
    assert [name for name, _ in calls] == ["fp32", "int8"] * (len(calls) // 2)
    assert {size for _, size in calls} == {1, 32}


def test_quantization_adds_no_handler_that_prints_every_message_twice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(exporting, "float_graph", float_graph)  # PyTorch's exporter runs as well
    monkeypatch.setattr(root, "handlers", [])  # as outside of pytest
    level = root.level
    export(run, quantize=True, search_seconds=0)
    assert (root.handlers, root.filters, root.level) == ([], [], level)


def test_only_the_quantizers_own_warnings_are_hidden(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = search.normalised

    def logged(pictures: np.ndarray, spec: Spec) -> object:
        batches = original(pictures, spec)

        def source() -> Iterator[dict[str, np.ndarray]]:
            logging.warning("a message of the application")
            yield from batches()

        return source

    monkeypatch.setattr(search, "normalised", logged)
    export(run, quantize=True, search_seconds=0)
    found = [record.getMessage() for record in caplog.records if record.name == "root"]
    assert found == ["a message of the application"] * 3  # two passes of the calibration, one of the quantizer


def test_an_export_without_int8_removes_the_int8_files_of_earlier_exports(run: Run) -> None:
    export(run, quantize=True, max_drop=100, search_seconds=0)
    assert (run.path / "model.int8.onnx").exists()
    result = export(run)
    assert not (run.path / "model.int8.onnx").exists()
    assert result.ship.name == "model.onnx"
