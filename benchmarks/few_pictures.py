"""All rows of benchmarks/train.py with few pictures, one after the other, and their picture.

    python benchmarks/few_pictures.py --ants-bees FOLDER --cifar10 FOLDER --machine epyc_zen5

Each row writes train_ROW_MACHINE.json beside the other results. Rows whose file exists are skipped, so an interrupted
measurement continues. It needs a quiet machine: on two cores the rows take about three hours.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from figures import RESULTS
from report import parser, run_script
from train_rows import ROWS

SCRIPT = Path(__file__).parent / "train.py"


def main() -> None:
    """Measure the rows, then draw them."""
    parsing = parser(__doc__)
    parsing.add_argument(
        "--ants-bees", type=Path, metavar="FOLDER", help="with train/ and val/, and in each ants/, bees/"
    )
    parsing.add_argument("--cifar10", type=Path, metavar="FOLDER", help="with train/ and test/, as JPEG or PNG files")
    parsing.add_argument("--machine", required=True, help="ends the names of the reports")
    parsing.add_argument("--seeds", nargs="+", default=["0", "1", "2"], help="a training for each random seed")
    parsing.add_argument("--results", type=Path, default=RESULTS, help="where the reports and the picture are written")
    options = parsing.parse_args()
    runs = options.results / "runs.partial"
    folders = {"ants-bees": options.ants_bees, "cifar10": options.cifar10}
    for name, row in ROWS.items():
        report = options.results / f"train_{name.replace('-', '_')}_{options.machine}.json"
        if row.per_class is None or folders[row.data] is None or report.exists():
            continue
        partial = report.with_suffix(".partial")  # train.py writes after each seed
        place = ["--data", str(folders[row.data]), "--output", str(partial), "--runs", str(runs)]
        subprocess.run([sys.executable, str(SCRIPT), name, *place, "--seeds", *options.seeds], check=True)
        partial.rename(report)
    shutil.rmtree(runs, ignore_errors=True)
    drawn = options.results / "few_pictures.png"
    subprocess.run(
        [sys.executable, str(SCRIPT), "--draw-few", str(drawn), "--results", str(options.results)], check=True
    )


if __name__ == "__main__":
    run_script(main)
