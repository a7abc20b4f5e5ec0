"""The whole workflow on the digits that come with scikit-learn: train, export, quantize, classify.

``make demo`` runs it. Steps that an earlier demo finished are skipped, so a second run takes seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from processes import run


def step(*command: str) -> None:
    """Print a command and run it; stop the demo if it fails."""
    print(f"\n$ {' '.join(command)}", flush=True)
    run([str(Path(sys.executable).with_name(command[0])), *command[1:]])


def main(folder: Path) -> None:
    """Create a run and test pictures in ``folder``, classify them, and print accuracy and latency."""
    trained, pictures, report = folder / "run", folder / "pictures", folder / "report.json"
    if not (trained / "report.json").exists() or not pictures.exists():
        step("cnn-train", "--out", str(trained), "--test-pictures", str(pictures), "--overwrite")
    if not (trained / "export.json").exists():
        step("cnn-export", str(trained), "--quantize")
    model = trained / json.loads((trained / "export.json").read_text(encoding="utf-8"))["ship"]
    rows = ("--format", "csv", "--output", str(folder / "rows.csv"))
    step("cnn-infer", str(pictures), "--model", str(model), *rows, "--report", str(report))
    found = json.loads(report.read_text(encoding="utf-8"))
    latency = found["latency_ms"]
    print(
        f"\n{found['images']} pictures, {model}: accuracy {found['accuracy']:.2%}, macro F1 {found['macro_f1']:.4f}"
        f"\nlatency: {latency['total']['p50']:.3f} ms a picture (p99 {latency['total']['p99']:.3f}), "
        f"of which the model takes {latency['model']['p50']:.3f} ms; {found['machine']}"
        f"\nsee in {trained}: curves.png confusion.png mistakes.png samples.png"
        "\nnext: . .venv/bin/activate && cnn-train --help"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default="demo", help="for the run and the pictures")
    main(parser.parse_args().folder)
