"""How many times as fast as fp32 is int8, in ONNX Runtime and, if it is installed, in OpenVINO?

    python benchmarks/int8.py RUN... --output int8.json

Each RUN is a folder that cnn-export --quantize wrote. Every runtime has a process of its own, because the waiting
threads of one slow down another. They are measured in turn, in blocks of a fifth of a second, for ten rounds. The
times are medians over the blocks; the ratios are medians over the rounds, with quartiles.

- Batch sizes: 1 and 64 on one thread, and 256 on all cores. On all cores ONNX Runtime has one single-threaded session
  for each core, and the pictures are divided among them; OpenVINO uses the faster of its two modes.
- OpenVINO runs the int8 file, and the fp32 file with its default precision (bf16 if the processor supports it).
- ``peak``: the speed of the whole int8 network at batch size 64, as a share of the speed of an int8 matrix product in
  ONNX Runtime (1024 x 1024 x 1024, one thread, in the same rounds).
- ``same_classes``: the share of pictures for which a runtime gives the same class as ONNX Runtime.
- ``load_ms``: the time to open the model, without imports; on all cores, the sum over all sessions.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module, util
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer.system import machine
from exports import int8_file
from report import conditions, parser, run_script, write
from sessions import one_thread_session

ROUNDS = 10
WARM_UP = 2
"""Rounds that are not counted."""

BLOCK_SECONDS = 0.2
SIDE = 1024
"""Rows and columns of the matrices whose product is the unit of ``peak``."""

CASES = {"1 thread, batch 1": (1, 1), "1 thread, batch 64": (1, 64), "all cores, batch 256": (0, 256)}
"""Threads (0: all cores) and batch size."""

Call = Callable[[], np.ndarray]


def onnxruntime_call(path: Path, threads: int, pictures: np.ndarray) -> Call:
    """A call of ``threads`` single-threaded sessions, each with its part of the pictures."""
    content = path.read_bytes()
    sessions = [one_thread_session(content) for _ in range(threads)]
    parts = np.array_split(pictures, threads)
    if threads == 1:
        return lambda: sessions[0].run(["probabilities"], {"image": pictures})[0]
    pool = ThreadPoolExecutor(threads)
    return lambda: np.concatenate(
        list(
            pool.map(
                lambda pair: pair[0].run(["probabilities"], {"image": pair[1]})[0], zip(sessions, parts, strict=True)
            )
        )
    )


def openvino_call(path: Path, threads: int, pictures: np.ndarray, streams: int) -> Call:
    """A call of OpenVINO on ``threads`` threads, with the pictures divided among ``streams`` parallel requests."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams}
    model = core.compile_model(core.read_model(str(path)), "CPU", settings)
    output = model.output("probabilities")
    parts = [np.ascontiguousarray(part) for part in np.array_split(pictures, streams)]
    requests = [model.create_infer_request() for _ in parts]

    def call() -> np.ndarray:
        for request, part in zip(requests, parts, strict=True):
            request.start_async({"image": part}, share_inputs=True)
        for request in requests:
            request.wait()
        return np.concatenate([request.get_tensor(output).data for request in requests])

    return call


def product_call() -> Call:
    """A call of a matrix product of uint8 and int8 in ONNX Runtime, on one thread."""
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    weights = random.integers(-127, 128, (SIDE, SIDE), dtype=np.int8)
    constants = [
        helper.make_tensor("weights", TensorProto.INT8, weights.shape, weights.tobytes(), raw=True),
        *(helper.make_tensor(name, TensorProto.FLOAT, [], [0.01]) for name in ("sa", "sb", "sy")),
        *(helper.make_tensor(f"z{name}", kind, [], [0]) for name, kind in (("a", 2), ("b", 3), ("y", 2))),
    ]
    inputs = ["a", "sa", "za", "weights", "sb", "zb", "sy", "zy"]
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, [SIDE, SIDE]) for name in ("a", "y")]
    graph = helper.make_graph([helper.make_node("QLinearMatMul", inputs, ["y"])], "g", infos[:1], infos[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    session = one_thread_session(model.SerializeToString())
    values = random.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    return lambda: session.run(None, {"a": values})[0]


def call_of(kind: str, path: Path, threads: int, pictures: np.ndarray) -> Call:
    """The call that the process of a runtime repeats."""
    if kind == "product":
        return product_call()
    if kind.startswith("OpenVINO"):
        return openvino_call(path, threads, pictures, streams=threads if kind.endswith("streams") else 1)
    return onnxruntime_call(path, threads, pictures)


def work(pipe: Connection, kind: str, path: Path, threads: int, pictures: np.ndarray) -> None:
    """The main function of a runtime's process.

    It sends the seconds of loading and the classes of the pictures. Then it answers each true message with the median
    seconds of a block of calls, until a false message arrives.
    """
    import_module("openvino" if kind.startswith("OpenVINO") else "onnxruntime")  # the import is not part of loading
    start = time.perf_counter()
    call = call_of(kind, path, threads, pictures)
    loaded = time.perf_counter() - start
    pipe.send((loaded, call().argmax(axis=1)))
    while pipe.recv():
        times: list[float] = []
        until = time.perf_counter() + BLOCK_SECONDS
        while time.perf_counter() < until or len(times) < 3:
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        pipe.send(statistics.median(times))


class Runtime:
    """A runtime in a process of its own.

    Attributes:
        kind: Its name in the table.
        loaded: Seconds that it took to open the model.
        classes: The class index of each picture.
        blocks: Median seconds of a call, for each measured block.
    """

    def __init__(self, kind: str, path: Path, threads: int, pictures: np.ndarray) -> None:
        self.kind = kind
        self._pipe, theirs = get_context("spawn").Pipe()
        self._process = get_context("spawn").Process(
            target=work, args=(theirs, kind, path, threads, pictures), daemon=True
        )
        self._process.start()
        self.loaded, self.classes = self._pipe.recv()
        self.blocks: list[float] = []

    def measure(self, *, warm_up: bool = False) -> None:
        """Run a block; with ``warm_up`` do not record it."""
        self._pipe.send(True)
        seconds = self._pipe.recv()
        if not warm_up:
            self.blocks.append(seconds)

    def end(self) -> None:
        """End the process."""
        self._pipe.send(False)
        self._process.join()


def multiplications(model: Path) -> int:
    """Multiply-adds of the convolutions and fully connected layers for one picture."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(onnx.load(model)).graph
    shapes = {info.name: [size.dim_value for size in info.type.tensor_type.shape.dim] for info in graph.value_info}
    weights = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            height, width = shapes[node.output[0]][2:]
            total += height * width * int(np.prod(weights[node.input[1]]))
        elif node.op_type == "Gemm":
            total += int(np.prod(weights[node.input[1]]))
    return total


def compare(run: Path, name: str) -> dict[str, Any]:
    """Measure all runtimes in turn in one of the :data:`CASES` and return the row of the report."""
    threads, size = CASES[name]
    threads = threads or machine.usable_cpus()
    fp32, int8 = run / "model.onnx", int8_file(run)
    spec = json.loads((run / "spec.json").read_text(encoding="utf-8"))
    shape = (size, spec["height"], spec["width"], 1 if spec["colour"] == "grey" else 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    wanted = [("fp32", fp32), ("int8", int8)]
    if util.find_spec("openvino"):
        modes = ["", " streams"] if threads > 1 else [""]
        wanted += [(f"OpenVINO {kind}{mode}", path) for kind, path in list(wanted) for mode in modes]
    if size == 64:
        wanted.append(("product", int8))
    runtimes = {kind: Runtime(kind, path, threads, pictures) for kind, path in wanted}
    for number in range(WARM_UP + ROUNDS):
        for runtime in runtimes.values():
            runtime.measure(warm_up=number < WARM_UP)
    for runtime in runtimes.values():
        runtime.end()
    return result(run, name, size, runtimes)


def result(run: Path, name: str, size: int, runtimes: dict[str, Runtime]) -> dict[str, Any]:
    """The row of the report for measured runtimes."""
    int8 = runtimes["int8"]
    best = {kind: runtimes[kind] for kind in ("fp32", "int8")}
    for file in ("int8", "fp32"):
        modes = [one for kind, one in runtimes.items() if kind.startswith(f"OpenVINO {file}")]
        if modes:
            best[f"OpenVINO {file}"] = min(modes, key=lambda one: statistics.median(one.blocks))
    row: dict[str, Any] = {"run": run.name, "case": name}
    for kind, runtime in best.items():
        file = "int8" if kind.endswith("int8") else "fp32"
        median = statistics.median(runtime.blocks)
        row[kind] = {
            "us_per_picture": 1e6 * median / size,
            "cv": statistics.stdev(runtime.blocks) / statistics.mean(runtime.blocks),
            "load_ms": 1e3 * runtime.loaded,
            "same_classes": float((runtime.classes == runtimes[file].classes).mean()),
        }
        if kind != "int8":
            ratios = [theirs / ours for theirs, ours in zip(runtime.blocks, int8.blocks, strict=True)]
            row[kind]["times_int8"] = np.percentile(ratios, (50, 25, 75)).tolist()
    if "product" in runtimes:
        ours = size * multiplications(run / "model.onnx") / statistics.median(int8.blocks)
        row["peak"] = ours / (SIDE**3 / statistics.median(runtimes["product"].blocks))
    return row


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an exported run folder")
    options = arguments.parse_args()
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    if not util.find_spec("openvino"):
        print("OpenVINO is not installed, so it is not compared")
    head = conditions("int8.py RUN...", ("onnxruntime", "openvino"))
    print(f"{head['machine']}; {', '.join(f'{name} {version}' for name, version in head['versions'].items())}")
    rows = []
    for run in options.runs:
        for name in CASES:
            row = compare(run, name)
            rows.append(row)
            parts = [f"int8 {row['int8']['us_per_picture']:8.1f} us"]
            for kind in ("fp32", "OpenVINO int8", "OpenVINO fp32"):
                if kind in row:
                    middle, low, high = row[kind]["times_int8"]
                    parts.append(f"{kind} {middle:.2f}x ({low:.2f} to {high:.2f})")
            parts += [f"peak {row['peak']:.0%}"] if "peak" in row else []
            print(f"{row['run']:<16} {name:<22} {'  '.join(parts)}", flush=True)
    write(options.output, {**head, "rows": rows})


if __name__ == "__main__":
    run_script(main)
