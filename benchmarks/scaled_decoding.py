"""Does scaled decoding of JPEG files change the accuracy? Compares it with decoding the same files at full size.

    python benchmarks/scaled_decoding.py MODEL PICTURES --output scaled_decoding.json

PICTURES has one subfolder for each class. Its JPEG files must be at least four times as large as the model's input;
smaller ones are always decoded at full size. Training uses scaled decoding as well. A picture that the caller opens
with Pillow is decoded at full size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier
from links import picture_files
from PIL import Image
from report import conditions, parser, run_script, write


def opened(paths: Iterable[str]) -> Iterator[Image.Image]:
    """Open each picture with Pillow, which decodes it at full size."""
    for path in paths:
        with Image.open(path) as image:
            yield image


def compared(classifier: Classifier, paths: list[str]) -> dict[str, Any]:
    """The accuracy with both decodings, and the differences between pixels and between answers."""
    truth = [Path(path).parent.name for path in paths]
    labels = {
        "scaled": [classifier.predict(path).label for path in paths],
        "full": [classifier.predict(image).label for image in opened(paths)],
    }
    differences = [
        np.abs(classifier.pixels(path).astype(int) - classifier.pixels(image)).mean()
        for path, image in zip(paths, opened(paths), strict=True)
    ]
    return {
        "pictures": len(paths),
        **{name: float(np.mean([a == b for a, b in zip(found, truth, strict=True)])) for name, found in labels.items()},
        "other_answers": sum(a != b for a, b in zip(*labels.values(), strict=True)),
        "scaled_pictures": int(sum(difference > 0 for difference in differences)),
        "mean_difference_of_a_pixel": float(np.mean(differences)),
    }


def main() -> None:
    """Print the comparison; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", help="an exported model")
    arguments.add_argument("pictures", help="a folder with one subfolder for each class")
    options = arguments.parse_args()
    found = compared(Classifier(options.model), picture_files(options.pictures))
    print(
        f"{found['pictures']:,} pictures, {found['scaled_pictures']:,} of them scaled while decoding: accuracy "
        f"{found['scaled']:.2%}; decoded at full size: {found['full']:.2%}; {found['other_answers']} answers differ; "
        f"mean difference of a pixel {found['mean_difference_of_a_pixel']:.2f} of 255"
    )
    packages = ("cnn-infer", "onnxruntime", "pillow", "simplejpeg")
    write(options.output, {**conditions("scaled_decoding.py MODEL PICTURES", packages), **found})


if __name__ == "__main__":
    run_script(main)
