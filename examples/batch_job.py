"""Sort a folder's pictures into one folder a class: python examples/batch_job.py model.onnx inbox sorted."""

import os
import shutil
import sys
from collections import Counter
from pathlib import Path

from cnn_infer import Classifier, PictureError, find_pictures


def main(model: str, inbox: str, target: str) -> None:
    clf = Classifier(model, threshold=0.6)
    paths = list(find_pictures([inbox]))
    done: Counter[str] = Counter()
    answers = clf.predict_many(paths, workers=os.cpu_count() or 1, errors="yield")
    for path, answer in zip(paths, answers, strict=True):
        name = "unreadable" if isinstance(answer, PictureError) else answer.label
        copy = Path(target, name, Path(path).relative_to(inbox))  # names may be the same in several folders
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, copy)
        done[name] += 1
    for name, count in sorted(done.items()):
        print(f"{count:6} {name}")


if __name__ == "__main__":
    main(*sys.argv[1:4])
