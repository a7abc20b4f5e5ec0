"""What the API costs on top of ONNX Runtime: the same picture through both, in turn, in one process.

    python benchmarks/overhead.py MODEL --output overhead.json

A round is one call of ``session.run``, one of ``Classifier.probabilities`` and one of ``Classifier.predict`` with an
array of the model's size. The order of the three changes from round to round. The overhead is the difference to the
``session.run`` of the same round, in microseconds: the median over the rounds, with the quartiles as the spread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier
from report import conditions, parser, run_script, short, write

WARM_UP = 200
"""Rounds that are not counted."""


def microseconds(call: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e3


def measure(model: str, rounds: int) -> dict[str, Any]:
    """Medians and quartiles of the overhead, in microseconds."""
    classifier = Classifier(model)
    run = classifier.model.session.run
    batch = np.random.default_rng(0).integers(0, 256, (1, *classifier.spec.shape), dtype=np.uint8)
    picture = batch[0]
    calls: dict[str, Callable[[], object]] = {
        "session.run": lambda: run(["probabilities"], {"image": batch}),
        "probabilities": lambda: classifier.probabilities(batch),
        "predict": lambda: classifier.predict(picture),
    }
    names = list(calls)
    spent: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + WARM_UP):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found = microseconds(calls[name])
            if number >= WARM_UP:
                spent[name].append(found)
    result: dict[str, Any] = {"session.run_us": statistics.median(spent["session.run"])}
    for name in names[1:]:
        over = [more - bare for more, bare in zip(spent[name], spent["session.run"], strict=True)]
        low, middle, high = statistics.quantiles(over, n=4)
        result[name] = {"overhead_us": middle, "quartiles_us": [low, high]}
    return result


def main() -> None:
    """Print a line for each call; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", help="an exported model")
    arguments.add_argument("--rounds", type=int, default=20_000, help="counted rounds")
    options = arguments.parse_args()
    found = measure(options.model, options.rounds)
    packages = ("cnn-infer", "onnxruntime", "numpy", "pillow")
    head = conditions("overhead.py MODEL", packages, rounds=options.rounds)
    print(f"{head['machine']}; medians of {options.rounds:,} rounds")
    print(f"session.run takes {found['session.run_us']:.1f} us")
    for name in ("probabilities", "predict"):
        low, high = found[name]["quartiles_us"]
        print(f"{name:<13} {found[name]['overhead_us']:5.1f} us more (quartiles {low:.1f} and {high:.1f})")
    write(options.output, {**head, "model": short(Path(options.model)), "rounds": options.rounds, **found})


if __name__ == "__main__":
    run_script(main)
