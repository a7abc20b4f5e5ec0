"""Does cnn-infer notice pictures that are not like those of training, and is it quiet where they are?

    python benchmarks/drift.py RUN=DATA... --output drift.json

Each RUN is a folder that cnn-export wrote, DATA its data set as cnn-train takes it. For fp32 and int8, each with the
histogram of validation inside its own file:

- ``whole test split``: the Kolmogorov-Smirnov test of the test split against validation.
- ``false alarms``: the share of 1,000 random draws of 30, 100 and 1,000 test pictures that are reported.
- the share of 100 draws of these sizes that is reported, of other pictures: noise, the test pictures at a third of
  their brightness, and the test splits of the other data sets at the size and in the colours of this one.
- ``one class alone``: for how many classes its test pictures alone are reported. They are like those of training, but
  not the same mix, and the test cannot tell the two apart.

A draw takes each picture at most once, except where the split has fewer pictures than the draw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batches import probabilities_of
from cnn_export.run_data import open_run_source, read_test_split
from cnn_infer import Classifier
from cnn_infer.drift import Drift, TopProbabilities, compare, validation_of
from cnn_train import Run
from cnn_train.replay import read_split
from numpy.typing import NDArray
from report import conditions, parser, run_script, short, write

SIZES = (30, 100, 1000)
DRAWS = 1000
OTHER_DRAWS = 100
NOISE = 2000
"""Number of noise pictures."""

Pictures = NDArray[np.uint8]


def places(classifier: Classifier, edges: list[float], pictures: Pictures) -> NDArray[np.int64]:
    """The bin of each picture's top probability."""
    found = []
    for value in probabilities_of(classifier, pictures).max(axis=1).tolist():
        one = TopProbabilities(edges)
        one.add(value)
        found.append(one.counts.index(1))
    return np.array(found)


def drift_of(validation: TopProbabilities, bins: NDArray[np.int64]) -> Drift:
    """The result of a run over pictures with these bins."""
    counts = np.bincount(bins, minlength=len(validation.edges)).tolist()
    found = compare(validation, TopProbabilities(validation.edges, counts))
    assert found is not None
    return found


def reported(
    validation: TopProbabilities, bins: NDArray[np.int64], draws: int, random: np.random.Generator
) -> dict[str, float]:
    """The share of random draws that is reported, by the size of the draw."""
    shares = {}
    for size in SIZES:
        chosen = (random.choice(bins, size, replace=len(bins) < size) for _ in range(draws))
        shares[str(size)] = sum(drift_of(validation, part).differs for part in chosen) / draws
    return shares


def measured(model: Path, test: Pictures, labels: NDArray[np.int64], others: dict[str, Pictures]) -> dict[str, Any]:
    """The results of one file."""
    classifier, random = Classifier(model, device="cpu"), np.random.default_rng(0)
    validation = validation_of(classifier.spec.details)
    if validation is None:
        raise SystemExit(f"{model} has no histogram of the validation pictures: export the run again")
    bins = places(classifier, validation.edges, test)
    whole = drift_of(validation, bins)
    classes = [drift_of(validation, bins[labels == label]) for label in range(len(classifier.spec.classes))]
    return {
        "model": short(model),
        "validation_pictures": validation.images,
        "test_pictures": len(test),
        "whole_test_split": {"statistic": whole.statistic, "p": whole.p, "reported": whole.differs},
        "false_alarms": reported(validation, bins, DRAWS, random),
        "others": {
            name: reported(validation, places(classifier, validation.edges, pictures), OTHER_DRAWS, random)
            for name, pictures in others.items()
        },
        "one_class_alone": {"reported": sum(found.differs for found in classes), "classes": len(classes)},
    }


def line(found: dict[str, Any]) -> str:
    """The results of one file as text."""
    whole = found["whole_test_split"]
    rows = {"false alarms": found["false_alarms"], **found["others"]}
    alone = found["one_class_alone"]
    return "\n".join(
        [
            f"{found['model']}: test split D {whole['statistic']:.4f}, p {whole['p']:.2g}; "
            f"{alone['reported']} of {alone['classes']} classes alone are reported",
            *(
                f"  {name:<28}" + "".join(f"{share:>8.1%} of draws of {size}" for size, share in shares.items())
                for name, shares in rows.items()
            ),
        ]
    )


def main() -> None:
    """Print the result of each file; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pairs", nargs="+", metavar="RUN=DATA", help="an exported run and its data set")
    options = arguments.parse_args()
    pairs = [(Run.open(run), data) for run, _, data in (pair.partition("=") for pair in options.pairs)]
    sources = {
        run.config.data if run.spec.details["data"]["location"] is None else Path(data).name: (run, data)
        for run, data in pairs
    }
    rows = []
    for run, data in pairs:
        spec, test = run.spec, read_test_split(run, open_run_source(run, data))
        others = {
            "noise": np.random.default_rng(1).integers(0, 256, (NOISE, *spec.shape), np.uint8),
            "a third of the brightness": test.images // 3,
        }
        for name, (other, place) in sources.items():
            if place != data:
                others[name] = read_split(open_run_source(other, place), "test", spec)[0].images
        for file in ("model.onnx", "model.int8.onnx"):
            if (run.path / file).exists():
                rows.append(measured(run.path / file, test.images, test.labels, others))
                print(line(rows[-1]), flush=True)
    packages = ("cnn-infer", "onnxruntime")
    write(options.output, {**conditions("drift.py RUN=DATA...", packages), "rows": rows})


if __name__ == "__main__":
    run_script(main)
