"""The certified threshold: which models have one, what it refuses, and whether the promise held."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cnn_infer import Classifier, InputError, evaluate
from cnn_infer.guarantee import guarantee_of

GUARANTEE: dict[str, Any] = {
    "threshold": 0.5,
    "max_error": 0.2,
    "confidence": 0.95,
    "error_bound": 0.19,
    "coverage": 0.931,
    "images": 1000,
    "answered": 931,
    "wrong": 150,
}
SENTENCE = (
    "at most 20.0% wrong among answered pictures with 95% confidence; answers 93.1% of pictures like the test split"
)
RED, GREY = (140, 70, 60), (128, 128, 128)


def probability(classifier: Classifier, folder: Path) -> float:
    return classifier.predict(folder / "red" / "0.png").probability


@pytest.fixture
def make(rgb: Classifier, with_metadata: Callable[[str, str, str], bytes]) -> Callable[..., bytes]:
    """The bytes of the model rgb.onnx with a guarantee."""

    def model(**changed: object) -> bytes:
        spec = json.loads(rgb.spec.to_json())
        spec["details"] = {**spec["details"], "guarantee": {**GUARANTEE, **changed}}
        return with_metadata("rgb.onnx", "cnn.spec", json.dumps(spec))

    return model


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """40 red pictures in the folder of their class, and 10 grey ones in it, which the model calls grey."""
    for number in range(50):
        picture(tmp_path / "in" / "red" / f"{number}.png", RED if number < 40 else GREY)
    return tmp_path / "in"


def test_the_stored_threshold_is_used(make: Callable[..., bytes], folder: Path) -> None:
    certain = probability(Classifier(make()), folder)
    above, at = (Classifier(make(threshold=value), threshold="certified") for value in (certain + 1e-6, certain))
    assert above.predict(folder / "red" / "0.png").label == "unknown"
    assert at.predict(folder / "red" / "0.png").label == "red"
    assert Classifier(make(threshold=1)).predict(folder / "red" / "0.png").label == "red"  # only when it is asked for
    assert at.guarantee is not None
    assert at.guarantee.text == SENTENCE


@pytest.mark.parametrize(
    "changed",
    [
        {"threshold": None},
        {"threshold": 1.5},
        {"threshold": "0.5"},
        {"confidence": float("nan")},
        {"wrong": 932},
        {"images": 930.0},
        {"error_bound": 0.21},
    ],
)
def test_a_damaged_guarantee_counts_as_missing(changed: dict[str, object]) -> None:
    assert guarantee_of({"guarantee": {**GUARANTEE, **changed}}) is None
    assert guarantee_of({"guarantee": GUARANTEE}) is not None
    assert guarantee_of({"guarantee": [1]}) is None


@pytest.mark.parametrize(
    ("max_error", "count", "verdict"),
    [(0.4, 50, "held"), (0.05, 50, "broken"), (0.21, 50, "too few pictures to tell")],
)
def test_the_report_says_whether_the_promise_held(
    make: Callable[..., bytes], folder: Path, max_error: float, count: int, verdict: str
) -> None:
    model = make(max_error=max_error, error_bound=max_error, threshold=0)
    found = evaluate(Classifier(model, threshold="certified"), [folder]).guarantee
    assert found is not None
    assert (found["labelled"], found["wrong"], found["error"], found["coverage"]) == (count, 10, 0.2, 1)
    # Clopper and Pearson's interval for 10 of 50, as in R: binom.test(10, 50)
    assert found["interval"] == pytest.approx([0.1003022, 0.3371831], abs=1e-6)
    assert found["verdict"] == verdict


def test_the_promise_without_labels_and_with_unanswered_pictures(make: Callable[..., bytes], folder: Path) -> None:
    grey = Classifier(make()).predict(folder / "red" / "45.png").probability
    certain = probability(Classifier(make()), folder)
    assert grey != certain
    classifier = Classifier(make(threshold=max(grey, certain)), threshold="certified")
    answered = 40 if certain > grey else 10
    found = evaluate(classifier, [folder], labels=False).guarantee
    assert found is not None
    assert found["coverage"] == answered / 50
    assert [found[name] for name in ("wrong", "error", "interval", "verdict")] == [None] * 4
    labelled = evaluate(classifier, [folder])
    assert labelled.guarantee is not None
    assert labelled.guarantee["labelled"] == answered  # unanswered pictures are no wrong answers
    assert evaluate(Classifier(make()), [folder]).guarantee is None


def test_the_command(
    make: Callable[..., bytes],
    models: Path,
    folder: Path,
    tmp_path: Path,
    cli: Callable[..., subprocess.CompletedProcess[bytes]],
    refused: Callable[..., str],
) -> None:
    (tmp_path / "model.onnx").write_bytes(make(threshold=0))
    done = cli("in", "--model", "model.onnx", "--threshold", "certified", "--report", "report.json")
    text = done.stderr.decode()
    assert f"promised: {SENTENCE}" in text
    assert "too few pictures to tell: 100.0% of these pictures answered; 10 of 50 answers with a label wrong, " in text
    assert "calibration error (ECE) " in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["guarantee"]["promise"] == {**GUARANTEE, "threshold": 0, "text": SENTENCE}
    assert SENTENCE in cli("--info", "--model", "model.onnx").stdout.decode()
    message = refused("in", "--model", models / "rgb.onnx", "--threshold", "certified")
    assert message.endswith(
        "has no certified threshold: export it with cnn-export --max-error 1%, or pass a number as the threshold"
    )
    message = refused("in", "--model", "model.onnx", "--threshold", "certifed")
    assert "'certifed' is neither a number from 0 to 1 nor certified" in message


def test_thresholds_that_are_no_probability_are_refused(models: Path) -> None:
    for wrong in (1.5, -0.1, float("nan"), "certain"):
        with pytest.raises(InputError, match="must be a probability from 0 to 1, or certified, not "):
            Classifier(models / "rgb.onnx", threshold=wrong)  # type: ignore[arg-type]
