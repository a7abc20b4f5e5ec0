"""Feeds damaged pictures, specifications and models to cnn_infer until something breaks that must not.

    python benchmarks/fuzz.py pictures --inputs 1000000 --output fuzz_pictures.json
    python benchmarks/fuzz.py specs --inputs 1000000
    python benchmarks/fuzz.py models --inputs 100000
    python benchmarks/fuzz.py pictures --replay tests/infer/corpus/pictures

Inputs are seeds with bytes flipped, cut, repeated, swapped between seeds, or replaced by numbers that matter (a
mutation loop, as in the havoc stage of AFL: Zalewski, 2013). They are tried in processes of their own, which write down
what they try: an input that ends the process, takes five seconds of the processor, or raises anything outside of
cnn_infer's own errors is kept in ``--keep``. Exit code 1 if there is one. ``--replay`` tries the files of a folder
instead: the test suite does so with those of tests/infer/corpus, which once broke something or fail in their own way.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import io
import json
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from cnn_infer import Classifier, EdgeCNNError
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.spec import Spec
from conditions import conditions
from PIL import Image

SECONDS = 5.0
"""Of the processor, after which the kernel ends the process: a busy machine makes nothing slow."""

STUCK_SECONDS = 120.0
"""By the clock, after which a process that only waits is ended."""

STARTING_SECONDS = 60.0

LONGEST = 1 << 16
MODELS = Path(__file__).parent.parent / "tests" / "infer" / "models"
NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
SPEC = Spec(("a", "b"), 16, 16, "rgb", "crop", "bilinear", 0, 1 / 255)


def picture_seeds() -> list[bytes]:
    """Small pictures of every format and of many kinds."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, dict[str, object]]] = [
        ("JPEG", image, {"quality": 60}),
        ("JPEG", image, {"progressive": True, "exif": exif}),
        ("JPEG", image.convert("CMYK"), {}),
        ("JPEG", image.resize((600, 400)), {"quality": 20}),
        *(("PNG", image.convert(mode), {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")),
        ("WEBP", image, {}),
        ("WEBP", image.convert("RGBA"), {"lossless": True}),
        *(("BMP", image.convert(mode), {}) for mode in ("1", "L", "RGB")),
        ("GIF", image, {"save_all": True, "append_images": [image.rotate(90)]}),
        *(("TIFF", image, {"compression": name}) for name in ("raw", "tiff_lzw", "tiff_deflate", "jpeg", "packbits")),
    ]
    seeds = []
    for form, picture, options in kinds:
        stream = io.BytesIO()
        picture.save(stream, form, **options)
        seeds.append(stream.getvalue())
    return seeds


def spec_seeds() -> list[bytes]:
    """Specifications of the models that the tests have, and one of everything."""
    texts = [Classifier(MODELS / name).spec.to_json() for name in ("grey.onnx", "rgb.onnx")]
    return [text.encode() for text in (*texts, json.dumps(json.loads(texts[0]), indent=1))]


def model_seeds() -> list[bytes]:
    """Models that open, and one that does not."""
    return [(MODELS / name).read_bytes() for name in ("grey.onnx", "rgb.onnx", "foreign.onnx")]


def try_picture(data: bytes) -> None:
    """From bytes to pixels."""
    pixels = to_pixels(data, SPEC, max_pixels=1_000_000)
    assert pixels.shape == SPEC.shape
    assert pixels.dtype == np.uint8


def try_spec(data: bytes) -> None:
    """From text to a specification and back."""
    spec = Spec.from_json(data.decode("utf-8", "replace"))
    assert Spec.from_json(spec.to_json()) == spec


def try_model(data: bytes) -> None:
    """Open a model and run it."""
    classifier = Classifier(data, device="cpu")
    classifier.probabilities(np.zeros((2, *classifier.spec.shape), np.uint8))


KINDS: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], None]]] = {
    "pictures": (picture_seeds, try_picture),
    "specs": (spec_seeds, try_spec),
    "models": (model_seeds, try_model),
}


def mutated(chance: random.Random, seeds: list[bytes]) -> bytes:
    """One of the seeds, changed in one to eight ways."""
    data = bytearray(chance.choice(seeds))
    for _ in range(1 << chance.randrange(4)):
        if not data:
            break
        at = chance.randrange(len(data))
        way = chance.randrange(7)
        if way == 0:
            data[at] ^= 1 << chance.randrange(8)
        elif way == 1:
            data[at] = chance.randrange(256)
        elif way == 2:
            width = chance.choice((1, 2, 4))
            number = chance.choice(NUMBERS) & ((1 << 8 * width) - 1)
            data[at : at + width] = number.to_bytes(width, chance.choice(("little", "big")))
        elif way == 3:
            del data[at : at + chance.choice((1, 2, 16, len(data)))]
        elif way == 4:
            part = data[at : at + chance.choice((1, 4, 64))]
            data[at:at] = part * chance.choice((1, 2, 50))
        elif way == 5:
            other = chance.choice(seeds)
            begin = chance.randrange(len(other))
            data[at : at + chance.choice((1, 8, 64))] = other[begin : begin + chance.choice((1, 8, 64))]
        else:
            data[at:at] = chance.randbytes(chance.choice((1, 3, 12)))
    return bytes(data[:LONGEST])


def inputs_of(kind: str, replay: Path | None) -> Callable[[int], bytes]:
    """From the number of an input to its bytes."""
    if replay is not None:
        files = sorted(replay.iterdir())
        return lambda number: files[number].read_bytes()
    seeds = KINDS[kind][0]()
    return lambda number: mutated(random.Random(number), seeds)


def work(
    kind: str,
    replay: Path | None,
    first: int,
    count: int,
    folder: Path,
    at: Synchronized[int],
    since: Synchronized[float],
) -> None:
    """Try inputs ``first`` to ``first + count``; keep those that raise what they must not."""
    faulthandler.enable()
    warnings.simplefilter("ignore")
    attempt = KINDS[kind][1]
    made = inputs_of(kind, replay)
    for number in range(first, first + count):
        at.value, since.value = number, time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        data = made(number)
        try:
            attempt(data)
        except EdgeCNNError:
            pass
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            keep(folder, data, f"{type(error).__name__}: {error}")
    signal.setitimer(signal.ITIMER_PROF, 0)  # whoever called goes on
    at.value = first + count


def keep(folder: Path, data: bytes, why: str) -> None:
    """Store an input under its digest, with the reason beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:16]
    (folder / name).write_bytes(data)
    print(f"{folder / name}: {why}", flush=True)


def fuzz(kind: str, replay: Path | None, inputs: int, start: int, folder: Path) -> int:
    """Try so many inputs, in processes that are replaced when one dies or hangs; how many must not be."""
    context = get_context("spawn")
    at, since = context.Value("q", start), context.Value("d", time.monotonic())
    end = start + inputs
    began = time.monotonic()
    while at.value < end:
        since.value = time.monotonic()
        first = at.value
        arguments = (kind, replay, first, end - first, folder, at, since)
        process = context.Process(target=work, args=arguments)
        process.start()
        said = time.monotonic()
        while process.is_alive():
            process.join(0.2)
            if time.monotonic() - since.value > STUCK_SECONDS + STARTING_SECONDS * (at.value == first):
                process.kill()
                process.join()
            if time.monotonic() - said > 30:
                said = time.monotonic()
                rate = (at.value - start) / (said - began)
                print(f"{at.value - start:,} of {inputs:,}, {rate:,.0f} a second", file=sys.stderr, flush=True)
        if process.exitcode:
            data = inputs_of(kind, replay)(at.value)
            keep(folder, data, f"input {at.value} ended the process with {process.exitcode}")
            at.value += 1
    return len(list(folder.glob("*")))


def main() -> None:
    """Fuzz one kind of input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--start", type=int, default=0, help="number of the first input: each number is another one")
    parser.add_argument("--keep", type=Path, default=Path("crashes"))
    parser.add_argument("--replay", type=Path, metavar="FOLDER", help="try its files instead")
    parser.add_argument("--output", type=Path, help="write the result there as JSON")
    options = parser.parse_args()
    inputs, start = options.inputs, options.start
    if options.replay is not None:
        inputs, start = len(list(options.replay.iterdir())), 0
    began = time.monotonic()
    found = fuzz(options.kind, options.replay, inputs, start, options.keep)
    seconds = time.monotonic() - began
    print(f"{inputs:,} {options.kind} in {seconds:,.0f} s: {found} that must not be")
    if options.output is not None:
        told = {"inputs": inputs, "start": start} if options.replay is None else {"replay": "FOLDER"}
        document = {
            **conditions(f"fuzz.py {options.kind}", ("cnn-infer", "pillow", "numpy", "onnxruntime"), **told),
            "inputs": inputs,
            "first": start,
            "seconds": seconds,
            "findings": found,
        }
        options.output.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
