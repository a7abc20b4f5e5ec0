"""Models on a GPU: ONNX Runtime on CUDA beside PyTorch, eager and compiled, on the same card; also training rows.

    python benchmarks/gpu.py RUN... --output benchmarks/results/gpu_CARD.json
    python benchmarks/gpu.py RUN... --train cifar10-large-gpu-5s --data FOLDER --output gpu.json
    python benchmarks/gpu.py RUN... --device cpu --rounds 2

Each RUN is a run folder after ``cnn-export --half``: model.onnx, model.half.onnx and the weights of the network. A row
is one engine (``onnxruntime``, ``eager``, ``compiled``), in fp32 or fp16, with 1 picture (latency) or 256 (throughput)
a call. ``device`` times a call whose pixels and probabilities stay on the device (in ONNX Runtime by IOBinding),
``host`` one that takes uint8 pixels in host memory and gives probabilities there. Everything from the raw pixels to the
probabilities is timed in each engine: normalisation, network, softmax. TF32 is off in all engines.

The engines of a run take turns in rounds, so that clock and heat of the card meet all of them; a figure is the median
of the rounds. The logits of each engine are compared with model.onnx on the CPU first. Nothing new starts after
``--seconds``: what is then missing is listed under ``not_measured``. ``--device cpu`` runs the same path without a GPU;
its figures mean nothing.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # before ONNX Runtime, which then finds the CUDA libraries that come with it
from cnn_infer import Model, Spec, open_model
from cnn_infer.model import INPUT, LOGITS, PROBABILITIES
from cnn_infer.run_files import FP32_MODEL, HALF_MODEL
from cnn_infer.runtime import load_runtime
from cnn_train import Run
from numpy.typing import NDArray
from processes import run_within
from report import conditions, parser, run_script, short, write
from torch import Tensor, nn
from train_rows import ROWS

BATCHES = (1, 256)
ENGINES = ("onnxruntime", "eager", "compiled")
FILES = {"fp32": FP32_MODEL, "fp16": HALF_MODEL}
TYPES = {"fp32": torch.float32, "fp16": torch.float16}
ROUND_SECONDS = 0.2
CALLS = 3
"""Least calls in a round."""

WARM_UP_CALLS = 10
WARM_UP_SECONDS = 1.0
"""A warm-up ends earlier after this time and :data:`CALLS` calls."""


class FromPixels(nn.Module):
    """A trained network from raw pixels to probabilities, as the exported file is.

    Args:
        network: The network, from normalised pixels to logits.
        spec: Its specification.
        precision: ``fp32`` or ``fp16``: the format of weights and arithmetic.
    """

    def __init__(self, network: nn.Module, spec: Spec, precision: str) -> None:
        super().__init__()
        self.kind = TYPES[precision]
        self.network = network.eval().to(self.kind).to(memory_format=torch.channels_last)
        self.spec = spec

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, float32 (n, classes), of uint8 (n, height, width, channels)."""
        planes = (image.permute(0, 3, 1, 2).float() - self.spec.zero_point) * self.spec.scale
        logits = self.network(planes.to(self.kind)).float() / self.spec.temperature
        return logits, logits.softmax(dim=1)


@dataclass
class Contestant:
    """An engine with a model and a batch.

    Attributes:
        row: The description of its row.
        calls: A function for each kind of call, ``device`` and ``host``; each returns when the result is there.
        logits: float32 (n, classes), for the check.
    """

    row: dict[str, Any]
    calls: dict[str, Callable[[], object]]
    logits: NDArray[np.float32]


def with_onnxruntime(model: Model, batch: NDArray[np.uint8], device: str) -> Contestant:
    """ONNX Runtime: on bound memory of the device, and by ``Model.run``, which cnn-infer calls."""
    runtime = load_runtime()
    binding = model.session.io_binding()
    binding.bind_ortvalue_input(INPUT, runtime.OrtValue.ortvalue_from_numpy(batch, device, 0))
    binding.bind_output(PROBABILITIES, device)

    def bound() -> None:
        model.session.run_with_iobinding(binding)
        binding.synchronize_outputs()

    calls: dict[str, Callable[[], object]] = {"device": bound, "host": lambda: model.run([PROBABILITIES], batch)}
    return Contestant({"provider": model.provider}, calls, model.run([LOGITS], batch)[0])


def with_pytorch(
    network: Callable[[Tensor], tuple[Tensor, Tensor]], batch: NDArray[np.uint8], device: str
) -> Contestant:
    """PyTorch, eager or compiled."""
    pixels = torch.from_numpy(batch)
    resident = pixels.to(device)

    def stay() -> None:
        network(resident)
        if device == "cuda":
            torch.cuda.synchronize()

    calls: dict[str, Callable[[], object]] = {"device": stay, "host": lambda: network(pixels.to(device))[1].cpu()}
    return Contestant({}, calls, network(resident)[0].cpu().numpy())


def contestants(folder: Path, precision: str, size: int, engines: list[str], device: str) -> list[Contestant]:
    """All engines for a run, a precision and a batch size; the compiled network is compiled here."""
    run = Run.open(folder)
    batch = np.random.default_rng(0).integers(0, 256, (size, *run.spec.shape), dtype=np.uint8)
    expected = open_model(folder / FP32_MODEL, device="cpu").run([LOGITS], batch)[0]
    found = []
    for engine in engines:
        start = time.perf_counter()
        if engine == "onnxruntime":
            one = with_onnxruntime(open_model(folder / FILES[precision], device=device), batch, device)
        else:
            network: Any = FromPixels(run.network(), run.spec, precision).to(device)
            if engine == "compiled":
                torch.compiler.reset()
                # CUDA graphs take the cost of launching kernels out of small batches
                network = torch.compile(network, mode="reduce-overhead" if device == "cuda" else "default")
            one = with_pytorch(network, batch, device)
        difference = float(np.abs(one.logits - expected).max() / np.abs(expected).max())
        one.row |= {
            "run": short(folder / FILES[precision]).split("/")[0],
            "engine": engine,
            "precision": precision,
            "batch": size,
            "start_seconds": time.perf_counter() - start,
            "logits_differ": difference,
        }
        found.append(one)
    return found


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call, the mean over a round."""
    start, count = time.perf_counter(), 0
    while count < CALLS or time.perf_counter() - start < ROUND_SECONDS:
        call()
        count += 1
    return (time.perf_counter() - start) / count


def warm_up(call: Callable[[], object]) -> None:
    """Call it some times, so that kernels are chosen, graphs recorded and memory allocated."""
    start = time.perf_counter()
    for count in range(WARM_UP_CALLS):
        call()
        if count + 1 >= CALLS and time.perf_counter() - start > WARM_UP_SECONDS:
            break


def compete(found: list[Contestant], rounds: int) -> list[dict[str, Any]]:
    """Time the engines in turns, and return their rows."""
    seconds: dict[tuple[int, str], list[float]] = {}
    for one in found:
        for call in one.calls.values():
            warm_up(call)
    for _ in range(rounds):
        for number, one in enumerate(found):
            for kind, call in one.calls.items():
                seconds.setdefault((number, kind), []).append(timed(call))
    rows = []
    for number, one in enumerate(found):
        for kind in one.calls:
            values = sorted(seconds[number, kind])
            middle = statistics.median(values)
            figures = {"ms": 1e3 * middle, "least_ms": 1e3 * values[0], "most_ms": 1e3 * values[-1]}
            rows.append({**one.row, "memory": kind, **figures, "pictures_per_second": one.row["batch"] / middle})
    return rows


def card(device: str) -> dict[str, Any]:
    """The graphics card, its driver and the libraries that PyTorch uses; empty without one."""
    if device != "cuda":
        return {}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm", "--format=csv"]
    shown = subprocess.run(query, capture_output=True, text=True, check=False)
    return {
        "name": torch.cuda.get_device_name(),
        "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "nvidia_smi": shown.stdout.splitlines(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def trained(row: str, data: str | None, limit: float) -> dict[str, Any]:
    """Train a row of benchmarks/train.py with one random seed, and return its report."""
    script = Path(__file__).with_name("train.py")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "row.json")
        command = [sys.executable, str(script), row, "--seeds", "0", "--output", str(output)]
        if run_within([*command, *(["--data", data] if data else [])], limit):
            sys.exit(f"gpu.py: the training of {row} failed")
        report: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
        return report


def measure(options: Any, document: dict[str, Any], left: Callable[[], float]) -> None:
    """Add the rows to a document, and write it after each part: an interrupted measurement is not lost."""
    parts = [(run, precision, size) for run in options.runs for precision in FILES for size in BATCHES]
    for run, precision, size in parts:
        name = f"{run.resolve().name}, {precision}, batch {size}"
        if left() <= 0:
            document["not_measured"].append(name)
            continue
        found = compete(contestants(run, precision, size, options.engines, options.device), options.rounds)
        document["rows"] += found
        print("\n".join(line(row) for row in found), flush=True)
        write(options.output, document)
    for row in options.train:
        if left() <= 0:
            document["not_measured"].append(f"training {row}")
            continue
        try:
            document["trainings"].append(trained(row, options.data, left()))
        except subprocess.TimeoutExpired:
            document["not_measured"].append(f"training {row}: more than the rest of the time")
        write(options.output, document)


def line(row: dict[str, Any]) -> str:
    """A row as text."""
    return (
        f"{row['run']:<28} {row['precision']} batch {row['batch']:>3} {row['engine']:<12} {row['memory']:<6}"
        f" {row['ms']:>9.3f} ms ({row['least_ms']:.3f} to {row['most_ms']:.3f})"
        f" {row['pictures_per_second']:>12,.0f} pictures/s"
    )


def main() -> None:
    """Measure, print the rows, and write them."""
    start = time.perf_counter()
    parsing = parser(__doc__)
    parsing.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder after cnn-export --half")
    parsing.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the script")
    parsing.add_argument("--rounds", type=int, default=9, help="rounds of a fifth of a second for each engine")
    parsing.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES), help="default: all")
    parsing.add_argument(
        "--train", nargs="*", choices=ROWS, default=[], metavar="ROW", help="rows of train.py to train"
    )
    parsing.add_argument("--data", help="folder of the data set of these rows; default: cnn-train finds it by name")
    parsing.add_argument("--seconds", type=float, default=540, help="nothing new starts after this time")
    options = parsing.parse_args()
    if options.rounds < 1:
        parsing.error("--rounds must be at least 1")
    for run in options.runs:
        for file in FILES.values():
            if not (run / file).is_file():
                parsing.error(f"{run} has no {file}: run cnn-export {run} --half first")
    if options.device == "cuda" and not torch.cuda.is_available():
        parsing.error("PyTorch finds no CUDA device: pass --device cpu to try the script")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = True  # as ONNX Runtime does by default
    packages = ("cnn-infer", "onnxruntime", "onnxruntime-gpu", "torch", "numpy")
    given = {name: getattr(options, name) or None for name in ("device", "rounds", "engines", "train")}
    document: dict[str, Any] = {
        **conditions("gpu.py RUN...", packages, **given, data=options.data and "FOLDER"),
        "card": card(options.device),
        "tf32": False,
        "rows": [],
        "trainings": [],
        "not_measured": [],
    }
    with torch.no_grad():
        measure(options, document, lambda: options.seconds - (time.perf_counter() - start))
    document["seconds"] = time.perf_counter() - start
    write(options.output, document)
    for name in document["not_measured"]:
        print(f"not measured: {name}")


if __name__ == "__main__":
    run_script(main)
