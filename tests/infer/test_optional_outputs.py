"""Optional outputs: computed if asked for, and else not even part of the graph that ONNX Runtime gets."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier, InputError, ModelError, open_model
from cnn_infer.optional_outputs import OPTIONAL_OUTPUTS, select_outputs

PICTURES = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)


def outputs_of(model: object) -> list[str]:
    return [output.name for output in model.session.get_outputs()]  # type: ignore[attr-defined]


def test_a_model_opens_without_its_optional_outputs(models: Path) -> None:
    model = open_model(models / "optional.onnx")
    assert (model.outputs, model.available) == ((), tuple(OPTIONAL_OUTPUTS))
    assert outputs_of(model) == ["logits", "probabilities"]
    assert model.bytes == (models / "optional.onnx").stat().st_size
    plain = open_model(models / "rgb.onnx")
    assert (plain.outputs, plain.available) == ((), ())
    found, wanted = (Classifier(opened).probabilities(PICTURES) for opened in (model, plain))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("wanted", [["evidence"], ["strangeness"], ["strangeness", "evidence"]], ids=" ".join)
def test_an_optional_output_is_computed_if_asked_for(models: Path, wanted: list[str]) -> None:
    ordered = [name for name in OPTIONAL_OUTPUTS if name in wanted]
    asked = open_model(models / "optional.onnx", outputs=wanted)
    copies = [asked, open_model(models / "optional.onnx").with_outputs(wanted), pickle.loads(pickle.dumps(asked))]
    for model in copies:
        assert model.outputs == tuple(ordered)
        assert outputs_of(model) == ["logits", "probabilities", *ordered]
        logits, *found = model.session.run(["logits", *ordered], {"image": PICTURES})
        by_name = dict(zip(ordered, found, strict=True))
        if "evidence" in wanted:
            np.testing.assert_allclose(by_name["evidence"].sum((2, 3)) + np.array([0, 0, 0, 2]), logits, atol=1e-6)
        if "strangeness" in wanted:
            values = np.abs((PICTURES.astype(np.float32) - 128) / 64).max((1, 2, 3))
            np.testing.assert_array_equal(by_name["strangeness"], values)


def test_the_nodes_of_an_output_that_is_not_wanted_are_taken_out(models: Path) -> None:
    onnx = pytest.importorskip("onnx")
    data = (models / "optional.onnx").read_bytes()
    without, present = select_outputs(data, ())
    assert present == tuple(OPTIONAL_OUTPUTS)
    found = onnx.load_from_string(without)
    assert found.graph.SerializeToString() == onnx.load(models / "rgb.onnx").graph.SerializeToString()
    onnx.checker.check_model(found, full_check=True)
    assert select_outputs(data, tuple(OPTIONAL_OUTPUTS))[0] == data


@pytest.mark.parametrize(("size", "present"), [(10, tuple(OPTIONAL_OUTPUTS)), (11, ())])
def test_a_number_of_more_than_64_bits_is_damage(models: Path, size: int, present: tuple[str, ...]) -> None:
    """Without a limit, the time to read a number grows with the square of its length."""
    version = b"\x08" + b"\x80" * (size - 1) + b"\x00"
    data = version + (models / "optional.onnx").read_bytes()
    assert select_outputs(data, tuple(OPTIONAL_OUTPUTS)) == (data, present)


def test_an_output_that_the_model_lacks_is_refused_with_the_option_that_adds_it(models: Path) -> None:
    with pytest.raises(InputError, match="no output evidence: cnn-export --evidence adds it"):
        open_model(models / "rgb.onnx", outputs=["evidence"])
    with pytest.raises(InputError, match="no output strangeness: cnn-export --strangers adds it"):
        open_model(models / "rgb.onnx").with_outputs(["strangeness"])
    with pytest.raises(InputError, match="unknown output 'features'"):
        open_model(models / "optional.onnx", outputs=["features"])


@pytest.mark.parametrize("entry", [None, {}, {"cells": 8}, {"cells": [8, 4]}, [8, 8]], ids=str)
def test_evidence_of_another_shape_than_the_specification_says_is_refused(
    models: Path, with_metadata: Callable[[str, str, str], bytes], entry: object
) -> None:
    document = json.loads(open_model(models / "optional.onnx").metadata["cnn.spec"])
    document["details"]["evidence"] = entry
    changed = with_metadata("optional.onnx", "cnn.spec", json.dumps(document))
    open_model(changed)
    with pytest.raises(ModelError, match="does not keep its own contract"):
        open_model(changed, outputs=["evidence"])


def test_a_truncated_model_with_optional_outputs_is_refused_wherever_it_ends(models: Path) -> None:
    whole = (models / "optional.onnx").read_bytes()
    for length in range(0, len(whole), 53):
        with pytest.raises(ModelError):
            open_model(whole[:length])
