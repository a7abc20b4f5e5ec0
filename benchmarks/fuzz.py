"""Feed damaged pictures, specifications and models to cnn_infer and report every crash, hang and unexpected error.

    python benchmarks/fuzz.py pictures --inputs 1000000 --output fuzz_pictures.json
    python benchmarks/fuzz.py specs --inputs 1000000
    python benchmarks/fuzz.py models --inputs 100000
    python benchmarks/fuzz.py pictures --replay tests/infer/corpus/pictures

An input is a valid file (a seed) with bytes flipped, deleted, repeated, copied from another seed, or replaced by
numbers at the limits of integer types (a mutation loop, as in the havoc stage of AFL: Zalewski, 2013). The inputs run
in separate processes, which record the number of the current input. An input that ends the process, takes five seconds
of processor time, or raises an exception other than cnn_infer's own errors is saved in the folder ``--keep``, and the
exit code is 1. ``--replay`` runs the files of a folder instead. The test suite replays tests/infer/corpus: inputs that
once failed, and inputs that reach rare errors.
"""

from __future__ import annotations

import faulthandler
import hashlib
import io
import json
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import numpy as np
from cnn_infer import Classifier, EdgeCNNError
from cnn_infer.pixels.convert import to_pixels
from cnn_infer.spec import Spec
from PIL import Image
from report import conditions, parser, run_script, write

SECONDS = 5.0
"""Processor time of one input after which the kernel ends the process. A busy machine does not change it."""

STUCK_SECONDS = 120.0
"""Time by the clock after which a process that only waits is killed."""

STARTING_SECONDS = 60.0
"""Additional time for the first input of a process, which imports everything."""

LONGEST = 1 << 16
"""Largest input in bytes."""

MODELS = Path(__file__).parent.parent / "tests" / "infer" / "models"
NUMBERS = (0, 1, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
"""Numbers that are written into inputs."""

SPEC = Spec(("a", "b"), 16, 16, "rgb", "crop", "bilinear", 0, 1 / 255)


def picture_seeds() -> list[bytes]:
    """Small pictures in every supported format, with many colour modes and encodings."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds: list[tuple[str, Image.Image, Mapping[str, object]]] = [
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
    """The specifications of two test models, and one of them indented."""
    texts = [Classifier(MODELS / name).spec.to_json() for name in ("grey.onnx", "rgb.onnx")]
    return [text.encode() for text in (*texts, json.dumps(json.loads(texts[0]), indent=1))]


def model_seeds() -> list[bytes]:
    """Two models that open, and one that EdgeCNN did not export."""
    return [(MODELS / name).read_bytes() for name in ("grey.onnx", "rgb.onnx", "foreign.onnx")]


def try_picture(data: bytes) -> None:
    """Decode a picture."""
    pixels = to_pixels(data, SPEC, max_pixels=1_000_000)
    assert pixels.shape == SPEC.shape
    assert pixels.dtype == np.uint8


def try_spec(data: bytes) -> None:
    """Parse a specification and write it again."""
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
    """A random seed with one, two, four or eight random changes."""
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
    """A function from the number of an input to its bytes."""
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
    saved: Synchronized[int],
) -> None:
    """Run ``count`` inputs from number ``first`` on, and save those that raise an unexpected exception.

    Args:
        kind: A key of :data:`KINDS`.
        replay: A folder whose files are the inputs; None: mutated seeds.
        first: Number of the first input.
        count: Number of inputs.
        folder: Where to save inputs.
        at: Set to the number of the current input, for the process that watches this one.
        since: Set to the time at which the current input started.
        saved: Increased by the number of saved inputs.
    """
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
        except Exception as error:  # noqa: BLE001 - any other exception is a finding
            keep(folder, data, f"{type(error).__name__}: {error}")
            saved.value += 1
    signal.setitimer(signal.ITIMER_PROF, 0)  # the caller, a test, must not be ended
    at.value = first + count


def keep(folder: Path, data: bytes, why: str) -> None:
    """Save an input, named by its digest, and print the reason."""
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(data).hexdigest()[:16]
    (folder / name).write_bytes(data)
    print(f"{folder / name}: {why}", flush=True)


def fuzz(kind: str, replay: Path | None, inputs: int, start: int, folder: Path) -> int:
    """Run the inputs in a process that is replaced when it dies or hangs.

    Args:
        kind: A key of :data:`KINDS`.
        replay: A folder whose files are the inputs; None: mutated seeds.
        inputs: Number of inputs.
        start: Number of the first input.
        folder: Where to save inputs that fail.

    Returns:
        The number of inputs that failed. Each is saved; ``folder`` may hold inputs of earlier runs.
    """
    context = get_context("spawn")
    at, since, saved = context.Value("q", start), context.Value("d", time.monotonic()), context.Value("q", 0)
    end = start + inputs
    began = time.monotonic()
    while at.value < end:
        since.value = time.monotonic()
        first = at.value
        arguments = (kind, replay, first, end - first, folder, at, since, saved)
        process = context.Process(target=work, args=arguments)
        process.start()
        reported = time.monotonic()
        while process.is_alive():
            process.join(0.2)
            if time.monotonic() - since.value > STUCK_SECONDS + STARTING_SECONDS * (at.value == first):
                process.kill()
                process.join()
            if time.monotonic() - reported > 30:
                reported = time.monotonic()
                rate = (at.value - start) / (reported - began)
                print(f"{at.value - start:,} of {inputs:,}, {rate:,.0f} a second", file=sys.stderr, flush=True)
        if process.exitcode:
            data = inputs_of(kind, replay)(at.value)
            keep(folder, data, f"input {at.value} ended the process with {process.exitcode}")
            saved.value += 1
            at.value += 1
    return int(saved.value)


def main() -> None:
    """Fuzz one kind of input; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("kind", choices=KINDS, help="what to damage")
    arguments.add_argument("--inputs", type=int, default=10_000, help="number of inputs")
    arguments.add_argument("--start", type=int, default=0, help="number of the first input; it determines the input")
    arguments.add_argument("--keep", type=Path, default=Path("crashes"), help="folder for inputs that fail")
    arguments.add_argument("--replay", type=Path, metavar="FOLDER", help="run the files of this folder instead")
    options = arguments.parse_args()
    inputs, start = options.inputs, options.start
    if options.replay is not None:
        inputs, start = len(list(options.replay.iterdir())), 0
    began = time.monotonic()
    found = fuzz(options.kind, options.replay, inputs, start, options.keep)
    seconds = time.monotonic() - began
    print(f"{inputs:,} {options.kind} in {seconds:,.0f} s: {found} failed")
    given = {"inputs": inputs, "start": start} if options.replay is None else {"replay": "FOLDER"}
    head = conditions(f"fuzz.py {options.kind}", ("cnn-infer", "pillow", "numpy", "onnxruntime"), **given)
    write(options.output, {**head, "inputs": inputs, "first": start, "seconds": seconds, "findings": found})
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    run_script(main)
