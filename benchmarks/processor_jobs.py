"""What benchmarks/processors.py runs: exported models, their test pictures, and the predicted outputs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SEED = 0
"""Random seed of the drawn pictures."""


@dataclass(frozen=True)
class Job:
    """A model file and the pictures that it classifies.

    Attributes:
        folder: Holds the model, the pictures as an array, the pictures as files, and the results.
        run: Name of the run, without the target.
        target: The option --for of its export.
        floats: Names of the layers that are kept in fp32.
        labels: Class index of each picture.
        tensors: Names of the int8 tensors between the layers.
    """

    folder: Path
    run: str
    target: str
    floats: list[str]
    labels: np.ndarray
    tensors: list[str]

    def result(self, name: str) -> dict[str, np.ndarray]:
        """The arrays that run_emulated.py wrote on a processor."""
        with np.load(self.folder / f"{name}.npz") as arrays:
            return dict(arrays)

    def predicted(self, sums: str) -> np.ndarray:
        """The predicted logits with ``exact`` or ``saturating`` sums, float32 (n, classes)."""
        logits: np.ndarray = np.load(self.folder / f"predicted-{sums}.npy")
        return logits


def with_taps(content: bytes) -> tuple[bytes, list[str]]:
    """A model whose outputs include its int8 tensors, and their names in the order of the graph."""
    import onnx

    model = onnx.load_from_string(content)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            kind = constants[node.input[2]].data_type
            model.graph.output.append(onnx.helper.make_tensor_value_info(node.output[0], kind, None))
            names.append(node.output[0])
    return model.SerializeToString(), names


def make_job(run: Path, pictures: int, files: int, folder: Path) -> Job:
    """Draw the pictures of an exported run and write them with its int8 model into ``folder``."""
    from cnn_export.run_data import open_run_source, read_test_split
    from cnn_train import Run
    from PIL import Image

    opened = Run.open(run)
    source = open_run_source(opened, None)
    split = read_test_split(opened, source)
    count = min(pictures, len(split.labels))
    chosen = np.sort(np.random.default_rng(SEED).choice(len(split.labels), count, replace=False))
    folder.mkdir(parents=True)
    np.save(folder / "pictures.npy", split.images[chosen])
    int8 = json.loads((run / "export.json").read_text(encoding="utf-8"))["int8"]
    content = (run / int8["file"]).read_bytes()
    (folder / "model.onnx").write_bytes(content)
    taps, tensors = with_taps(content)
    (folder / "taps.onnx").write_bytes(taps)
    (folder / "files").mkdir()
    for number in chosen[np.linspace(0, count - 1, min(files, count)).astype(int)].tolist():
        picture = source.splits["test"].pictures[number]
        if isinstance(picture, str):
            shutil.copy(picture, folder / "files" / f"{number:05}{Path(picture).suffix}")
        else:
            Image.fromarray(split.images[number].squeeze()).save(folder / "files" / f"{number:05}.png")
    name = run.resolve().name.removesuffix(f"-{int8['target']}")
    return Job(folder, name, int8["target"], int8["floats"], np.asarray(split.labels)[chosen], tensors)


def predict(job: Job) -> None:
    """Compute a job in integers, with exact and with saturating sums, and store the logits beside it."""
    import onnx
    from cnn_export.int8.reference import Reference

    model, pictures = onnx.load(job.folder / "model.onnx"), np.load(job.folder / "pictures.npy")
    for name, saturates in (("exact", False), ("saturating", True)):
        outputs = Reference(model, saturates=saturates).run(pictures)
        np.save(job.folder / f"predicted-{name}.npy", outputs.logits)
