"""How many pictures does an ignored colour profile cost? The same pictures, encoded in four RGB colour spaces.

    python benchmarks/colour_profiles.py MODEL PICTURES --output colour_profiles.json

cnn_infer does not convert colours by the ICC profile of a file. A network that was trained on sRGB sees other pixel
values if the files of the device are in another colour space. PICTURES has one subfolder for each class; its files are
in sRGB. Each picture is encoded anew, at the size of the model's input, in Display P3 (phones), Adobe RGB (1998) and
ProPhoto RGB (ROMM, ISO 22028-2), and classified without conversion.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from batches import probabilities_of
from cnn_infer import Classifier
from cnn_train.replay import mcnemar_p
from links import picture_files
from numpy.typing import NDArray
from report import conditions, parser, run_script, write

SRGB = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
"""From linear RGB to CIE XYZ, white point D65 (IEC 61966-2-1)."""

D65_TO_D50 = np.array(
    [[1.0478112, 0.0228866, -0.0501270], [0.0295424, 0.9904844, -0.0170491], [-0.0092345, 0.0150436, 0.7521316]]
)
"""The Bradford adaptation to ProPhoto's white point."""

SPACES: dict[str, tuple[NDArray[np.float64], float | None]] = {
    "Display P3": (
        np.array([[0.4865709, 0.2656677, 0.1982173], [0.2289746, 0.6917385, 0.0792869], [0.0, 0.0451134, 1.0439444]]),
        None,
    ),
    "Adobe RGB": (
        np.array(
            [[0.5767309, 0.1855540, 0.1881852], [0.2973769, 0.6273491, 0.0752741], [0.0270343, 0.0706872, 0.9911085]]
        ),
        2.19921875,
    ),
    "ProPhoto RGB": (
        np.array([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0.0, 0.0, 0.8252100]]),
        1.8,
    ),
}
"""The matrix to XYZ and the gamma of each space; None is the curve of sRGB."""


def linear(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Undo the curve of sRGB, for values from 0 to 1."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def curved(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply the curve of sRGB, for values from 0 to 1."""
    return np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)


def encoded(pixels: NDArray[np.uint8], space: str) -> NDArray[np.uint8]:
    """The same colours as numbers of another space; colours outside of it are clipped."""
    matrix, gamma = SPACES[space]
    xyz = linear(pixels / 255) @ SRGB.T
    if space == "ProPhoto RGB":
        xyz = xyz @ D65_TO_D50.T
    values = np.clip(xyz @ np.linalg.inv(matrix).T, 0, 1)
    values = curved(values) if gamma is None else values ** (1 / gamma)
    return np.round(values * 255).astype(np.uint8)


def answers(classifier: Classifier, pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The most probable class of each picture."""
    return np.asarray(probabilities_of(classifier, pictures).argmax(axis=1))


def compared(classifier: Classifier, paths: list[str]) -> list[dict[str, Any]]:
    """Accuracy in each space, and McNemar's p against sRGB."""
    classes = classifier.spec.classes
    truth = np.array([classes.index(Path(path).parent.name) for path in paths])
    pictures = np.stack([classifier.pixels(path) for path in paths])
    right = answers(classifier, pictures) == truth
    rows: list[dict[str, Any]] = [{"space": "sRGB", "accuracy": float(right.mean()), "pictures": len(paths)}]
    for space in SPACES:
        shown = np.concatenate([encoded(part, space) for part in np.array_split(pictures, 100)])
        found = answers(classifier, shown) == truth
        lost, won = int((right & ~found).sum()), int((~right & found).sum())
        rows.append(
            {
                "space": space,
                "mean_difference_of_a_pixel": float(np.abs(shown.astype(np.int16) - pictures).mean()),
                "accuracy": float(found.mean()),
                "lost": lost,
                "won": won,
                "mcnemar_p": mcnemar_p(lost, won),
            }
        )
    return rows


def main() -> None:
    """Print the comparison; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", help="an exported model for colour pictures")
    arguments.add_argument("pictures", help="a folder with one subfolder for each class, in sRGB")
    options = arguments.parse_args()
    rows = compared(Classifier(options.model), picture_files(options.pictures))
    for row in rows:
        text = f"{row['space']:<13} accuracy {row['accuracy']:.2%}"
        if "lost" in row:
            shift = row["mean_difference_of_a_pixel"]
            text += f"  (-{row['lost']} +{row['won']}, p {row['mcnemar_p']:.3f}), pixels differ by {shift:.1f} of 255"
        print(text)
    packages = ("cnn-infer", "onnxruntime", "pillow")
    write(options.output, {**conditions("colour_profiles.py MODEL PICTURES", packages), "rows": rows})


if __name__ == "__main__":
    run_script(main)
