"""benchmarks/batches.py gives every picture its outputs, in order, wherever a batch ends."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("beside", [-1, 0, 1, 130], ids=["below", "full", "above", "three batches"])
def test_every_picture_has_its_probabilities(beside: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    batches = import_module("batches")
    classifier = Classifier(ROOT / "tests" / "infer" / "models" / "rgb.onnx", device="cpu")
    shape = (batches.BATCH + beside, *classifier.spec.shape)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = batches.probabilities_of(classifier, pictures)
    assert found.shape == (len(pictures), len(classifier.spec.classes))
    alone = np.concatenate([classifier.probabilities(picture[None]) for picture in pictures])
    np.testing.assert_allclose(found, alone, atol=1e-6)
