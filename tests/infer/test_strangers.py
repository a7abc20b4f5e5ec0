"""Strangers: the model's rule marks them if it is asked for, in predictions, rows and reports; nothing else changes.

The strangeness that optional.onnx computes is the largest distance of a sample from grey 128, in 64ths.
"""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, evaluate
from cnn_infer.evaluation import Evaluation
from cnn_infer.strangers import rule_of

RULE: dict[str, Any] = {
    "threshold": 1.25,
    "rate": 0.01,
    "test_pictures": 400,
    "false_alarms": 3,
    "interval": [0.0015, 0.0218],
}
RED, GREY, WHITE = (200, 120, 120), (130, 130, 130), (255, 255, 255)
"""Strangeness 72 / 64, 2 / 64 and 127 / 64."""


@pytest.fixture
def make(models: Path, with_metadata: Callable[[str, str, str], bytes]) -> Callable[..., bytes]:
    """The bytes of the model optional.onnx with a rule for strangers; with ``None`` without one."""

    def model(rule: dict[str, Any] | None) -> bytes:
        spec = json.loads(Classifier(models / "optional.onnx").spec.to_json())
        spec["details"] = {**spec["details"], "strangers": rule}
        return with_metadata("optional.onnx", "cnn.spec", json.dumps(spec))

    return model


@pytest.fixture
def folder(tmp_path: Path, make: Callable[..., bytes], picture: Callable[..., Path]) -> Path:
    """A model, and three pictures in class folders: red, grey, and white, which is a stranger."""
    (tmp_path / "model.onnx").write_bytes(make(RULE))
    for name, place, colour in (("a", "red", RED), ("b", "grey", GREY), ("c", "grey", WHITE)):
        picture(tmp_path / "in" / place / f"{name}.png", colour)
    return tmp_path


def test_a_stranger_is_marked_only_if_it_is_asked_for(folder: Path) -> None:
    white = folder / "in" / "grey" / "c.png"
    plain, asked = Classifier(folder / "model.onnx"), Classifier(folder / "model.onnx", strangers=True)
    assert (plain.stranger_rule, plain.predict(white).strangeness, plain.predict(white).label) == (None, None, "grey")
    found = asked.predict(white)
    assert (found.label, found.index, found.strangeness) == ("stranger", None, pytest.approx(127 / 64))
    assert (found.probability, found.top) == (plain.predict(white).probability, plain.predict(white).top)
    (red,) = asked.predict_many([folder / "in" / "red" / "a.png"])
    assert (red.label, red.strangeness) == ("red", pytest.approx(72 / 64))
    reopened = Classifier(plain.model, strangers=True)  # an open model without the output gets it
    assert reopened.predict(white) == found


def test_pixels_of_a_camera_have_strangers_too(folder: Path) -> None:
    white, red = (folder / "in" / name for name in ("grey/c.png", "red/a.png"))
    plain, asked = Classifier(folder / "model.onnx"), Classifier(folder / "model.onnx", strangers=True)
    batch = np.stack([asked.pixels(path) for path in (white, red)])
    probabilities, strangeness = asked.probabilities_and_strangeness(batch)
    assert (strangeness.dtype, strangeness.shape) == (np.float32, (2,))
    np.testing.assert_array_equal(probabilities, asked.probabilities(batch))
    found = [asked.to_prediction(*row) for row in zip(probabilities, strangeness, strict=True)]
    assert found == [asked.predict(white), asked.predict(red)]
    assert [prediction.label for prediction in found] == ["stranger", "red"]
    with pytest.raises(InputError, match="to tell strangers, pass strangeness too: probabilities_and_strangeness"):
        asked.to_prediction(probabilities[0])
    for call in (
        lambda: plain.to_prediction(probabilities[0], 1.0),
        lambda: plain.probabilities_and_strangeness(batch),
    ):
        with pytest.raises(InputError, match="not asked for strangers: create it with Classifier"):
            call()
    assert plain.to_prediction(probabilities[0]) == plain.predict(white)


def test_a_stranger_is_a_stranger_also_below_the_threshold(folder: Path) -> None:
    asked = Classifier(folder / "model.onnx", strangers=True, threshold=1.0)
    assert asked.predict(folder / "in" / "grey" / "c.png").label == "stranger"
    assert asked.predict(folder / "in" / "red" / "a.png").label == "unknown"


def test_a_picture_at_the_threshold_is_none(folder: Path, make: Callable[..., bytes]) -> None:
    white = folder / "in" / "grey" / "c.png"
    at = Classifier(make({**RULE, "threshold": 127 / 64}), strangers=True)
    below = Classifier(make({**RULE, "threshold": 127 / 64 - 1e-6}), strangers=True)
    assert (at.predict(white).label, below.predict(white).label) == ("grey", "stranger")


def test_the_report_counts_strangers_as_not_answered(folder: Path) -> None:
    report = evaluate(Classifier(folder / "model.onnx", strangers=True), [folder / "in"])
    assert report.strangers == {"images": 1, "share": 1 / 3, "threshold": 1.25, "rate": 0.01}
    assert (report.accuracy, report.coverage, report.per_class["grey"]["unknown"]) == (2 / 3, 2 / 3, 1)
    assert evaluate(Classifier(folder / "model.onnx"), [folder / "in"]).strangers is None


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
def test_rows_have_the_strangeness_if_it_is_asked_for(
    folder: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]], form: str
) -> None:
    arguments = ("--model", "model.onnx", "in", "--format", form)
    plain, marked = cli(*arguments), cli(*arguments, "--strangers")
    before, after = (done.stdout.decode().splitlines() for done in (plain, marked))
    assert "stranger" not in "".join(before)
    assert "1 stranger, nothing like the training pictures: 33.33% of the pictures" in marked.stderr.decode()
    if form == "table":
        assert [line.split()[0] for line in after] == ["label", "grey", "stranger", "red"]
        assert ["%" in line for line in after] == [False, True, False, True]
        return
    rows = [json.loads(line) for line in after] if form == "jsonl" else list(csv.DictReader(after))
    assert [row["label"] for row in rows] == ["grey", "stranger", "red"]
    assert [float(row["strangeness"]) for row in rows] == [0.0312, 1.9844, 1.125]
    assert list(rows[0])[-2:] == ["error", "strangeness"]
    kept = [json.loads(line) for line in before] if form == "jsonl" else list(csv.DictReader(before))
    for row in rows:  # the other fields are those of a run without the option
        del row["strangeness"]
    assert (rows[0], rows[2]) == (kept[0], kept[2])


def test_a_resumed_run_counts_the_strangers_before_it(
    folder: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]], refused: Callable[..., str]
) -> None:
    command = ("--model", "model.onnx", "in", "--format", "csv", "--output", "rows.csv", "--strangers")
    cli(*command, "--report", "whole.json")
    whole = (folder / "rows.csv").read_bytes()
    classifier = Classifier(folder / "model.onnx", strangers=True)
    first = Evaluation(classifier)
    rows = first.rows([folder / "in"])
    next(rows), next(rows)  # a grey one and the stranger
    second = Evaluation(classifier, counted=json.loads(json.dumps(first.counted())))
    list(second.rows([folder / "in"], skip=2))
    report = json.loads((folder / "whole.json").read_text())
    assert second.report().strangers == report["strangers"] == {**report["strangers"], "images": 1}
    assert b",strangeness\n" in whole.splitlines(keepends=True)[0]


def test_a_model_without_the_output_or_the_rule_is_refused(
    folder: Path, make: Callable[..., bytes], models: Path, refused: Callable[..., str]
) -> None:
    line = refused("--model", str(models / "rgb.onnx"), "in", "--strangers")
    assert "the model has no output strangeness: cnn-export --strangers adds it" in line
    for damaged in (None, {**RULE, "threshold": "high"}, {**RULE, "interval": [0.1]}, {**RULE, "rate": float("nan")}):
        assert rule_of({"strangers": damaged}) is None
    with pytest.raises(
        InputError, match="the model has no threshold for strangers: export it again with cnn-export --strangers"
    ):
        Classifier(make(None), strangers=True)
    assert "no effect with --info: --strangers" in refused("--model", "model.onnx", "--info", "--strangers")


def test_info_says_the_rule(folder: Path, cli: Callable[..., subprocess.CompletedProcess[bytes]]) -> None:
    text = cli("--model", "model.onnx", "--info").stdout.decode()
    assert "strangers   strangeness above 1.25: at most 1.0% of the pictures like those of training" in text
    assert "3 of 400 test pictures (0.15% to 2.18% with 95% confidence); cnn-infer --strangers" in text
