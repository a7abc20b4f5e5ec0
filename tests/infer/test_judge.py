"""--judge: files that belong together are verified, then timed, and the right one ships. No test asserts a speed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, InputError
from cnn_infer.command.judge import judge_models
from cnn_infer.proof import side_by_side
from cnn_infer.proof.judge import judge
from cnn_infer.proof.side_by_side import Times, speedup_of

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Make = Callable[..., Path]

SHORT = (
    "import sys; from cnn_infer.proof import side_by_side; side_by_side.SECONDS = 0\n"
    "side_by_side.BLOCK_SECONDS = (0.001, 0.001); from cnn_infer.__main__ import main; main()"
)
"""The real command, with short measurements."""


@pytest.fixture
def make(tmp_path: Path, models: Path, grey: Classifier, with_metadata: Callable[[str, str, str], bytes]) -> Make:
    """Writes a file of the export that ``grey.onnx`` stands for.

    ``flips`` makes it an int8 file with that many changed predictions; ``wrong`` one that computes something else than
    at export; ``good_enough`` is the verdict on its accuracy; other keywords go into the details.
    """

    def write(
        name: str,
        flips: int | None = None,
        *,
        wrong: bool = False,
        good_enough: bool = True,
        golden: bool = True,
        **details: object,
    ) -> Path:
        spec = json.loads(grey.spec.to_json())
        spec["details"] |= {"metrics": {"test": {"accuracy": 0.91}}, "parity": {}, "name": name} | details
        if flips is not None:
            verdict = {"good_enough": good_enough, "reason": "it loses 3 points"}
            proof = {"test": {"flips": flips, "accuracy_int8": 0.9}, "verdict": verdict}
            spec["details"] |= {"precision": "int8", "parity": {"fp32_against_int8": proof}}
        replayed = json.loads(grey.model.metadata["cnn.golden"]) if golden else []
        if wrong:
            replayed[0]["probabilities"] = replayed[0]["probabilities"][::-1]
        data = original = (models / "grey.onnx").read_bytes()
        for key, value in (("cnn.spec", json.dumps(spec)), ("cnn.golden", json.dumps(replayed))):
            data += with_metadata("grey.onnx", key, value)[len(original) :]
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replaces the measurement: ``speeds((1, 1), (2, 0.5))`` makes the second file twice as fast at batch 1 and half
    as fast in a folder, each within 2%.
    """

    def measured(*files: tuple[float, float]) -> None:
        random = np.random.default_rng(0)
        batch_1, folder = (1e-3 / np.array(column) for column in zip(*files, strict=True))
        noise = random.uniform(0.98, 1.02, (2, 20, len(files)))
        times = Times(batch_1 * noise[0], folder * noise[1], threads=2, batch_size=32)
        monkeypatch.setattr("cnn_infer.proof.judge.measure", lambda *_: times)

    return measured


@pytest.fixture
def short(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Runs the command with short measurements, in ``tmp_path``."""

    def run(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-c", SHORT, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=60, check=False)
        assert b"Traceback" not in done.stderr
        assert done.returncode == code, done.stderr.decode()
        return done

    return run


@pytest.mark.parametrize(
    ("int8", "ships", "reason"),
    [
        ((2.0, 1.5), "model.int8.onnx", "it is faster than {fp32} at batch 1 and in a folder"),
        ((2.0, 1.0), "model.int8.onnx", "it is faster than {fp32} at batch 1, and not slower in a folder"),
        ((1.0, 1.5), "model.int8.onnx", "it is faster than {fp32} in a folder, and not slower at batch 1"),
        ((2.0, 0.8), "model.onnx", "no other is faster both at batch 1 and in a folder"),
        ((1.0, 1.0), "model.onnx", "no other is faster by more than the spread"),
        ((1.03, 1.03), "model.onnx", "no other is faster by more than the spread"),
        ((0.7, 0.7), "model.onnx", "no other is faster by more than the spread"),
    ],
)
def test_int8_ships_if_it_is_faster_and_nowhere_slower(
    make: Make, speeds: Callable[..., None], int8: tuple[float, float], ships: str, reason: str
) -> None:
    fp32, other = make("model.onnx"), make("model.int8.onnx", 3)
    speeds(int8, (1, 1))
    found = judge([other, fp32])
    assert found.ship is not None
    assert Path(found.ship).name == ships
    assert reason.format(fp32=fp32) in found.reason
    [comparison] = found.comparisons
    assert (Path(comparison.file).name, Path(comparison.against).name) == ("model.int8.onnx", "model.onnx")
    assert comparison.batch_1.median == pytest.approx(int8[0], rel=0.02)
    assert comparison.folder.low < comparison.folder.median < comparison.folder.high
    assert [file.accuracy for file in found.files] == [0.9, 0.91]
    assert found.files[0].batch_1_ms is not None
    assert found.files[0].batch_1_ms.median == pytest.approx(1 / int8[0], rel=0.02)


@pytest.mark.parametrize(
    ("fast", "obstacle"),
    [({"wrong": True}, "it gives something else on this machine"), ({"good_enough": False}, "it loses 3 points")],
)
def test_a_file_that_is_not_what_was_exported_never_ships(
    make: Make, speeds: Callable[..., None], fast: dict[str, bool], obstacle: str
) -> None:
    files = [make("model.onnx"), make("model.int8.onnx", 3, **fast)]
    speeds((1, 1), (10, 10))
    found = judge(files)
    assert found.ship == str(files[0])
    assert found.reason == "it is the only file that can be shipped on this machine"
    assert found.files[0].obstacle is None
    assert obstacle in str(found.files[1].obstacle)


def test_of_three_files_each_faster_one_must_earn_its_place(make: Make, speeds: Callable[..., None]) -> None:
    files = [make("a.onnx", 9), make("b.onnx", 2), make("model.onnx")]
    speeds((2.01, 2.0), (2, 2), (1, 1))
    found = judge(files)
    assert found.ship == str(files[1]), "of two equally fast files the more exact one ships"
    assert [(Path(pair.file).name, Path(pair.against).name) for pair in found.comparisons] == [
        ("b.onnx", "model.onnx"),
        ("a.onnx", "b.onnx"),
    ]
    speeds((3, 3), (2, 2), (1, 1))
    assert judge(files).ship == str(files[0])


def test_files_that_nothing_can_be_replayed_on_have_no_certificate(make: Make, short: Run, tmp_path: Path) -> None:
    files = make("model.onnx", golden=False), make("model.int8.onnx", 3, golden=False)
    done = short("--judge", *files, "--certificate", tmp_path / "a.json", code=1)
    assert done.stdout.count(b"carries no golden pictures") == 2
    assert b"no certificate: the model carries no golden pictures" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "a.json").exists()


def test_without_a_file_that_can_be_shipped_the_code_is_1(make: Make, short: Run) -> None:
    done = short("--judge", make("model.onnx", wrong=True), make("model.int8.onnx", 3, wrong=True), code=1)
    assert done.stdout.count(b"differs in graph (golden picture 0); not shipped: it gives something else") == 2
    assert b"rounds" not in done.stdout
    assert done.stderr.decode().splitlines()[-1] == "cnn-infer: none of the files can be shipped on this machine"


def test_the_command_on_pictures_inside_the_model_and_on_named_ones(
    make: Make, short: Run, tmp_path: Path, picture: Callable[..., Path]
) -> None:
    make("model.onnx"), make("model.int8.onnx", 3)
    files = ("model.onnx", "model.int8.onnx")
    text = short("--judge", *files).stdout.decode()
    lines = text.splitlines()
    assert lines[1].split()[:3] == ["model.onnx", "fp32", "91.00%"]
    assert lines[2].split()[:3] == ["model.int8.onnx", "int8", "90.00%"]
    assert "model.int8.onnx against model.onnx:" in lines
    assert "3 pictures: golden pictures, as PNG" in lines
    assert lines[-1].startswith("ship model.")
    for name in ("a", "b"):
        picture(tmp_path / "in" / f"{name}.png", "white", (40, 30))
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    done = short("--judge", *files, "in", "--format", "jsonl", "--certificate", "box.json")
    found = json.loads(done.stdout)
    assert (found["pictures"], found["source"]) == (2, "named pictures")
    assert found["ship"] in files
    assert found["rounds"] >= 9
    assert found["files"][0]["folder_per_second"]["p10"] > 0
    certificate = json.loads((tmp_path / "box.json").read_text())
    assert certificate["judgement"] == found
    assert certificate["model"]["name"] == found["ship"]


@pytest.mark.parametrize("int8", [False, True])
def test_the_certificate_of_a_judgement_has_no_folders(
    make: Make, speeds: Callable[..., None], tmp_path: Path, int8: bool
) -> None:
    folder = tmp_path / "private"
    folder.mkdir()
    files = [str(make(f"private/{name}", flips)) for name, flips in (("model.onnx", None), ("model.int8.onnx", 3))]
    speeds((1, 1), (2, 2) if int8 else (1, 1))
    certificate = tmp_path / "box.json"
    judge_models(files, [], "cpu", "jsonl", certificate)
    text = certificate.read_text()
    assert str(tmp_path) not in text
    assert "private" not in text
    found = json.loads(text)["judgement"]
    assert found["ship"] == ("model.int8.onnx" if int8 else "model.onnx")
    assert [file["file"] for file in found["files"]] == ["model.onnx", "model.int8.onnx"]
    assert [(pair["file"], pair["against"]) for pair in found["comparisons"]] == [("model.int8.onnx", "model.onnx")]
    assert ("it is faster than model.onnx at batch 1" in found["reason"]) == int8


def test_files_that_do_not_belong_together_are_refused(make: Make, models: Path) -> None:
    first = make("model.onnx")
    (copy := first.with_name("copy.onnx")).write_bytes(first.read_bytes())
    refusals: dict[str, Path] = {
        "are the same file: name each file once": copy,
        "their classes are not the same": models / "rgb.onnx",
        "their data set is not the same": make("data.onnx", 3, data={"fingerprints": {"test": "0"}}),
        "their training is not the same": make("training.onnx", metrics={"test": {"accuracy": 0.8}}),
    }
    for message, other in refusals.items():
        with pytest.raises(InputError, match=message):
            judge([first, other])
    with pytest.raises(InputError, match="nothing to compare: name at least two files of one export"):
        judge([first])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--judge"], "--judge compares the files of one export: name them, model.onnx and model.int8.onnx"),
        (["--judge", "in"], "--judge compares the files of one export"),
        (["--judge", "model.onnx"], "nothing to compare: name at least two files of one export"),
        (["--judge", "model.onnx", "absent.onnx"], "cannot read the model: absent.onnx"),
        (["--judge", "model.onnx", "foreign.onnx"], "an ONNX model, but not one that cnn-export wrote"),
        (["--judge", "model.onnx", "text.onnx"], "not an ONNX model, or damaged: text.onnx"),
        (["--judge", "model.onnx", "model.int8.onnx", "absent"], "no such file or folder: absent"),
        (["--judge", "model.onnx", "model.int8.onnx", "in"], "none of the pictures can be read"),
        (["--judge", "model.onnx", "model.int8.onnx", "--model", "model.onnx"], "no effect with --judge: --model"),
        (["--judge", "a.onnx", "b.onnx", "--verify", "--top", "2"], "no effect with --judge: --top, --verify"),
        (["--judge", "a.onnx", "b.onnx", "--format", "csv"], "--judge takes --format table or jsonl, not csv"),
        (["--judge", "model.onnx", "model.int8.onnx", "--device", "qnn"], "has no QNNExecutionProvider"),
        (["--judge", "a.onnx", "b.onnx", "--certificate", "a.onnx"], "has the name of a picture or a model"),
    ],
)
def test_mistakes_are_one_line(
    make: Make, models: Path, tmp_path: Path, refused: Callable[..., str], arguments: list[str], message: str
) -> None:
    make("model.onnx"), make("model.int8.onnx", 3)
    (tmp_path / "foreign.onnx").write_bytes((models / "foreign.onnx").read_bytes())
    (tmp_path / "text.onnx").write_text("no model")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    assert message in refused(*arguments)


def test_ctrl_c_is_clean(make: Make, tmp_path: Path, environment: dict[str, str]) -> None:
    make("model.onnx"), make("model.int8.onnx", 3)
    script = (
        "from cnn_infer import console; progress = console.progress\n"
        "def told(*given, **more):\n"
        "    print('timing', flush=True)\n"
        "    return progress(*given, **more)\n"
        "console.progress = told; from cnn_infer.__main__ import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "--judge", "model.onnx", "model.int8.onnx", "--certificate", "box.json"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"timing\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert not output
    assert errors.decode().strip() == "cnn-infer: interrupted"
    assert not (tmp_path / "box.json").exists()


def test_the_interval_of_the_median_covers_it_in_95_percent_of_cases() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(2000):
        others = random.lognormal(np.log(1.3), 0.2, 15)
        found = speedup_of(np.ones(15), others)
        covered += found.low <= 1.3 <= found.high
    assert 0.94 < covered / 2000 < 0.98  # the exact probability is 0.965


@pytest.mark.parametrize(
    ("ratios", "answer"),
    [
        ([1.2] * 20, "faster"),
        ([1.04] * 20, "equal"),
        ([0.9] * 20, "slower"),
        ([0.97] * 20, "equal"),
        ([1.5] * 14 + [0.9] * 6, "equal"),
    ],
)
def test_a_difference_counts_beyond_its_spread_and_from_5_percent_on(ratios: list[float], answer: str) -> None:
    assert speedup_of(np.ones(20), np.array(ratios)).answer == answer


def test_the_measurement_times_every_file_in_every_round(
    make: Make, monkeypatch: pytest.MonkeyPatch, picture: Callable[..., Path], tmp_path: Path
) -> None:
    monkeypatch.setattr(side_by_side, "SECONDS", 0.0)
    monkeypatch.setattr(side_by_side, "BLOCK_SECONDS", (0.001, 0.001))
    classifiers = [Classifier(make("model.onnx")), Classifier(make("model.int8.onnx", 3))]
    calls: list[Any] = []
    for place, classifier in enumerate(classifiers):
        real = classifier.answers

        def watched(work: Any, place: int = place, real: Any = real, **given: int) -> Any:
            calls.append((place, len(work), given))
            return real(work, **given)

        monkeypatch.setattr(classifier, "answers", watched)
    frame = classifiers[0].pixels(picture(tmp_path / "a.png", "white"))
    times = side_by_side.measure(classifiers, frame[None], [str(tmp_path / "a.png")])
    assert times.batch_1.shape == times.folder.shape == (9, 2)
    assert (times.batch_1 > 0).all()
    assert (times.folder > 0).all()
    order = [place for place, _, _ in calls]
    assert order == [0, 1] + [0, 1, 1, 0] * 4 + [0, 1]
    assert {count for _, count, _ in calls[2:]} == {calls[2][1]}, "every file gets the same work"
    assert {tuple(given.values()) for _, _, given in calls} == {(times.batch_size, times.threads)}
