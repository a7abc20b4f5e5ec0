"""Classifier.explain: which cells speak for and against the two most probable classes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, ModelError, PictureError, ReceptiveField

PICTURE = np.zeros((8, 8, 3), np.uint8)
PICTURE[:4, :, 0] = 255  # red above
PICTURE[:, :3, 2] = 255  # blue on the left


@pytest.fixture(scope="module")
def explaining(models: Path) -> Classifier:
    return Classifier(models / "optional.onnx")


def test_the_evidence_and_the_bias_of_a_class_are_its_logit(explaining: Classifier) -> None:
    found = explaining.explain(PICTURE)
    assert found.prediction == explaining.predict(PICTURE)
    assert (found.winner.name, found.runner_up.name) == ("red", "grey")
    planes = (PICTURE.astype(np.float32) - 128) / 64 / 64
    np.testing.assert_allclose(found.winner.evidence, planes @ np.float32([4, -2, -2]), atol=1e-6)
    np.testing.assert_array_equal(found.runner_up.evidence, np.zeros((8, 8)))
    assert (found.winner.bias, found.runner_up.bias) == (0.0, 2.0)
    for part in (found.winner, found.runner_up):
        assert part.evidence.dtype == np.float32
        assert part.evidence.sum() + part.bias == pytest.approx(part.logit, abs=1e-5)
        assert explaining.spec.classes[part.index] == part.name


def test_the_winner_is_explained_also_if_the_label_is_unknown(models: Path) -> None:
    found = Classifier(models / "optional.onnx", threshold=0.99).explain(PICTURE)
    assert (found.prediction.label, found.winner.name) == ("unknown", "red")


def test_only_explain_computes_the_evidence(models: Path) -> None:
    classifier = Classifier(models / "optional.onnx")
    classifier.explain(PICTURE)
    assert [output.name for output in classifier.model.session.get_outputs()] == ["logits", "probabilities"]
    again = pickle.loads(pickle.dumps(classifier))
    np.testing.assert_array_equal(again.explain(PICTURE).winner.evidence, classifier.explain(PICTURE).winner.evidence)


def test_a_cell_says_which_pixels_it_sees(explaining: Classifier) -> None:
    assert explaining.explain(PICTURE).receptive_field.centre(2, 5) == (2.5, 5.5)
    assert ReceptiveField((-9, -5), (23, 15), (4, 2), whole_picture=False).centre(1, 2) == (6.5, 6.5)


def test_a_model_without_evidence_is_refused_with_the_option_that_adds_it(rgb: Classifier) -> None:
    with pytest.raises(InputError, match="cnn-export --evidence"):
        rgb.explain(PICTURE)


def test_a_picture_that_cannot_be_read_is_named(explaining: Classifier, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PictureError, match=r"broken\.png: "):
        explaining.explain(tmp_path / "broken.png")


@pytest.mark.parametrize(
    "change",
    [
        {"bias": [1.0]},
        {"bias": None},
        {"receptive_field": {}},
        {"receptive_field": {"start": [0, 0], "size": [1], "step": [1, 1]}},
        {"receptive_field": {"start": [0, 0], "size": [1, 1], "step": [0, 1]}},
        {"receptive_field": 3},
        {"cells": [8]},
        {"cells": [8, "8"]},
    ],
    ids=str,
)
def test_a_damaged_description_is_one_line(
    explaining: Classifier, with_metadata: Callable[[str, str, str], bytes], change: dict[str, object]
) -> None:
    document = json.loads(explaining.spec.to_json())
    document["details"]["evidence"].update(change)
    damaged = Classifier(with_metadata("optional.onnx", "cnn.spec", json.dumps(document)))
    with pytest.raises(ModelError, match=r"does not describe its evidence|does not keep its own contract") as found:
        damaged.explain(PICTURE)
    assert "\n" not in str(found.value)
