"""Print what a camera or a video shows. Needs opencv-python."""

import argparse
import sys
from collections import deque

import cv2
import numpy as np
from cnn_infer import Classifier, EdgeCNNError


def main(model: str, source: str) -> None:
    """Print a line whenever the label changes, until the video ends."""
    classifier = Classifier(model, threshold=0.5)  # below this probability the label is "unknown"
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not camera.isOpened():
        sys.exit(f"cannot open the camera or video: {source}")
    recent: deque[np.ndarray] = deque(maxlen=5)
    label = None
    while (frame := camera.read()[1]) is not None:
        pixels = classifier.pixels(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # OpenCV's channels are blue, green, red
        recent.append(classifier.probabilities(pixels[None])[0])
        prediction = classifier.to_prediction(np.mean(recent, axis=0))  # the mean of five frames is more reliable
        if prediction.label != label:
            label = prediction.label
            print(f"{label} ({prediction.probability:.0%})", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model file that cnn-export wrote")
    parser.add_argument("source", help="the number of a camera, such as 0, or a video file")
    try:
        main(**vars(parser.parse_args()))
    except EdgeCNNError as error:
        sys.exit(str(error))
