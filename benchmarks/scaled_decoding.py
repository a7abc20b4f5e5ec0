"""What scaled decoding of JPEG files costs in accuracy: the same pictures, scaled while decoded, and decoded in full.

    python benchmarks/scaled_decoding.py MODEL PICTURES --output scaled_decoding.json

PICTURES has one subfolder a class and JPEG files of at least four times the model's size, or nothing is scaled.
Training sees scaled pictures as well; a picture that the caller has opened is decoded in full.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import Classifier, find_pictures
from conditions import conditions
from PIL import Image


def opened(paths: Iterable[str]) -> Iterator[Image.Image]:
    """Pictures that are decoded in full."""
    for path in paths:
        with Image.open(path) as image:
            yield image


def compared(classifier: Classifier, paths: list[str]) -> dict[str, Any]:
    """Accuracy both ways, and how far pixels and answers differ."""
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("pictures")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found = compared(Classifier(options.model), list(find_pictures([options.pictures])))
    print(
        f"{found['pictures']:,} pictures, {found['scaled_pictures']:,} of them decoded smaller: accuracy "
        f"{found['scaled']:.2%}, decoded in full {found['full']:.2%}; {found['other_answers']} other answers; "
        f"a pixel differs by {found['mean_difference_of_a_pixel']:.2f} of 255 on average"
    )
    if options.output is not None:
        packages = ("cnn-infer", "onnxruntime", "pillow", "simplejpeg")
        head = conditions("scaled_decoding.py MODEL PICTURES", packages)
        options.output.write_text(json.dumps({**head, **found}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
