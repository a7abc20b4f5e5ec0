"""The whole way on the digits that ship with scikit-learn: train, export, quantise, infer. ``make demo`` runs it.

What an earlier demo finished is not done again, so a second run takes seconds.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def step(*command: str) -> None:
    """Show a command, run it, and stop where it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    program = Path(sys.executable).with_name(command[0])
    code = subprocess.run([program, *command[1:]], check=False).returncode
    if code:
        sys.exit(code)


def main(folder: Path) -> None:
    """Fill ``folder`` with a run and test pictures, then print what the model gets right and how fast."""
    run, pictures, report = folder / "run", folder / "pictures", folder / "report.json"
    if not (run / "report.json").exists() or not pictures.exists():
        step("cnn-train", "--out", str(run), "--test-pictures", str(pictures), "--overwrite")
    if not (run / "export.json").exists():
        step("cnn-export", str(run), "--quantize")
    model = run / json.loads((run / "export.json").read_text(encoding="utf-8"))["ship"]
    rows = ("--format", "csv", "--output", str(folder / "rows.csv"))
    step("cnn-infer", str(pictures), "--model", str(model), *rows, "--report", str(report))
    found = json.loads(report.read_text(encoding="utf-8"))
    latency = found["latency_ms"]
    print(
        f"\n{found['images']} pictures, {model}: accuracy {found['accuracy']:.2%}, macro F1 {found['macro_f1']:.4f}"
        f"\nlatency: {latency['total']['p50']:.3f} ms a picture (p99 {latency['total']['p99']:.3f}), "
        f"the model {latency['model']['p50']:.3f} ms of it; {found['machine']}"
        f"\nlook at: {run}/curves.png confusion.png mistakes.png samples.png"
        "\nnext: . .venv/bin/activate && cnn-train --help"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
