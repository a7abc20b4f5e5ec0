"""The histogram of top probabilities on validation, inside the exported file."""

import json
import logging

import numpy as np
import pytest
from cnn_export import export
from cnn_infer import Classifier
from cnn_infer.drift import histogram_of, validation_of
from cnn_train import Run, open_source
from cnn_train.replay import read_split


def test_it_is_that_of_the_file_itself_on_the_validation_pictures(run: Run) -> None:
    export(run)
    classifier = Classifier(run.path / "model.onnx")
    location = run.spec.details["data"]["location"]
    pictures = read_split(open_source(location, seed=run.config.seed), "val", run.spec)[0].images
    found = validation_of(classifier.spec.details)
    assert found is not None
    wanted = histogram_of(np.concatenate([classifier.probabilities(part[None]) for part in pictures]).max(axis=1))
    assert found.images == len(pictures)
    assert (found.edges, found.counts) == (wanted.edges, wanted.counts)


def test_without_the_validation_pictures_there_is_a_warning_and_no_histogram(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Only the int8 search needs them."""
    path = run.path / "spec.json"
    spec = json.loads(path.read_text())
    spec["details"]["data"]["fingerprints"]["val"] = "of other pictures"
    path.write_text(json.dumps(spec))
    with caplog.at_level(logging.WARNING):
        export(run.path)
    assert validation_of(Classifier(run.path / "model.onnx").spec.details) is None
    assert "the validation pictures in" in caplog.text
    assert "are not those of the run: the model gets no histogram" in caplog.text
