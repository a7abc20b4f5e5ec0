"""Train and export every preset on every data set, and compare the test accuracy of int8 with that of fp32.

    python benchmarks/presets.py fashion-mnist cifar10=FOLDER digits --folder presets --output presets.json
    python benchmarks/int8.py presets/* --output int8.json

All settings are the defaults, and the real commands run. DATA is a data set that cnn-train knows, or NAME=FOLDER. Runs
that are already in --folder are kept, so an interrupted benchmark resumes. ``lost`` counts the test pictures that only
fp32 classifies correctly, ``won`` those that only int8 does; p is the p-value of McNemar's test. The int8 candidate was
chosen on the validation split, never on the test split.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from processes import run
from report import conditions, parser, write

PRESETS = ("nano", "small", "base")


def entry(name: str, folder: Path) -> dict[str, Any]:
    """The row of an exported run, from its reports."""
    export, report = (
        json.loads((folder / file).read_text(encoding="utf-8")) for file in ("export.json", "report.json")
    )
    int8, test = export["int8"], export["int8"]["test"]
    content = {file: (folder / file).stat().st_size for file in (export["fp32"]["file"], int8["file"])}
    return {
        "run": folder.name,
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
        "bytes_without_metadata": [bytes_without_metadata(folder / file) for file in content],
        "parity": export["parity"]["probabilities"]["max"],
    }


def bytes_without_metadata(model: Path) -> int:
    """The size of a model file without its metadata (specification, golden pictures)."""
    import onnx

    loaded = onnx.load(model)
    del loaded.metadata_props[:]
    return len(loaded.SerializeToString())


def line(found: dict[str, Any]) -> str:
    """A row as one line of text."""
    small, large = found["bytes_without_metadata"][1], found["bytes_without_metadata"][0]
    return (
        f"{found['run']:<28} {found['accuracy_fp32']:.2%} fp32  {found['accuracy_int8']:.2%} int8 "
        f"(-{found['lost']} +{found['won']}, p {found['mcnemar_p']:.2f})  {found['recipe']:<40} "
        f"{'ships' if found['ships'] else 'NOT shipped'}, {min(found['speedup'].values()):.2f}x, "
        f"file {small / large:.3f} of fp32"
    )


def main() -> None:
    """Train and export the missing runs, and print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("data", nargs="+", metavar="DATA", help="a data set, or NAME=FOLDER")
    arguments.add_argument("--models", nargs="+", default=PRESETS, help="presets to train")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0], help="a training for each random seed")
    arguments.add_argument("--folder", required=True, type=Path, help="folder of the runs")
    options = arguments.parse_args()
    rows = []
    for data in options.data:
        name, _, place = data.rpartition("=")
        for model in options.models:
            for seed in options.seeds:
                folder = options.folder / f"{Path(name or place).name}-{model}-{seed}"
                python = [sys.executable, "-m"]
                if not (folder / "report.json").exists():
                    settings = ["--model", model, "--seed", str(seed), "--out", str(folder), "--overwrite"]
                    run([*python, "cnn_train", place, *settings])
                if not (folder / "export.json").exists():
                    run([*python, "cnn_export", str(folder), "--quantize"])
                rows.append(entry(name or place, folder))
                print(line(rows[-1]), flush=True)
    data = [f"{text.rpartition('=')[0]}=FOLDER" if "=" in text else text for text in options.data]
    head = conditions(
        f"presets.py {' '.join(data)}",
        ("cnn-export", "torch", "onnxruntime"),
        models=options.models,
        seeds=options.seeds,
        folder="FOLDER",
    )
    write(options.output, {**head, "rows": rows})


if __name__ == "__main__":
    main()
