"""Copy the pictures of a folder into one folder for each class. The originals stay where they are."""

import argparse
import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from cnn_infer import Classifier, EdgeCNNError, PictureError, find_pictures


def main(model: str, inbox: str, target: str) -> None:
    """Copy every file to ``target/LABEL``, and print how many got each label."""
    classifier = Classifier(model, threshold=0.6)  # below this probability the label is "unknown"
    paths = list(find_pictures([inbox]))
    counts: Counter[str] = Counter()
    answers = classifier.predict_many(paths, workers=os.cpu_count() or 1, errors="yield")
    for path, answer in zip(paths, answers, strict=True):
        label = "unreadable" if isinstance(answer, PictureError) else answer.label
        copy = Path(target, label, Path(path).relative_to(inbox))  # keeps subfolders: two may hold the same file name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
        counts[label] += 1
    for label, count in sorted(counts.items()):
        print(f"{count:6} {label}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model file that cnn-export wrote")
    parser.add_argument("inbox", help="the folder of pictures")
    parser.add_argument("target", help="the folder for the sorted copies")
    try:
        main(**vars(parser.parse_args()))
    except EdgeCNNError as error:
        sys.exit(str(error))
