"""Do the cells that the evidence names matter? Cover what they look at, and see how far the winner's logit falls.

    python benchmarks/evidence.py MODEL=DATA... --output evidence.json

Each MODEL is a file of a folder that ``cnn-export --evidence`` wrote, DATA its data set as cnn-train takes it. Of each
test picture, the cells with the most evidence for the winning class are covered, and for comparison as many random
cells, :data:`DRAWS` times. A covered cell has the patch in the middle of its receptive field, as wide and as high as
cells are apart, filled with the pixel value that the network sees as 0. ``named`` and ``random`` are the mean fall of
the winner's logit, ``difference`` the mean of their difference with its 95% confidence interval (paired, normal),
``further`` the share of pictures in which the named cells lower the logit further than random ones do on average, and
``changed`` the shares of pictures whose class changes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batches import in_batches
from cnn_export.run_data import open_run_source, read_test_split
from cnn_infer import Model, ReceptiveField, console, open_model
from cnn_infer.explanation import described
from cnn_infer.model import LOGITS
from cnn_infer.optional_outputs import EVIDENCE
from cnn_train import Run
from numpy.typing import NDArray
from report import conditions, parser, run_script, short, write

PICTURES = 1000
DRAWS = 10
COVERED = (1, 2, 4, 8)

Pixels = NDArray[np.uint8]
Cells = NDArray[np.int64]


def run(model: Model, output: str, pictures: Pixels) -> NDArray[np.float32]:
    """An output for all pictures."""
    return in_batches(lambda batch: model.run([output], batch), pictures)[0]


def covered(pictures: Pixels, cells: Cells, columns: int, field: ReceptiveField, filler: int) -> Pixels:
    """Copies of the pictures with patches over cells, int64 (n, cells), numbered row by row."""
    result = pictures.copy()
    for picture, own in zip(result, cells, strict=True):
        for cell in own:
            down, right = field.centre(*divmod(int(cell), columns))
            top, left = (round(at - step / 2) for at, step in zip((down, right), field.step, strict=True))
            height, width = (round(step) for step in field.step)
            picture[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = filler
    return result


def occlusion(model: Model, pictures: Pixels, count: int, draws: int = DRAWS) -> dict[str, Any]:
    """Cover the ``count`` cells with the most evidence, and as many random ones."""
    field, _ = described(model.spec, model.name)
    logits = run(model, LOGITS, pictures)
    index, winner = np.arange(len(pictures)), logits.argmax(axis=1)
    own = run(model, EVIDENCE, pictures)[index, winner]
    columns, flat = own.shape[2], own.reshape(len(own), -1)
    random = np.random.default_rng(0)

    def falls(cells: Cells) -> tuple[NDArray[np.float64], float]:
        found = run(model, LOGITS, covered(pictures, cells, columns, field, model.spec.zero_point))
        fall = (logits[index, winner] - found[index, winner]).astype(np.float64)
        return fall, float((found.argmax(axis=1) != winner).mean())

    named, changed = falls(np.argsort(-flat, axis=1, kind="stable")[:, :count])
    drawn = [
        falls(random.permuted(np.tile(np.arange(flat.shape[1]), (len(flat), 1)), axis=1)[:, :count])
        for _ in range(draws)
    ]
    by_chance = np.mean([fall for fall, _ in drawn], axis=0)
    difference = named - by_chance
    half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    return {
        "covered": count,
        "of_cells": flat.shape[1],
        "named": named.mean(),
        "random": by_chance.mean(),
        "difference": difference.mean(),
        "interval": [difference.mean() - half, difference.mean() + half],
        "further": (difference > 0).mean(),
        "changed": {"named": changed, "random": np.mean([share for _, share in drawn])},
    }


def main() -> None:
    """Print the result of each file; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("pairs", nargs="+", metavar="MODEL=DATA", help="an exported file and its data set")
    arguments.add_argument("--pictures", type=int, default=PICTURES, help="test pictures (default: %(default)s)")
    options = arguments.parse_args()
    results = []
    for file, _, data in (pair.partition("=") for pair in options.pairs):
        run_of_file = Run.open(Path(file).parent)
        images = read_test_split(run_of_file, open_run_source(run_of_file, data)).images
        chosen = np.random.default_rng(0).permutation(len(images))[: options.pictures]
        model = open_model(file, device="cpu", outputs=[EVIDENCE])
        for count in COVERED:
            found = occlusion(model, images[chosen], count)
            if count > found["of_cells"] // 2:
                break
            results.append({"model": short(Path(file)), "pictures": len(chosen), **found})
            low, high = found["interval"]
            print(
                f"{short(Path(file))}, {console.quantity(count, 'cell')} of {found['of_cells']} covered: the winner's "
                f"logit falls by {found['named']:.2f} (random cells: {found['random']:.2f}; difference {low:.2f} to "
                f"{high:.2f}), further in {found['further']:.1%} of {len(chosen):,} pictures; class changed in "
                f"{found['changed']['named']:.1%} ({found['changed']['random']:.1%})",
                flush=True,
            )
    pictures = None if options.pictures == PICTURES else options.pictures
    head = conditions("evidence.py MODEL=DATA...", ("cnn-export", "onnxruntime", "numpy"), pictures=pictures)
    write(options.output, {**head, "draws": DRAWS, "files": results})


if __name__ == "__main__":
    run_script(main)
