"""Do the page of ``cnn-infer --html`` and the memory that it takes grow with the number of pictures?

    python benchmarks/page.py MODEL PICTURES --counts 10000 100000 --output page.json

PICTURES holds CLASS/PICTURE with the classes of MODEL. Each run classifies a temporary folder of links to its files,
which count as pictures of their own, once with ``--html`` and once without. The exit code is 1 if a page has more than
``--most`` megabytes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from links import link_pictures, picture_files
from memory import peaks
from report import conditions, parser, run_script, write


def run(model: Path, pictures: Path, wanted: int) -> dict[str, Any]:
    """Classify ``wanted`` links with and without a page, and return the row of the report."""
    with tempfile.TemporaryDirectory() as place:
        link_pictures(picture_files(pictures), pictures, wanted, Path(place, "pictures"))
        command = [sys.executable, "-m", "cnn_infer", f"{place}/pictures", "--model", str(model), "--threads", "1"]
        page = Path(place, "page.html")
        plain = peaks([*command, "--output", f"{place}/rows"], None)
        most = peaks([*command, "--output", f"{place}/rows-of-page", "--html", str(page)], None)
        return {"pictures": wanted, "page_mb": page.stat().st_size / 1e6, **most, "without_page": plain}


def main() -> None:
    """Print a table; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", type=Path, help="an .onnx file that cnn-export wrote")
    arguments.add_argument("pictures", type=Path, help="a folder with CLASS/PICTURE")
    arguments.add_argument("--counts", type=int, nargs="+", default=[10_000, 100_000], help="pictures of each run")
    arguments.add_argument("--most", type=float, default=5.0, help="largest page in megabytes")
    options = arguments.parse_args()
    rows = [run(options.model, options.pictures, wanted) for wanted in options.counts]
    for row in rows:
        print(
            f"{row['pictures']:>9,} pictures: a page of {row['page_mb']:.2f} MB; {row['anonymous_mb']:,.0f} MB of "
            f"anonymous memory, {row['without_page']['anonymous_mb']:,.0f} MB without a page"
        )
    packages = ("cnn-infer", "numpy", "pillow", "Jinja2")
    write(options.output, {**conditions("page.py MODEL PICTURES", packages, counts=options.counts), "rows": rows})
    if max(row["page_mb"] for row in rows) > options.most:
        sys.exit(f"a page has more than {options.most:g} MB")


if __name__ == "__main__":
    run_script(main)
