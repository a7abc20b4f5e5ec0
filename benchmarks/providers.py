"""OpenVINO beside the CPU provider: the same classes, and how long a run takes at batch 1, 64 and 256, on one thread.

    python benchmarks/providers.py RUN... --python PYTHON --output providers.json

Each RUN is a folder that cnn-export --quantize wrote. PYTHON is the interpreter of an environment with cnn-infer and
onnxruntime-openvino, whose ONNX Runtime may be another version than here. The pictures are the first 1,000 of the test
split; the golden pictures inside the file are replayed too (``verified``). Every file is opened in four processes: on
the CPU here, on the CPU here with bound memory, on the CPU there, and on OpenVINO there. They are timed in turn, in an
order that changes from round to round. ``ms`` and ``fastest`` are of each one's fastest round, which other work on the
machine disturbs least; ``median`` and ``quartiles`` are of the ratios of two times of one round. OpenVINO in bfloat16,
which is off unless it is asked for, is only compared, not timed. The exit code is 1 if fp32 on OpenVINO gives another
class than here.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cnn_export.run_data import open_run_source, read_test_split
from cnn_train import Run
from report import conditions, parser, run_script, short, write

PICTURES, BATCHES, ROUNDS, SECONDS = 1000, (1, 64, 256), 7, 0.12
WORKER = Path(__file__).with_name("run_on_device.py")
BFLOAT16 = {"load_config": json.dumps({"CPU": {"INFERENCE_PRECISION_HINT": "bf16"}})}


class Worker:
    """A process that has a model open on a device."""

    def __init__(self, python: Path, model: Path, device: str, options: dict[str, str], folder: Path) -> None:
        target = Path(tempfile.mkdtemp(dir=folder)) / "found.npy"
        command = [str(python), str(WORKER), str(model), device, json.dumps(options), str(folder / "pictures.npy")]
        self.process = subprocess.Popen(
            [*command, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{python} does not open {model} on {device}: run cnn-infer --doctor there")
        self.facts: dict[str, Any] = json.loads(line)
        self.probabilities = np.load(target)

    def milliseconds(self, batch: int) -> float:
        """The median time of a run."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps([batch, SECONDS]), file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def agreement(found: np.ndarray, wanted: np.ndarray) -> dict[str, Any]:
    """How far the probabilities of a worker are from those here."""
    other = int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
    return {"other_classes": other, "largest_difference": float(np.abs(found - wanted).max())}


def timed(workers: dict[str, Worker]) -> list[dict[str, Any]]:
    """An entry for each batch size: milliseconds of each worker, and how they compare with the CPU here."""
    entries = []
    names = list(workers)
    for batch in BATCHES:
        spent: dict[str, list[float]] = {name: [] for name in names}
        for number in range(ROUNDS):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                spent[name].append(workers[name].milliseconds(batch))
        entry: dict[str, Any] = {
            "batch": batch,
            "ms": {name: round(min(times), 4) for name, times in spent.items()},
        }
        for name in names[1:]:
            ratios = [here / there for here, there in zip(spent[names[0]], spent[name], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            entry[f"speed_{name}"] = {
                "fastest": round(min(spent[names[0]]) / min(spent[name]), 3),
                "median": round(middle, 3),
                "quartiles": [round(low, 3), round(high, 3)],
            }
        entries.append(entry)
    return entries


def measure(model: Path, python: Path, folder: Path) -> dict[str, Any]:
    """The row of one file."""
    here = Path(sys.executable)
    workers = {
        "cpu": Worker(here, model, "cpu", {}, folder),
        "cpu_bound": Worker(here, model, "cpu", {"io_binding": "on"}, folder),
        "cpu_there": Worker(python, model, "cpu", {}, folder),
        "openvino": Worker(python, model, "openvino", {}, folder),
    }
    rounded = Worker(python, model, "openvino", BFLOAT16, folder)
    wanted = workers["cpu"].probabilities
    row = {
        "model": short(model),
        "precision": workers["cpu"].facts["precision"],
        "pictures": len(wanted),
        "onnxruntime": workers["cpu"].facts["onnxruntime"],
        "onnxruntime_there": workers["openvino"].facts["onnxruntime"],
        "nodes": workers["openvino"].facts["nodes"],
        "openvino": agreement(workers["openvino"].probabilities, wanted)
        | {"verified": workers["openvino"].facts["verified"]},
        "openvino_bfloat16": agreement(rounded.probabilities, wanted) | {"verified": rounded.facts["verified"]},
        "cpu_bound": agreement(workers["cpu_bound"].probabilities, wanted),
        "latency": timed(workers),
    }
    for worker in (*workers.values(), rounded):
        worker.close()
    return row


def failed(row: dict[str, Any]) -> bool:
    """Whether OpenVINO gives another class where it computes as exactly as ONNX Runtime: in fp32."""
    return bool(row["precision"] == "fp32" and row["openvino"]["other_classes"])


def main() -> int:
    """Print a line for each file and batch size; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="an exported run folder")
    arguments.add_argument("--python", required=True, type=Path, help="the Python of the environment with OpenVINO")
    options = arguments.parse_args()
    rows = []
    for path in options.runs:
        run = Run.open(path)
        pictures = read_test_split(run, open_run_source(run, None)).images[:PICTURES]
        for model in sorted(path.glob("model*.onnx")):
            with tempfile.TemporaryDirectory() as name:
                np.save(Path(name) / "pictures.npy", pictures)
                row = measure(model, options.python, Path(name))
            rows.append(row)
            for key in ("openvino", "openvino_bfloat16"):
                text = "{other_classes} other classes, probabilities within {largest_difference:.2g}".format(**row[key])
                print(f"{row['model']} {key}: {text}, verified: {all(row[key]['verified'].values())}", flush=True)
            for entry in row["latency"]:
                speeds = ", ".join(
                    f"{key.removeprefix('speed_')} {value['fastest']:.2f}x"
                    for key, value in entry.items()
                    if key.startswith("speed_")
                )
                print(f"  batch {entry['batch']}: {entry['ms']['cpu']:.3f} ms on the CPU here; {speeds}", flush=True)
    write(options.output, {**conditions("providers.py RUN... --python PYTHON", ("cnn-infer", "numpy")), "rows": rows})
    return 1 if any(map(failed, rows)) else 0


if __name__ == "__main__":
    run_script(main)
