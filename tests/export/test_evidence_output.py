"""cnn-export --evidence: both files explain their answers, and are proven to; a network that cannot is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from cnn_export import Export, GraphError, ParityError, evidence, export, export_lines, export_network
from cnn_export.graph.evidence import Head
from cnn_infer import Classifier
from cnn_infer.optional_outputs import select_outputs
from cnn_train import Run
from onnx import ModelProto
from torch import nn


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    folder = shutil.copytree(trained, tmp_path_factory.mktemp("evident") / "run")
    return export(folder, quantize=True, search_seconds=0, max_drop=100, evidence=True)


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_both_files_explain_pictures(exported: Export, photos: Path, file: str) -> None:
    classifier = Classifier(exported.folder / file, device="cpu")
    for path in sorted(photos.glob("*/*.jpg"))[::20]:
        found = classifier.explain(path)
        assert found.prediction == classifier.predict(path)
        assert found.winner.name == path.parent.name
        assert found.winner.evidence.shape == (4, 4)
        for part in (found.winner, found.runner_up):
            assert part.evidence.sum() + part.bias == pytest.approx(part.logit, abs=1e-5)
    assert (found.receptive_field.size, found.receptive_field.step) == ((23, 23), (4, 4))
    assert found.receptive_field.centre(0, 0) == (2.5, 2.5)
    proof = classifier.spec.details["parity"]["evidence"]
    assert proof["images"] == classifier.spec.details["parity"]["images"]
    assert 0 <= proof["largest_error"] < 1e-5 < proof["tolerance"]


@pytest.mark.parametrize("file", ["model.onnx", "model.int8.onnx"])
def test_a_plain_session_has_the_output_and_it_can_be_taken_out(exported: Export, file: str) -> None:
    data = (exported.folder / file).read_bytes()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    last = session.get_outputs()[-1]
    assert (len(session.get_outputs()), last.name, last.shape) == (3, "evidence", ["batch", 3, 4, 4])
    pixels = np.random.default_rng(1).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    without, found = select_outputs(data, ())
    assert found == ("evidence",)
    graph = onnx.load_from_string(without).graph
    names = {part.name for part in (*graph.node, *graph.initializer)}
    assert not [name for name in names if name.startswith("evidence")]
    plain = onnxruntime.InferenceSession(without, providers=["CPUExecutionProvider"])
    for mine, theirs in zip(plain.run(None, {"image": pixels}), session.run(None, {"image": pixels})[:2], strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_proofs_are_in_the_report_and_the_summary(exported: Export) -> None:
    report = json.loads((exported.folder / "export.json").read_text())
    assert list(report["evidence"]) == ["fp32", "int8"]
    assert report["evidence"]["fp32"]["cells"] == [4, 4]
    lines = [
        line
        for line in export_lines(exported)
        if line.startswith("  evidence     4 x 4 cells (width x height), each sees 23 x 23")
    ]
    assert len(lines) == 2
    note = "a cell sees as much as the whole input: a drawing of its evidence says little about the place"
    assert report["notes"] == [note]
    assert f"note           {note}" in export_lines(exported)


def test_evidence_that_is_not_that_of_the_logits_is_not_exported(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    original = evidence.add_evidence

    def faulty(model: ModelProto, head: Head) -> ModelProto:
        result = original(model, head)
        result.graph.node[-1].input[1] = result.graph.node[-1].input[1].replace("kernel", "doubled")
        double = onnx.helper.make_node("Add", ["evidence/kernel", "evidence/kernel"], ["evidence/doubled"])
        result.graph.node.insert(len(result.graph.node) - 1, double)
        return result

    monkeypatch.setattr(evidence, "add_evidence", faulty)
    with pytest.raises(ParityError, match="evidence and bias differ from the logits by up to"):
        export(run, evidence=True)
    assert not (run.path / "model.onnx").exists()


def test_a_network_whose_logits_are_not_sums_over_cells_is_refused(photos: Path, tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    options: dict[str, Any] = {"data": photos, "size": 16, "mean": 0.5, "std": 0.5, "evidence": True}
    with pytest.raises(
        GraphError, match=r"evidence \(--evidence\) needs a network that ends in a global maximum or mean"
    ):
        export_network(network, tmp_path / "out", **options)


def test_covering_the_cells_named_most_lowers_the_logit_more_than_covering_others(exported: Export) -> None:
    """A patch of colour on grey decides: the cells with the most evidence must be where it is."""
    classifier = Classifier(exported.ship, device="cpu")
    random = np.random.default_rng(0)
    named, others = [], []
    for colour in ((200, 40, 30), (40, 180, 50), (30, 40, 200)) * 12:
        picture = np.full((16, 16, 3), classifier.spec.zero_point, np.uint8)
        top, left = random.integers(0, 10, 2)
        picture[top : top + 6, left : left + 6] = colour
        found = classifier.explain(picture)
        order = np.argsort(-found.winner.evidence, axis=None)
        falls = []
        for cells in (order[:3], *(random.permutation(16)[:3] for _ in range(5))):
            hidden = picture.copy()
            for cell in cells:
                down, right = (int(at) - 2 for at in found.receptive_field.centre(*divmod(int(cell), 4)))
                hidden[down : down + 4, right : right + 4] = classifier.spec.zero_point
            again = classifier.model.session.run(["logits"], {"image": hidden[None]})[0][0]
            falls.append(found.winner.logit - again[found.winner.index])
        named.append(falls[0])
        others.append(np.mean(falls[1:]))
    assert np.mean(named) > 1.5 * max(np.mean(others), 0.1)
    assert np.mean(np.array(named) > others) >= 0.6
