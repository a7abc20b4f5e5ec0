"""Compare the reader in JavaScript with cnn_infer: pixels, rows, damaged files and speed.

    python benchmarks/javascript.py pixels --output javascript_pixels.json
    python benchmarks/javascript.py rows --model MODEL --pictures PICTURES --output javascript_rows.json
    python benchmarks/javascript.py fuzz --inputs 10000 --output javascript_fuzz.json
    python benchmarks/javascript.py speed --model MODEL --pictures PICTURES --output javascript_speed.json

``pixels`` resizes 500 pictures of random sizes with each filter in each mode, and decodes every PNG, GIF, BMP, TIFF and
JPEG file that the tests of cnn_infer can draw. ``rows`` compares the rows of both commands byte for byte. ``fuzz``
decodes files with one to eight changes in both. ``speed`` runs both commands in turn on one thread: cold start (one
picture), resident memory, and pictures a second without the start, by the clock and by processor time, which a busy
machine changes less. ``--web FOLDER`` adds onnxruntime-web: a copy of readers/js in which it is installed. The reader
needs its packages: ``npm ci --prefix readers/js --ignore-scripts``.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import random
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, get_args

import fuzz
import numpy as np
from cnn_infer import EdgeCNNError, Spec
from cnn_infer.pixels.resize import fitted
from cnn_infer.proof.conformance import recorded
from cnn_infer.spec import Filter, Resize
from links import picture_files
from PIL import Image
from processes import Finished, in_own_process, measured
from report import conditions, parser, run_script, short, write

ROOT = Path(__file__).parent.parent
READER = ROOT / "readers" / "js"
SHAPES = 500
LARGEST = 300
"""Longest side of a random picture, in pixels."""

SPEC = Spec(("a", "b"), 16, 16, "rgb", "crop", "bilinear", 0, 1.0)
ROUNDS = 5
MAGIC = {b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"RIFF": "WebP", b"II*": "TIFF"}
HANGS_AFTER = 600


def node(script: Path, *arguments: object, job: object = None) -> list[str]:
    """Run a script of the reader; return the lines that it prints."""
    done = subprocess.run(
        ["node", str(script), *map(str, arguments)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=HANGS_AFTER,
        check=True,
    )
    return done.stdout.splitlines()


def resizes() -> list[dict[str, Any]]:
    """Equal results of the resize, by filter and mode."""
    chance = np.random.default_rng(0)
    found = []
    for filter_ in get_args(Filter):
        for resize in get_args(Resize):
            cases, expected, at = [], [], 0
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                with (folder / "samples").open("wb") as samples:
                    for number in range(SHAPES):
                        height, width = (int(side) for side in chance.integers(1, LARGEST, 2))
                        new_height, new_width = (int(side) for side in chance.integers(1, 65, 2))
                        grey = number % 2 == 1
                        colour = "grey" if grey else "rgb"
                        spec = Spec(("a", "b"), new_height, new_width, colour, resize, filter_, 0, 1.0)  # type: ignore[arg-type]
                        picture = chance.integers(0, 256, (height, width, spec.channels), np.uint8)
                        samples.write(picture.tobytes())
                        pixels = fitted(picture[:, :, 0] if grey else picture, spec)
                        expected.append(hashlib.sha256(pixels.tobytes()).hexdigest())
                        cases.append({"at": at, "width": width, "height": height, "spec": asdict(spec)})
                        at += picture.size
                (folder / "cases.json").write_text(json.dumps(cases))
                lines = node(READER / "bench" / "resizes.js", folder)
            equal = sum(a == b for a, b in zip(lines, expected, strict=True))
            found.append({"filter": filter_, "resize": resize, "shapes": SHAPES, "equal": equal})
            print(found[-1])
    return found


def drawn_files() -> Iterator[tuple[str, bytes]]:
    """Kind and bytes of each file that the tests of cnn_infer draw."""
    sys.path.insert(0, str(ROOT / "tests" / "infer" / "pixels"))
    import jpeg_writer
    import test_combinations as combinations
    import test_jpeg_combinations as jpegs

    for kind in ("PNG", "GIF", "BMP", "TIFF"):
        for one in getattr(combinations, f"{kind.lower()}s")():
            yield kind, one.data
    yield from _webps()
    for number, (colour, sampling, coding) in enumerate(jpegs.KINDS):
        for size in jpegs.SIZES:
            data, _ = jpegs.drawn(colour, sampling, coding, size)
            yield f"JPEG, {colour}", data[:2] + jpeg_writer.exif(number % 8 + 1) + data[2:]


def _webps() -> Iterator[tuple[str, bytes]]:
    chance = np.random.default_rng(0)
    for mode, lossless, quality, side in product(("RGB", "RGBA"), (False, True), (10, 60, 95), (1, 2, 17, 40, 131)):
        samples = chance.integers(0, 256, (side, 2 * side + 1, len(mode)), np.uint8)
        stream = io.BytesIO()
        Image.fromarray(samples).resize((3 * side, 2 * side)).save(stream, "WEBP", quality=quality, lossless=lossless)
        yield "WebP", stream.getvalue()


def compare(files: Iterable[tuple[str, bytes]]) -> tuple[list[dict[str, Any]], float]:
    """Decode files in both; return counts by kind, and the longest time of a file in JavaScript in milliseconds."""
    counts: dict[str, Counter[str]] = {}
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        kinds, paths = [], []
        for number, (kind, data) in enumerate(files):
            path = Path(name) / str(number)
            path.write_bytes(data)
            kinds.append(kind)
            paths.append(str(path))
        lines = node(READER / "bench" / "stages.js", job={"spec": asdict(SPEC), "files": paths})
        for kind, path, line in zip(kinds, paths, lines, strict=True):
            theirs = json.loads(line)
            slowest = max(slowest, theirs["ms"])
            counts.setdefault(kind, Counter())[_verdict(Path(path).read_bytes(), theirs)] += 1
    return [{"kind": kind, "files": count.total(), **count} for kind, count in counts.items()], slowest


def _verdict(data: bytes, theirs: dict[str, Any]) -> str:
    try:
        stages = recorded(data, SPEC)
    except EdgeCNNError:
        return "refused by both" if "error" in theirs else "refused by cnn_infer alone"
    if "error" in theirs:
        named = theirs["error"].startswith("this reader does not decode")
        return "not decoded here, said so" if named else "refused by the reader alone"
    ours = {stage: [one.mode, *one.size, one.sha256] for stage, one in stages.items()}
    return "equal" if ours["resize"] == theirs["stages"]["resize"] else "different pixels"


def commands(args: argparse.Namespace, pictures: Path | str) -> dict[str, list[str]]:
    """The command line of each reader, by name."""
    python = [str(Path(sys.executable).with_name("cnn-infer")), "--model", str(args.model), "--threads", "1"]
    found = {"cnn-infer": [*python, "--format", "csv", "--labels", "none", "--device", "cpu", str(pictures)]}
    found["edgecnn, onnxruntime-node"] = ["node", str(READER / "bin/edgecnn.js"), str(args.model), str(pictures)]
    if args.web is not None:
        script = [str(args.web / "bin/edgecnn.js"), str(args.model), str(pictures), "--runtime", "web"]
        found["edgecnn, onnxruntime-web"] = ["node", *script]
    return found


def rows(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of each reader that are equal to those of cnn-infer, byte for byte."""
    outputs = {
        name: subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
        for name, command in commands(args, args.pictures).items()
    }
    first = outputs.pop("cnn-infer")
    return [
        {
            "reader": name,
            "rows": len(first) - 1,
            "equal": sum(a == b for a, b in zip(first[1:], lines[1:], strict=True)),
            "same_label": sum(_label(a) == _label(b) for a, b in zip(first[1:], lines[1:], strict=True)),
        }
        for name, lines in outputs.items()
    ]


def _label(row: bytes) -> bytes:
    return row.split(b",", 2)[1]


def _median(runs: list[Finished], kind: str) -> float:
    return float(statistics.median(getattr(run, kind) for run in runs))


def speed(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Cold start, resident memory and pictures a second, measured in turn; medians."""
    files = picture_files(args.pictures)
    singles, wholes = commands(args, files[0]), commands(args, args.pictures)
    starts: dict[str, list[Finished]] = {name: [] for name in wholes}
    runs: dict[str, list[Finished]] = {name: [] for name in wholes}
    for _ in range(ROUNDS):
        for name in wholes:
            starts[name].append(in_own_process(measured, singles[name]))
            runs[name].append(in_own_process(measured, wholes[name]))
    found = []
    for name in wholes:
        start, begun = (_median(starts[name], kind) for kind in ("seconds", "processor_seconds"))
        seconds, processor = (_median(runs[name], kind) for kind in ("seconds", "processor_seconds"))
        found.append(
            {
                "reader": name,
                "cold_start_s": round(start, 3),
                "resident_mb": round(_median(runs[name], "peak_mb")),
                "pictures_per_second": round((len(files) - 1) / (seconds - start)),
                "pictures_per_processor_second": round((len(files) - 1) / (processor - begun)),
                "runs_s": [round(run.seconds, 3) for run in runs[name]],
            }
        )
    return found


def _format(data: bytes) -> str:
    return next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "the first bytes are damaged")


def main() -> None:
    """Run one comparison."""
    options = parser(__doc__)
    options.add_argument("what", choices=["pixels", "rows", "fuzz", "speed"])
    options.add_argument("--model", type=Path)
    options.add_argument("--pictures", type=Path)
    options.add_argument("--web", type=Path, metavar="FOLDER")
    options.add_argument("--inputs", type=int, default=10_000)
    args = options.parse_args()
    warnings.simplefilter("ignore")
    packages = ("cnn-infer", "pillow", "simplejpeg", "onnxruntime")
    given = {"model": args.model and short(args.model), "pictures": args.pictures and "PICTURES"}
    given["web"] = args.web and "FOLDER"
    given["inputs"] = args.inputs if args.what == "fuzz" else None
    document = conditions(f"javascript.py {args.what}", packages, **given)
    document["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    document["packages"] = json.loads((READER / "package.json").read_text())["dependencies"]
    if args.what == "pixels":
        document["resizes"] = resizes()
        document["files"], _ = compare(drawn_files())
    elif args.what == "fuzz":
        seeds = fuzz.picture_seeds()
        inputs = (fuzz.mutated(random.Random(number), seeds) for number in range(args.inputs))
        document["files"], slowest = compare((_format(data), data) for data in inputs)
        document["slowest_ms"] = round(slowest)
    else:
        document["readers"] = (rows if args.what == "rows" else speed)(args)
    print(json.dumps({key: value for key, value in document.items() if key != "versions"}, indent=1))
    write(args.output, document)


if __name__ == "__main__":
    run_script(main)
