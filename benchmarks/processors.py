"""Does an int8 model compute the same integers on other processors? QEMU emulates them, so speed is not measured.

    python benchmarks/processors.py RUN... --for any vnni avx2 --folder EXPORTS --predict --output processors.json
    python benchmarks/processors.py EXPORTED_RUN... --processors avx2 sse4.2

With --for, each RUN is a trained run. It is copied into the folder EXPORTS, once for each target, and exported there
with ``cnn-export --quantize --for TARGET``. Exports that are already there are kept. Without --for, each RUN is an
exported run. QEMU must be installed (on Debian and Ubuntu: apt install qemu-user-static). The environment for 64-bit
Arm is built in the folder --cache, without root; benchmarks/emulation.py says how.

Test pictures are drawn at random, the same for all targets. On each processor:

- a plain ONNX Runtime session gives the logits and probabilities of all pictures, from the file as it is;
- a second session gives the int8 tensors between the layers, which are compared by digest, picture by picture;
- ``cnn-infer`` classifies some of the pictures as files: JPEG files of a folder as they are, others as PNG files;
- ``cnn-infer --verify`` replays the pictures inside the model, stage by stage. ``stages`` counts those that agree.

Everything is compared with this machine. ``integers_equal`` and ``logits_equal`` count pictures; ``flips`` counts the
pictures of another class. --predict computes each file in integers on this machine (``cnn_export.int8.reference``):
exactly, and with sums of two products that saturate as on x86 with AVX2 and without VNNI. It does so *before* any
processor runs the file. ONNX Runtime for Linux has no saturating kernels for SSE: it multiplies in 16 bits and adds in
32 (``pmaddwd``), so the prediction for SSE4.2 is the exact one.

The exit code is 1 if a file made with ``--for any`` has other integers or another class on any processor, or fails
``--verify`` there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import emulation
import numpy as np
from cnn_infer.system import machine
from emulation import PROCESSORS, EmulationError
from exports import exported
from processor_jobs import Job, make_job, predict
from report import conditions, parser, run_script, write

IN_EMULATION = Path(__file__).with_name("run_emulated.py")
HERE = "this machine"


def python_on(name: str, cache: Path, *arguments: str | Path, codes: Sequence[int] = (0,)) -> str:
    """What Python prints on a processor. If it fails, exit with its error.

    Args:
        name: A key of PROCESSORS, or ``this machine``.
        cache: Folder of the emulated environments.
        arguments: Arguments of Python.
        codes: Exit codes that are no failure.
    """
    if name == HERE:
        command, environment = [sys.executable, *map(str, arguments)], None
    else:
        command = emulation.command(PROCESSORS[name], cache, *arguments)
        environment = emulation.environment(PROCESSORS[name], cache)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in codes:
        sys.exit(f"failed on {name} with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def command_on(name: str, cache: Path, job: Job) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run cnn-infer on the files of a job.

    Returns:
        The rows, and the certificate of ``--verify``.
    """
    certificate, files = job.folder / f"{name}.json", sorted((job.folder / "files").iterdir())
    arguments: list[str | Path] = ["-m", "cnn_infer", *files, "--model", job.folder / "model.onnx"]
    arguments += ["--format", "jsonl"] if files else []
    text = python_on(name, cache, *arguments, "--verify", "--certificate", certificate, codes=(0, 1))
    found = json.loads(certificate.read_text(encoding="utf-8"))
    if files and not found["passed"]:  # it classifies nothing after a failed check
        text = python_on(name, cache, *arguments)
    return [json.loads(line) for line in text.splitlines()], found


def compared(job: Job, name: str, rows: list[dict[str, Any]], rows_here: list[dict[str, Any]]) -> dict[str, Any]:
    """How the outputs of a processor differ from those of this machine: the row of the report."""
    found, here = job.result(name), job.result(HERE)
    integers = found["digests"] == here["digests"]
    classes = found["logits"].argmax(axis=1)
    pairs = list(zip(rows, rows_here, strict=True))
    apart = [tensor for tensor, equal in zip(job.tensors, integers.all(axis=0).tolist(), strict=True) if not equal]
    return {
        "run": job.run,
        "for": job.target,
        "floats": job.floats,
        "processor": name,
        "pictures": len(job.labels),
        "accuracy": float((classes == job.labels).mean()),
        "flips": int((classes != here["logits"].argmax(axis=1)).sum()),
        "int8_tensors": len(job.tensors),
        "integers_equal": int(integers.all(axis=1).sum()),
        "first_difference": apart[0] if apart else None,
        "logits_equal": int((found["logits"] == here["logits"]).all(axis=1).sum()),
        "taps_change_nothing": bool((found["logits"] == found["tapped"]).all()),
        "largest_difference": {
            kind: float(np.abs(found[kind] - here[kind]).max()) for kind in ("logits", "probabilities")
        },
        "files": len(rows),
        "rows_equal": sum(ours == theirs for ours, theirs in pairs),
        "rows_of_another_class": sum(ours["label"] != theirs["label"] for ours, theirs in pairs),
        "rows_largest_difference": max(
            (abs(ours["probability"] - theirs["probability"]) for ours, theirs in pairs), default=0.0
        ),
    }


def line(row: dict[str, Any]) -> str:
    """A row of the report as one line of text."""
    count, most = row["pictures"], row["largest_difference"]["logits"]
    text = (
        f"{row['run']:<24} {row['for']:<7} on {row['processor']:<12} "
        f"integers equal {row['integers_equal']:>5} of {count}, {row['flips']:>3} flips, logits within {most:.2g}, "
        f"accuracy {row['accuracy']:.2%}, {row['rows_equal']} of {row['files']} rows equal"
    )
    if row["first_difference"]:
        text += f", first difference in {row['first_difference']}"
    text += f", --verify {'passes' if row['verified'] else 'FAILS'}"
    if "prediction" in row:
        found = row["prediction"]
        text += f"; {found['arithmetic']} sums predict {found['logits_as_predicted']} of {count} logits"
    return text


def arguments_of(command: Sequence[str] | None = None) -> Any:
    """The command line."""
    arguments = parser(__doc__)
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    arguments.add_argument("--for", nargs="+", dest="targets", metavar="TARGET", help="export a copy for each of these")
    arguments.add_argument("--folder", type=Path, help="folder of the exported copies, with --for")
    arguments.add_argument("--search-seconds", type=float, help="time limit of each export, with --for")
    arguments.add_argument("--processors", nargs="+", choices=PROCESSORS, default=list(PROCESSORS), metavar="NAME")
    arguments.add_argument("--pictures", type=int, default=1000, help="test pictures (default: 1000)")
    arguments.add_argument("--files", type=int, default=100, help="test pictures for cnn-infer (default: 100)")
    arguments.add_argument("--predict", action="store_true", help="predict the outputs before any processor runs")
    arguments.add_argument("--cache", type=Path, default=emulation.CACHE, help="folder of the emulated environments")
    options = arguments.parse_args(command)
    if (options.targets is None) != (options.folder is None):
        arguments.error("--for and --folder need each other")
    return options


def prediction_held(job: Job, name: str) -> dict[str, Any]:
    """How the predictions compare with what a processor computed.

    Returns:
        ``saturated``: pictures whose logits differ from those of exact sums. ``flips_*``: pictures whose class differs
        from that of exact sums: as predicted, as found, and in both. ``*_as_predicted``: pictures.
    """
    saturating = name == "avx2" or (name == HERE and machine.instruction_set() == "avx2")
    exact, expected = job.predicted("exact"), job.predicted("saturating" if saturating else "exact")
    found = job.result(name)["logits"]
    classes, usual = found.argmax(axis=1), exact.argmax(axis=1)
    flips, foreseen = classes != usual, expected.argmax(axis=1) != usual
    return {
        "arithmetic": "saturating" if saturating else "exact",
        "saturated": int((found != exact).any(axis=1).sum()),
        "flips_predicted": int(foreseen.sum()),
        "flips_found": int(flips.sum()),
        "flips_in_both": int((flips & foreseen).sum()),
        "classes_as_predicted": int((classes == expected.argmax(axis=1)).sum()),
        "logits_as_predicted": int((found == expected).all(axis=1).sum()),
        "largest_difference": float(np.abs(found - expected).max()),
    }


def measure(
    jobs: Sequence[Job], names: Sequence[str], cache: Path, *, predicted: bool
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run all jobs on all processors and print a line for each pair.

    Returns:
        The rows of the report, and what each processor is.
    """
    rows, processors = [], {}
    rows_here: dict[Path, list[dict[str, Any]]] = {}
    for name in (HERE, *names):
        said = python_on(name, cache, IN_EMULATION, name, *(job.folder for job in jobs))
        processors[name] = json.loads(said)
        if name != HERE:
            processor = PROCESSORS[name]
            processors[name] |= {"title": processor.title, "qemu_cpu": processor.cpu}
        for job in jobs:
            found, certificate = command_on(name, cache, job)
            row = compared(job, name, found, rows_here.setdefault(job.folder, found))
            row["verified"] = certificate["passed"]
            row["stages"] = {entry["stage"]: [entry["agreed"], entry["compared"]] for entry in certificate["stages"]}
            if predicted:
                row["prediction"] = prediction_held(job, name)
            rows.append(row)
            print(line(row), flush=True)
    return rows, processors


def main() -> int:
    """Print a line for each model file and processor; with --output also write the JSON."""
    options = arguments_of()
    try:
        for architecture in sorted({PROCESSORS[name].architecture for name in options.processors}):
            emulation.prepare(architecture, options.cache)
        version = emulation.emulator_version(PROCESSORS[options.processors[0]].architecture)
    except EmulationError as error:
        print(f"processors.py: {error}", file=sys.stderr)
        return 2
    runs = options.runs
    if options.targets:
        pairs = [(run, target) for run in runs for target in options.targets]
        runs = [exported(*pair, options.folder, options.search_seconds) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        jobs = [
            make_job(run, options.pictures, options.files, Path(folder) / str(number))
            for number, run in enumerate(runs)
        ]
        if options.predict:
            for job in jobs:
                predict(job)
        rows, processors = measure(jobs, options.processors, options.cache, predicted=options.predict)
    head = conditions(
        "processors.py RUN...",
        ("cnn-export", "onnxruntime", "numpy", "pillow", "simplejpeg"),
        **{"for": options.targets},
        folder=options.folder and "EXPORTS",
        search_seconds=options.search_seconds,
        pictures=options.pictures,
        files=options.files,
        processors=options.processors,
    )
    if options.predict:
        head["command"] += " --predict"
    write(options.output, {**head, "qemu": version, "processors": processors, "rows": rows})
    same = (
        not row["flips"] and row["verified"] and row["integers_equal"] == row["pictures"]
        for row in rows
        if row["for"] == "any"
    )
    return 0 if all(same) else 1


if __name__ == "__main__":
    run_script(main)
