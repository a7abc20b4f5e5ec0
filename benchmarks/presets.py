"""Every preset on every data set: trained, exported, and what int8 costs in accuracy on the whole test split.

    python benchmarks/presets.py fashion-mnist cifar10=FOLDER digits --folder presets --output presets.json
    python benchmarks/int8.py presets/* --output int8.json

All with default settings, through the real commands. DATA is what cnn-train takes, or NAME=FOLDER. A run that is
already in --folder is kept, so what was cut off goes on. ``lost`` and ``won`` count the test pictures that only fp32,
or only int8, gets right; p is that of McNemar's test. The candidate was chosen on validation, never on test.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from conditions import conditions

PRESETS = ("nano", "small", "base")


def tell(*command: str) -> None:
    """Run a command, or end with its exit code."""
    code = subprocess.run([sys.executable, "-m", *command], check=False).returncode
    if code:
        sys.exit(code)


def entry(name: str, run: Path) -> dict[str, Any]:
    """What the export says of a run."""
    export, report = (json.loads((run / file).read_text(encoding="utf-8")) for file in ("export.json", "report.json"))
    int8, test = export["int8"], export["int8"]["test"]
    content = {file: (run / file).stat().st_size for file in (export["fp32"]["file"], int8["file"])}
    return {
        "run": run.name,
        "data": name,
        "parameters": report["parameters"],
        "epochs": report["epochs"],
        "images": test["images"],
        **{key: test[key] for key in ("accuracy_fp32", "accuracy_int8", "drop_points", "lost", "won", "mcnemar_p")},
        "recipe": int8["recipe"],
        "ships": int8["verdict"]["ships"],
        "reason": int8["verdict"]["reason"],
        "speedup": {str(row["batch_size"]): row["speedup"] for row in int8["latency"]},
        "bytes": list(content.values()),
        "bytes_without_metadata": [weight_of(run / file) for file in content],
        "parity": export["parity"]["probabilities"]["max"],
    }


def weight_of(model: Path) -> int:
    """Bytes of a file without what is only said of the model, golden pictures included."""
    import onnx

    loaded = onnx.load(model)
    del loaded.metadata_props[:]
    return len(loaded.SerializeToString())


def line(found: dict[str, Any]) -> str:
    """An entry for a person."""
    small, large = found["bytes_without_metadata"][1], found["bytes_without_metadata"][0]
    return (
        f"{found['run']:<28} {found['accuracy_fp32']:.2%} fp32  {found['accuracy_int8']:.2%} int8 "
        f"(-{found['lost']} +{found['won']}, p {found['mcnemar_p']:.2f})  {found['recipe']:<40} "
        f"{'ships' if found['ships'] else 'NOT shipped'}, {min(found['speedup'].values()):.2f}x, "
        f"file {small / large:.3f} of fp32"
    )


def main() -> None:
    """Train and export what is missing, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", metavar="DATA")
    parser.add_argument("--models", nargs="+", default=PRESETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folder", required=True, type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = []
    for data in options.data:
        name, _, place = data.rpartition("=")
        for model in options.models:
            for seed in options.seeds:
                run = options.folder / f"{Path(name or place).name}-{model}-{seed}"
                if not (run / "report.json").exists():
                    tell("cnn_train", place, "--model", model, "--seed", str(seed), "--out", str(run), "--overwrite")
                if not (run / "export.json").exists():
                    tell("cnn_export", str(run), "--quantize")
                rows.append(entry(name or place, run))
                print(line(rows[-1]), flush=True)
    if options.output is not None:
        data = [f"{text.rpartition('=')[0]}=FOLDER" if "=" in text else text for text in options.data]
        head = conditions(
            f"presets.py {' '.join(data)}",
            ("cnn-export", "torch", "onnxruntime"),
            models=options.models,
            seeds=options.seeds,
            folder="FOLDER",
        )
        options.output.write_text(json.dumps({**head, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
