"""Where the time of a model goes: each node that ONNX Runtime executes, from its profiler, on one thread.

    python benchmarks/nodes.py runs/a/model.int8.onnx --batch 64

The table shows microseconds for a picture (medians over the calls) and multiply-adds, in the order of execution. The
profiler itself adds one to two microseconds to each node of a call, so at batch size 1 the sum is too high by that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from cnn_infer.system import machine
from sessions import one_thread_session

WARM_UP = 20
"""Calls that are not counted."""


def profiled(model: bytes, pictures: np.ndarray, calls: int, folder: Path) -> tuple[list[dict[str, Any]], Path]:
    """The events of the profiler, and the file of the optimised graph that ran."""
    session = one_thread_session(model, profile=folder)
    for _ in range(calls):
        session.run(["probabilities"], {"image": pictures})
    return json.loads(Path(session.end_profiling()).read_text(encoding="utf-8")), folder / "running.onnx"


def plain(model: bytes, pictures: np.ndarray, calls: int) -> float:
    """Median seconds of a call without the profiler."""
    session = one_thread_session(model)
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        session.run(["probabilities"], {"image": pictures})
        times.append(time.perf_counter() - start)
    return statistics.median(times[WARM_UP:])


def multiplications(kind: str, output: list[int], weights: list[int]) -> int:
    """Multiply-adds of a node for one picture; 0 for nodes that only move or compare values.

    Args:
        kind: The operator.
        output: The shape of its output, channels second or last: the product is the same.
        weights: The shape of its weights, output channels first; empty without weights.
    """
    if not weights or not any(word in kind for word in ("Conv", "Gemm", "MatMul")):
        return 0
    if "Conv" in kind:
        return int(np.prod(output[1:])) * int(np.prod(weights[1:]))
    return int(np.prod(weights))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an exported model")
    parser.add_argument("--batch", type=int, default=64, help="batch size")
    options = parser.parse_args()
    content, calls = options.model.read_bytes(), WARM_UP + max(40, 1000 // options.batch)
    shape = [size.dim_value for size in onnx.load(options.model).graph.input[0].type.tensor_type.shape.dim[1:]]
    pictures = np.random.default_rng(0).integers(0, 256, (options.batch, *shape), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        events, running = profiled(content, pictures, calls, Path(folder))
        graph = onnx.load(running).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer if len(tensor.dims) in (2, 4)}
    weights = {
        node.name: max((shapes[name] for name in node.input if name in shapes), key=np.prod, default=[])
        for node in graph.node
    }
    found: dict[str, list[float]] = {}
    about: dict[str, tuple[str, list[int]]] = {}
    for event in events:
        name = event["name"].removesuffix("_kernel_time")
        if event.get("cat") == "Node" and name != event["name"]:
            found.setdefault(name, []).append(event["dur"])
            about[name] = event["args"]["op_name"], next(iter(event["args"]["output_type_shape"][0].values()))
    print(f"{options.model}, batch {options.batch}, one thread; {machine.description()}")
    print(f"{'us a picture':>12} {'share':>6} {'MMAC':>7} {'GMAC/s':>7}  node")
    medians = {name: statistics.median(times[WARM_UP:]) / options.batch for name, times in found.items()}
    total = sum(medians.values())
    for name, microseconds in medians.items():
        kind, output = about[name]
        work = multiplications(kind, output, weights.get(name, []))
        speed = f"{work / microseconds / 1e3:7.0f}" if work and microseconds else " " * 7
        print(f"{microseconds:12.2f} {microseconds / total:6.1%} {work / 1e6:7.2f} {speed}  {kind} {output[1:]}")
    without = 1e6 * plain(content, pictures, calls) / options.batch
    print(f"{total:12.2f} in all; {without:.2f} without the profiler")


if __name__ == "__main__":
    main()
