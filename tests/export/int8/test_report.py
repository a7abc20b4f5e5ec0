"""The int8 verdict: its figures are right, and a worse or slower model does not ship."""

import json

import numpy as np
import onnxruntime
import pytest
from cnn_export import Difference, Latency, export, exporting
from cnn_export.int8 import search
from cnn_export.int8.quantize import calibration_set
from cnn_export.int8.verdict import compare, decide
from cnn_infer import Classifier, Spec, newest_export
from cnn_train import Run
from scipy.stats import chi2
from sklearn.metrics import accuracy_score, f1_score


def difference(lost: int, won: int, images: int) -> Difference:
    """What :func:`compare` gives for models that differ in these pictures."""
    labels = np.zeros(images, np.int64)
    right, wrong = (np.tile(np.array(row, np.float32), (images, 1)) for row in ((0.9, 0.1), (0.1, 0.9)))
    first, second = right.copy(), right.copy()
    second[:lost] = wrong[:lost]
    first[lost : lost + won] = wrong[:won]
    return compare(first, second, labels)


FASTER = [Latency(1, 2.0, 1.0, 2.0, 50), Latency(32, 2.0, 1.0, 2.0, 50)]
SLOWER = [Latency(1, 1.0, 1.1, 0.91, 50), Latency(32, 2.0, 1.0, 2.0, 50)]
HARDLY_FASTER = [Latency(1, 1.0, 0.96, 1.04, 50), Latency(32, 2.0, 1.0, 2.0, 50)]


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


def test_no_drop_means_none() -> None:
    assert decide(difference(0, 0, 100), FASTER, 0).ships
    assert not decide(difference(1, 0, 100), FASTER, 0).ships


@pytest.mark.parametrize("latency", [SLOWER, HARDLY_FASTER])
def test_what_is_not_faster_does_not_ship(latency: list[Latency]) -> None:
    verdict = decide(difference(0, 0, 5000), latency)
    assert not verdict.ships
    assert "not faster" in verdict.reason


def test_as_many_right_but_others_does_not_ship() -> None:
    assert decide(difference(250, 250, 10_000), FASTER).ships
    verdict = decide(difference(251, 250, 10_000), FASTER)
    assert not verdict.good_enough
    assert "501 of 10,000 validation pictures another class; 5% allowed" in verdict.reason


def test_a_network_that_has_learned_nothing_shows_nothing() -> None:
    same = np.tile(np.array((0.9, 0.1), np.float32), (200, 1))
    labels = np.arange(200) % 2
    verdict = decide(compare(same, same, labels), FASTER)
    assert not verdict.good_enough
    assert "all 200 validation pictures one class" in verdict.reason
    assert decide(compare(same, same, np.zeros(200, np.int64)), FASTER).ships


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


@pytest.mark.parametrize("latency", [FASTER, SLOWER])
def test_the_verdict_decides_the_name_and_what_infer_takes(
    run: Run, monkeypatch: pytest.MonkeyPatch, latency: list[Latency]
) -> None:
    monkeypatch.setattr(search, "measure", lambda *_: latency)
    result = export(run, quantize=True, max_drop=100, search_seconds=0)
    accepted, rejected = run.path / "model.int8.onnx", run.path / "model.int8.rejected.onnx"
    ships = latency is FASTER
    assert (accepted.exists(), rejected.exists()) == (ships, not ships)
    assert newest_export(run.path.parent).name == ("model.int8.onnx" if ships else "model.onnx")
    assert Classifier(newest_export(run.path.parent)).spec.details["precision"] == ("int8" if ships else "fp32")
    assert result.ship.exists()


def test_an_export_without_int8_leaves_no_int8_of_another_export(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "measure", lambda *_: FASTER)
    export(run, quantize=True, max_drop=100, search_seconds=0)
    assert (run.path / "model.int8.onnx").exists()
    result = export(run)
    assert not (run.path / "model.int8.onnx").exists()
    assert result.ship.name == "model.onnx"
