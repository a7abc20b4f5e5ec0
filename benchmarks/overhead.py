"""What the API costs on top of ONNX Runtime: the same picture through both, in turn, in one process.

    python benchmarks/overhead.py MODEL --output overhead.json

A round is one call of ``session.run``, one of ``Classifier.probabilities`` and one of ``Classifier.predict`` with an
array of the model's size, in an order that changes from round to round. The overhead is the median over rounds of the
difference to the ``session.run`` of the same round, in microseconds; the quartiles say how far rounds differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier
from conditions import conditions, short


def microseconds(call: Callable[[], object]) -> float:
    """One call."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e3


def measure(model: str, rounds: int) -> dict[str, Any]:
    """Medians and quartiles, in microseconds."""
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
    for number in range(rounds + 200):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            found = microseconds(calls[name])
            if number >= 200:  # warmed up
                spent[name].append(found)
    result: dict[str, Any] = {"session.run_us": statistics.median(spent["session.run"])}
    for name in names[1:]:
        over = [more - bare for more, bare in zip(spent[name], spent["session.run"], strict=True)]
        low, middle, high = statistics.quantiles(over, n=4)
        result[name] = {"overhead_us": middle, "quartiles_us": [low, high]}
    return result


def main() -> None:
    """Print a line for each call; with --output also write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = measure(options.model, options.rounds)
    packages = ("cnn-infer", "onnxruntime", "numpy", "pillow")
    head = conditions("overhead.py MODEL", packages, rounds=options.rounds)
    print(f"{head['machine']}; medians of {options.rounds:,} rounds")
    print(f"session.run takes {found['session.run_us']:.1f} us")
    for name in ("probabilities", "predict"):
        low, high = found[name]["quartiles_us"]
        print(f"{name:<13} {found[name]['overhead_us']:5.1f} us more (quartiles {low:.1f} and {high:.1f})")
    if options.output is not None:
        document = {**head, "model": short(Path(options.model)), "rounds": options.rounds, **found}
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
