"""Does the promise of cnn-export --max-error hold on new pictures, and how many pictures does it answer?

    python benchmarks/guarantee.py RUN=DATA... --output guarantee.json

Each RUN is a folder that cnn-export wrote, DATA its data set as cnn-train takes it. For fp32 and int8, the outputs on
the test split are split at random 1,000 times: 3,000 pictures are the validation split on which a threshold is chosen,
5,000 the test split that confirms it or does not, and the rest are new. Two ways to judge a promise:

- ``without replacement``: each picture is in one part. Once the threshold is fixed, the test part is a random draw of
  all pictures that are not in validation, so the share of wrong answers among those (the test part and the new one) is
  what the bound is about: a finite population whose true error is known. ``held`` counts the promises for which it is
  at most the promised one. ``held_on_new_part`` counts those for which the new part alone is: its error also varies
  by chance, so this can be lower.
- ``with replacement``: validation and test are independent draws from the outputs, and the true error is that of all of
  them: exactly what a binomial bound assumes.

``own splits`` is the export itself: the threshold is chosen on the validation split of the run, where the network is
better than on the test split, because the epoch and the temperature were chosen on it.

``held`` must be at least 95% of the promises given. ``coverage`` is the mean share of all pictures that is answered,
over the splits with a promise.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from cnn_export import GuaranteeError, guarantee
from cnn_export.parity import run_model
from cnn_export.run_data import open_run_source, read_test_split, read_validation_split
from cnn_export.selective import Labelled
from cnn_infer import console, open_model
from cnn_train import Run
from numpy.typing import NDArray
from report import conditions, parser, run_script, short, write

SPLITS = 1000
VALIDATION, TEST = 3000, 5000
MAX_ERRORS = (0.01, 0.02, 0.05)
FILES = ("model.onnx", "model.int8.onnx")

Indices = NDArray[np.int64]


def parts(pictures: int, splits: int, *, replace: bool) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Validation, test, and the pictures that are left, of each split."""
    random = np.random.default_rng(0)
    for _ in range(splits):
        if replace:
            yield *np.split(random.integers(0, pictures, VALIDATION + TEST), [VALIDATION]), np.arange(pictures)
        else:
            yield tuple(np.split(random.permutation(pictures), [VALIDATION, VALIDATION + TEST]))


def simulated(
    probabilities: NDArray[np.float32], labels: Indices, max_error: float, splits: int, *, replace: bool
) -> dict[str, Any]:
    """How often a promise is given and held, and its coverage."""
    top, wrong = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) != labels
    given: list[tuple[bool, bool, float]] = []
    for validation, test, new in parts(len(labels), splits, replace=replace):
        chosen = [(probabilities[part], labels[part]) for part in (validation, test)]
        try:
            found = guarantee(*chosen, max_error=max_error)
        except GuaranteeError:
            continue
        answered = top >= found.threshold
        population = new if replace else np.concatenate([test, new])
        errors = [wrong[part][answered[part]].mean() if answered[part].any() else 0.0 for part in (population, new)]
        given.append((errors[0] <= max_error, errors[1] <= max_error, float(answered.mean())))
    held, on_new, coverage = np.mean(given, axis=0) if given else (None, None, None)
    return {
        "splits": splits,
        "given": len(given),
        "held": held,
        **({} if replace else {"held_on_new_part": on_new}),
        "coverage": coverage,
    }


def exported(validation: Labelled, test: Labelled, max_error: float) -> dict[str, Any]:
    """What an export with the splits of the run promises."""
    try:
        found = guarantee(validation, test, max_error=max_error)
    except GuaranteeError as error:
        return {"given": False, "pictures_needed": error.needed}
    return {"given": True, "coverage": found.coverage, "error": found.wrong / found.answered}


def main() -> None:
    """Print the result of each file; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pairs", nargs="+", metavar="RUN=DATA", help="an exported run and its data set")
    arguments.add_argument("--splits", type=int, default=SPLITS, help="random splits (default: %(default)s)")
    options = arguments.parse_args()
    results = []
    for run, _, data in (pair.partition("=") for pair in options.pairs):
        opened = Run.open(run)
        source = open_run_source(opened, data)
        split, validation = read_test_split(opened, source), read_validation_split(opened, source)
        if validation is None:
            sys.exit(f"guarantee.py: a guarantee needs the validation pictures of {opened.path}: name its data set")
        for file in FILES:
            model = opened.path / file
            session = open_model(model, device="cpu")
            probabilities = run_model(session, split.images).probabilities
            known = (run_model(session, validation.images).probabilities, validation.labels)
            for limit in MAX_ERRORS:
                found = {
                    "model": short(model),
                    "accuracy": float((probabilities.argmax(axis=1) == split.labels).mean()),
                    "max_error": limit,
                    "own_splits": exported(known, (probabilities, split.labels), limit),
                    "without_replacement": simulated(probabilities, split.labels, limit, options.splits, replace=False),
                    "with_replacement": simulated(probabilities, split.labels, limit, options.splits, replace=True),
                }
                results.append(found)
                print(f"{found['model']}, {limit:.0%}, own splits: {found['own_splits']}", flush=True)
                for how in ("without_replacement", "with_replacement"):
                    row = found[how]
                    text = f"{found['model']}, {limit:.0%}, {how}: given in {console.quantity(row['given'], 'split')}"
                    held = "" if row["held"] is None else f", held {row['held']:.1%}, coverage {row['coverage']:.1%}"
                    print(text + held, flush=True)
    splits = None if options.splits == SPLITS else options.splits
    head = conditions("guarantee.py RUN=DATA...", ("cnn-export", "numpy", "scipy"), splits=splits)
    sizes = {"validation": VALIDATION, "test": TEST}
    write(options.output, {**head, "pictures": sizes, "files": results})


if __name__ == "__main__":
    run_script(main)
