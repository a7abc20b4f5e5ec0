"""Which score tells pictures that are nothing like those of training from the test pictures?

    python benchmarks/strangers.py RUN=DATA... --photographs FOLDER... --output strangers.json

Each RUN is a folder that cnn-export wrote, DATA its data set as cnn-train takes it. The scores of fp32 and int8 are
computed from the tensors of each file:

- ``probability`` and ``logit``: the largest one, with the opposite sign (Hendrycks and Gimpel 2017, arXiv:1610.02136).
- ``energy``: minus the log of the sum of the exponentials of the logits (Liu et al. 2020, arXiv:2010.03759).
- ``mahalanobis``: squared distance to the nearest mean of a class, with one covariance that all classes share, shrunk
  as by Ledoit and Wolf (Lee et al. 2018, arXiv:1807.03888), of the input of the last layer.
- ``relative``: ``mahalanobis`` minus the distance to the mean of all classes (Ren et al. 2021, arXiv:2106.09022).
- ``neighbours N``: distance to the 10th nearest of N training pictures, of the input of the last layer, scaled to
  length 1 (Sun et al. 2022, arXiv:2204.06507).
- ``unit last``: ``mahalanobis`` of the input of the last layer, scaled to length 1 (Mueller and Hein 2025,
  arXiv:2505.18032). ``unit middle``: of the means over the cells of the map that the middle convolution reads, scaled
  likewise. ``first and middle``: of these and of those of the map that the second convolution reads, side by side; it
  is what ``cnn-export --strangers`` writes into the file.

The strangers: noise, pictures of one colour, scikit-learn's digits, photographs, and the test splits of the other RUNs'
data sets, all brought to the size and the colours of the model by cnn-infer. For each set: AUROC, the share that is
accepted where 95% of the test pictures are (FPR at 95% TPR), and the share that is caught at the threshold that 1% of
the validation pictures exceed; ``false_alarms`` is the share of the test pictures above that threshold. For each score
also its bytes in the file. ``file``: what the output costs in the file, measured in turn with the file without it, on
one thread: medians of the ratios of :data:`ROUNDS` rounds, and microseconds per picture.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from batches import in_batches, probabilities_of
from cnn_export.graph.features import maps_of
from cnn_export.run_data import open_run_source, read_dataset
from cnn_export.strangers import TRAINING_PICTURES, with_strangeness
from cnn_infer import Classifier, open_model
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES
from cnn_infer.optional_outputs import STRANGENESS
from cnn_train import Dataset, Run
from cnn_train.replay import read_split
from links import picture_files
from numpy.typing import NDArray
from onnx import TensorProto, helper
from report import conditions, parser, run_script, short, write
from sessions import one_thread_session
from sklearn.covariance import ledoit_wolf
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

BANKS = (512, 2048)
"""Numbers of training pictures for ``neighbours``."""

NEIGHBOUR = 10
RATE = 0.01
MOST = 2000
"""Largest number of pictures of a set of strangers."""

ROUNDS, PICTURES = 20, 128  # of the measurement of time

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tensors:
    """What a model computes for n pictures.

    Attributes:
        last: float64 (n, features), the input of the last layer.
        first: float64 (n, channels), the means over the cells of the map that the second convolution reads.
        middle: float64 (n, channels), those of the map that the middle convolution reads.
        logits: float64 (n, classes).
    """

    last: Array
    first: Array
    middle: Array
    logits: Array


def tensors_of(model: onnx.ModelProto, pictures: NDArray[np.uint8]) -> Tensors:
    """Compute the tensors of pictures, uint8 (n, height, width, channels)."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    [last] = [node.input[0] for node in model.graph.node if node.op_type == "Gemm"]
    names = [last, "first_mean", "middle_mean"]
    for (source, _), mean in zip(maps_of(model), names[1:], strict=True):
        extended.graph.node.append(helper.make_node("GlobalAveragePool", [source], [mean]))
    extended.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    session = one_thread_session(extended.SerializeToString())
    arrays = in_batches(lambda batch: session.run([*names, LOGITS], {INPUT: batch}), pictures)
    return Tensors(*(array.astype(np.float64).reshape(len(pictures), -1) for array in arrays))


Score = Callable[[Tensors], Array]


@dataclass(frozen=True)
class Scorer:
    """A score with its cost.

    Attributes:
        score: Returns a number per picture, larger for stranger ones.
        bytes: What it adds to the file, as float32.
    """

    score: Score
    bytes: int


def unit(values: Array) -> Array:
    """The features divided by their length."""
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def mahalanobis(features: Array, labels: NDArray[np.int64], classes: int, *, relative: bool) -> Any:
    """Fit the distance to the training features; return a function of features, and the size in bytes."""
    means = np.stack([features[labels == label].mean(axis=0) for label in range(classes)])
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(values)
    centres = means @ whiten
    middle = features.mean(axis=0)
    background, _ = ledoit_wolf(features - middle, assume_centered=True)
    values, vectors = np.linalg.eigh(background)
    whole = vectors / np.sqrt(values)

    def score(found: Array) -> Array:
        white = found @ whiten
        distances = np.stack([((white - centre) ** 2).sum(axis=1) for centre in centres], axis=1).min(axis=1)
        return distances - (((found - middle) @ whole) ** 2).sum(axis=1) if relative else distances

    size = whiten.size + centres.size + (whole.size + middle.size if relative else 0)
    return score, 4 * size


def neighbours(features: Array, size: int) -> Any:
    """The distance to the 10th nearest of the first ``size`` training features."""
    bank = unit(features[:size])

    def score(found: Array) -> Array:
        parts = [bank @ part.T for part in np.array_split(unit(found), max(1, len(found) // 500))]
        similar = np.concatenate([np.partition(part, -NEIGHBOUR, axis=0)[-NEIGHBOUR] for part in parts])
        return np.sqrt(np.maximum(0, 2 - 2 * similar))

    return score, 4 * bank.size


def scorers(train: Tensors, labels: NDArray[np.int64], classes: int) -> dict[str, Scorer]:
    """All scores, fitted to the training pictures."""
    found: dict[str, Scorer] = {
        "probability": Scorer(lambda one: -np.exp(one.logits - log_sum(one.logits)[:, None]).max(axis=1), 0),
        "logit": Scorer(lambda one: -one.logits.max(axis=1), 0),
        "energy": Scorer(lambda one: -log_sum(one.logits), 0),
    }
    distances: dict[str, tuple[Score, bool]] = {
        "mahalanobis": (lambda one: one.last, False),
        "relative": (lambda one: one.last, True),
        "unit last": (lambda one: unit(one.last), False),
        "unit middle": (lambda one: unit(one.middle), False),
        "first and middle": (lambda one: np.concatenate([unit(one.first), unit(one.middle)], axis=1), False),
    }
    for name, (prepare_features, relative) in distances.items():
        score, size = mahalanobis(prepare_features(train), labels, classes, relative=relative)
        found[name] = Scorer(lambda one, s=score, p=prepare_features: s(p(one)), size)
    for count in BANKS:
        score, size = neighbours(train.last, count)
        found[f"neighbours {count}"] = Scorer(lambda one, s=score: s(one.last), size)
    return found


def log_sum(logits: Array) -> Array:
    """The logarithm of the sum of the exponentials."""
    top = logits.max(axis=1)
    return np.asarray(top + np.log(np.exp(logits - top[:, None]).sum(axis=1)))


def strangers(classifier: Classifier, photographs: list[str], others: dict[str, Any]) -> dict[str, NDArray[np.uint8]]:
    """The sets of strangers, each uint8 (n, height, width, channels)."""
    random, shape = np.random.default_rng(0), classifier.spec.shape
    tints = [(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)]
    colours = [(grey,) * 3 for grey in range(256)] + (tints if shape[2] == 3 else [])
    digits = [np.clip(picture * 17, 0, 255).astype(np.uint8) for picture in load_digits().images]
    found = {
        "uniform noise": random.integers(0, 256, (MOST, *shape), np.uint8),
        "Gaussian noise": np.clip(random.normal(128, 64, (MOST, *shape)), 0, 255).astype(np.uint8),
        "one colour": np.stack([np.broadcast_to(np.uint8(colour[: shape[2]]), shape) for colour in colours]),
        "digits": np.stack([classifier.pixels(picture) for picture in digits]),
    }
    for folder in photographs:
        found[Path(folder).name] = np.stack([classifier.pixels(path) for path in picture_files(folder)[:MOST]])
    for name, source in others.items():
        found[name] = read_split(source, "test", classifier.spec)[0].images[:: max(1, 10_000 // MOST)]
    return found


def judged(ours: Array, strange: Array, threshold: float) -> dict[str, float]:
    """How well a score separates a set of strangers from the test pictures."""
    truth = np.repeat([0, 1], [len(ours), len(strange)])
    return {
        "pictures": len(strange),
        "auroc": float(roc_auc_score(truth, np.concatenate([ours, strange]))),
        "accepted_at_95": float((strange <= np.quantile(ours, 0.95)).mean()),
        "caught": float((strange > threshold).mean()),
    }


def cost(model: Path, dataset: Dataset) -> dict[str, Any]:
    """What the output ``strangeness`` costs in a file."""
    plain, pictures = onnx.load(model), dataset.test.images
    classifier = Classifier(model, device="cpu")
    without = probabilities_of(classifier, pictures)
    extended, _, rule = with_strangeness(model.parent, plain, classifier.spec, dataset, dataset.test, without, RATE)
    sessions = {
        "without": open_model(plain.SerializeToString(), device="cpu").session,
        "with": open_model(extended.SerializeToString(), device="cpu", outputs=[STRANGENESS]).session,
    }
    times: dict[str, Any] = {}
    for size in (1, 32):
        batch, taken = np.ascontiguousarray(pictures[:size]), {name: [] for name in sessions}
        for _ in range(ROUNDS):
            for name, session in sessions.items():
                names = [PROBABILITIES, STRANGENESS] if name == "with" else [PROBABILITIES]
                session.run(names, {INPUT: batch})
                start = time.perf_counter()
                for _ in range(PICTURES // size):
                    session.run(names, {INPUT: batch})
                taken[name].append(1e6 * (time.perf_counter() - start) / PICTURES)
        pairs = zip(taken["with"], taken["without"], strict=True)
        times[str(size)] = {name: statistics.median(values) for name, values in taken.items()}
        times[str(size)]["ratio"] = statistics.median(one / other for one, other in pairs)
    added = len(extended.SerializeToString()) - len(plain.SerializeToString())
    kept = {name: getattr(rule, name) for name in ("threshold", "false_alarm_rate", "interval", "difference")}
    return {"bytes": added, "us_per_picture_by_batch": times, **kept}


def measured(model: Path, dataset: Dataset, photographs: list[str], others: dict[str, Any]) -> dict[str, Any]:
    """The results of one file, by score."""
    classifier, graph = Classifier(model, device="cpu"), onnx.load(model)
    classes = len(classifier.spec.classes)
    picked = np.sort(np.random.default_rng(0).permutation(len(dataset.train.labels))[:TRAINING_PICTURES])
    fitted = scorers(tensors_of(graph, dataset.train.images[picked]), dataset.train.labels[picked], classes)
    validation, test = (tensors_of(graph, split.images) for split in (dataset.val, dataset.test))
    sets = {name: tensors_of(graph, images) for name, images in strangers(classifier, photographs, others).items()}
    rows = {}
    for name, scorer in fitted.items():
        threshold = float(np.quantile(scorer.score(validation), 1 - RATE, method="higher"))
        ours = scorer.score(test)
        rows[name] = {
            "bytes": scorer.bytes,
            "false_alarms": float((ours > threshold).mean()),
            "strangers": {label: judged(ours, scorer.score(one), threshold) for label, one in sets.items()},
        }
    return {"model": short(model), "scores": rows, "file": cost(model, dataset)}


def line(found: dict[str, Any]) -> str:
    """The results of one file as text."""
    names = list(next(iter(found["scores"].values()))["strangers"])
    text = [f"{found['model']}: AUROC / accepted at 95% / caught, in percent"]
    text.append(f"  {'':<18}" + "".join(f"{name[:16]:>18}" for name in names) + f"{'false alarms':>14}")
    for score, row in found["scores"].items():
        cells = [row["strangers"][name] for name in names]
        shown = (f"{1e2 * c['auroc']:.1f}/{1e2 * c['accepted_at_95']:.0f}/{1e2 * c['caught']:.0f}" for c in cells)
        text.append(f"  {score:<18}" + "".join(f"{cell:>18}" for cell in shown) + f"{row['false_alarms']:>14.2%}")
    file = found["file"]
    ratios = ", ".join(f"{row['ratio']:.2f}x at batch {size}" for size, row in file["us_per_picture_by_batch"].items())
    text.append(f"  in the file: {file['bytes'] / 1024:,.0f} KiB, {ratios}")
    return "\n".join(text)


def main() -> None:
    """Print the result of each file; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pairs", nargs="+", metavar="RUN=DATA", help="an exported run and its data set")
    arguments.add_argument("--photographs", nargs="+", default=[], metavar="FOLDER", help="photographs, as strangers")
    options = arguments.parse_args()
    pairs = [(Run.open(run), data) for run, _, data in (pair.partition("=") for pair in options.pairs)]
    packages = ("cnn-infer", "cnn-export", "onnxruntime", "scikit-learn", "numpy")
    head = conditions("strangers.py RUN=DATA... --photographs FOLDER...", packages)
    rows = []
    for run, data in pairs:
        found = read_dataset(run, open_run_source(run, data))
        others = {Path(place).name: open_run_source(other, place) for other, place in pairs if place != data}
        for file in ("model.onnx", "model.int8.onnx"):
            if (run.path / file).exists():
                rows.append(measured(run.path / file, found, options.photographs, others))
                print(line(rows[-1]), flush=True)
                write(options.output, {**head, "rate": RATE, "rows": rows})


if __name__ == "__main__":
    run_script(main)
