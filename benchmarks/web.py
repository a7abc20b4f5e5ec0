"""Compare the page of cnn-export --web with cnn-infer in Chromium: pixels, answers, decoders, weight and speed.

    python benchmarks/web.py RUN --pictures PICTURES... --limit 1000 --output web.json

Each folder of PICTURES counts as one set, of which at most ``--limit`` pictures are used, evenly spread. 1 of 10 is
also saved as PNG. The page's own reader decodes each file; so does the browser (createImageBitmap and a canvas), with
the resize of the reader or that of the canvas behind it. All go through the same model in the same browser; the files
also through cnn-infer. Times are medians in turn. On a busy machine only their ratios mean something.
``1 thread`` is a page without headers, ``threads`` one that is isolated by COOP and COEP.

Needs ``make web``, Chromium, and ``npm ci --prefix tests/browser --ignore-scripts``.
"""

from __future__ import annotations

import functools
import gzip
import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from cnn_export.web.site import write_site
from cnn_infer import Classifier
from cnn_infer.proof.conformance import recorded
from links import picture_files
from PIL import Image
from report import conditions, parser, run_script, write

ROOT = Path(__file__).parent.parent
VISIT = ROOT / "tests" / "browser" / "visit.mjs"
SCRIPT = ROOT / "benchmarks" / "web_page.mjs"
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
PNG_STEP = 10
HANGS_AFTER = 900


@contextmanager
def served(folder: Path, headers: dict[str, str]) -> Iterator[str]:
    """Serve a folder on this machine; yield its address."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def visited(address: str, names: list[str]) -> dict[str, Any]:
    """Open the page in Chromium and measure there."""
    view = {"target": address, "width": 1280, "scheme": "light", "script": str(SCRIPT), "files": names}
    job = {"chromium": shutil.which("chromium"), "views": [view]}
    command = ["node", str(VISIT)]
    done = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, timeout=HANGS_AFTER, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)[0]["result"]
    return found


def copied(pictures: Path, limit: int, out: Path) -> list[str]:
    """Copy pictures into the page's folder, some also as PNG; return their paths below the page."""
    files = picture_files(pictures)
    chosen = [Path(files[at]) for at in np.linspace(0, len(files) - 1, min(limit, len(files))).astype(int)]
    folder = out / "pictures" / pictures.name
    folder.mkdir(parents=True)
    names = []
    for number, path in enumerate(chosen):
        target = folder / f"{number}{path.suffix.lower()}"
        shutil.copyfile(path, target)
        names.append(target.relative_to(out).as_posix())
        if number % PNG_STEP == 0:
            with Image.open(path) as picture:
                picture.convert("RGB").save(target.with_suffix(".png"))
            names.append(target.with_suffix(".png").relative_to(out).as_posix())
    return names


def compared(page: Path, names: list[str], theirs: list[dict[str, Any]], used: Classifier) -> list[dict[str, Any]]:
    """Counts of a set of pictures, by the kind of file and the way to decode it."""
    spec = used.spec
    found: dict[tuple[str, str], list[tuple[bool, bool, float, float]]] = {}
    for name, one in zip(names, theirs, strict=True):
        data = (page / name).read_bytes()
        stage = recorded(data, spec)["resize"]
        top = dict(used.predict(data).top)
        ours = np.array([top[label] for label in spec.classes])
        for way, answer in one.items():
            row = np.array(answer["probabilities"])
            key = (Path(name).suffix[1:].upper().replace("JPEG", "JPG"), way)
            agrees = bool(ours.argmax() == row.argmax())
            gap = float(np.abs(ours - row).max())
            found.setdefault(key, []).append((answer["sha256"] == stage.sha256, agrees, gap, answer["off"]))
    return [
        {
            "kind": kind,
            "decoder": way,
            "pictures": len(rows),
            "equal_pixels": sum(row[0] for row in rows),
            "same_class": sum(row[1] for row in rows),
            "largest_probability_difference": max(row[2] for row in rows),
            "mean_pixel_difference": float(np.mean([row[3] for row in rows])),
        }
        for (kind, way), rows in found.items()
    ]


def weights(page: Path, fetched: list[str]) -> dict[str, int]:
    """Bytes of the files that a first visit fetches, as they are and with gzip."""
    files = [page / name for name in {*fetched, "index.html"} if (page / name).is_file()]
    contents = [path.read_bytes() for path in files]
    return {
        "files": len(files),
        "bytes": sum(map(len, contents)),
        "gzip": sum(len(gzip.compress(content, 9)) for content in contents),
    }


def main() -> None:
    """Measure and report."""
    options = parser(__doc__)
    options.add_argument("run", type=Path)
    options.add_argument("--pictures", type=Path, nargs="+", required=True)
    options.add_argument("--limit", type=int, default=1000)
    args = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        page = Path(temporary) / "page"
        write_site(page, args.run)
        sets = {folder.name: copied(folder, args.limit, page) for folder in args.pictures}
        names = [name for files in sets.values() for name in files]
        with served(page, {}) as address:
            plain = visited(address, names)
        with served(page, ISOLATED) as address:
            isolated = visited(address, [])
        classes = len(plain["classes"])
        used = Classifier(page / plain["used"], top=classes, device="cpu")
        pictures, at = [], 0
        for name, files in sets.items():
            for row in compared(page, files, plain["pictures"][at : at + len(files)], used):
                pictures.append({"set": name, **row})
                print(pictures[-1], flush=True)
            at += len(files)
        speed = {name: seen["speed"] for name, seen in (("1 thread", plain), ("threads", isolated))}
        document = {
            **conditions(
                "web.py RUN", ("cnn-export", "onnxruntime"), pictures="PICTURES", limit=args.limit, output="web.json"
            ),
            "browser": plain["browser"],
            "model": plain["used"],
            "pictures": pictures,
            "weight": weights(page, plain["fetched"]),
            "speed": speed,
        }
    print(json.dumps({name: document[name] for name in ("browser", "model", "weight", "speed")}, indent=1))
    write(args.output, document)


if __name__ == "__main__":
    run_script(main)
