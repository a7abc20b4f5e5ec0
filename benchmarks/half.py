"""fp16 beside fp32 on whole test splits: file sizes, accuracy, changed classes, and differences of the logits.

    python benchmarks/half.py RUN... --output benchmarks/results/half_epyc_zen5.json

Each RUN is a run folder of cnn-train whose data set is still in place. It is not changed: a copy is exported with
``--half``. The figures do not depend on how busy the machine is.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from cnn_export import export
from cnn_infer import EdgeCNNError
from report import conditions, parser, run_script, write


def main() -> None:
    """Export each run, print its row, and write the rows."""
    parsing = parser(__doc__)
    parsing.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run folder")
    options = parsing.parse_args()
    rows = []
    for run in options.runs:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = export(shutil.copytree(run, Path(folder, "run")), half=True)
            except (EdgeCNNError, FileNotFoundError) as error:
                parsing.error(f"{run}: {error}")
        if found.half is None:
            raise AssertionError("an export with half=True has the fp16 model")
        figures = asdict(found.half)
        del figures["test_flips"]
        rows.append({"run": run.resolve().name, "bytes": found.bytes, "half": figures})
        print(f"{rows[-1]['run']:<28} {found.half.logits['relative']:.4f} of {found.half.tolerance:.4f}", flush=True)
    packages = ("cnn-export", "onnxruntime", "onnx", "torch", "numpy")
    write(options.output, {**conditions("half.py RUN...", packages), "rows": rows})


if __name__ == "__main__":
    run_script(main)
