"""What does the camera see? python examples/camera.py model.onnx 0 (or a video file); needs opencv-python."""

import sys
from collections import deque

import cv2
import numpy as np
from cnn_infer import Classifier


def main(model: str, source: str) -> None:
    clf = Classifier(model, threshold=0.5)
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    if not camera.isOpened():
        sys.exit(f"cannot open the camera or video: {source}")
    recent: deque[np.ndarray] = deque(maxlen=5)
    said = None
    while True:
        good, frame = camera.read()
        if not good:
            break
        pixels = clf.pixels(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # OpenCV's channels are blue, green, red
        recent.append(clf.probabilities(pixels[None])[0])
        found = clf.to_prediction(np.mean(recent, axis=0))  # five frames are surer than one
        if found.label != said:
            said = found.label
            print(f"{said} ({found.probability:.0%})", flush=True)
    camera.release()


if __name__ == "__main__":
    main(*sys.argv[1:3])
