"""Runs a model on a device, for benchmarks/providers.py.

    PYTHON run_on_device.py MODEL DEVICE OPTIONS PICTURES FOUND

OPTIONS are device options as JSON, PICTURES and FOUND are .npy files. It writes the probabilities of all pictures to
FOUND and prints one line of JSON. Then for each line on standard input, a batch size and a number of seconds, it
prints the median time of a run in milliseconds. EdgeCNN's cnn_infer must be installed in its environment.
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import numpy as np
import onnxruntime
from batches import probabilities_of
from cnn_infer import Classifier, verify_all


def main() -> None:
    """Answer until standard input ends."""
    model, device, options, source, target = sys.argv[1:]
    classifier = Classifier(model, device=device, device_options=json.loads(options))
    pictures = np.load(source)
    np.save(target, probabilities_of(classifier, pictures))
    stages = {
        stage.stage: stage.agreed == stage.compared
        for stage in verify_all(classifier).stages
        if stage.stage in ("graph", "probabilities")  # the others are about pictures, not about the device
    }
    answer = {
        "precision": classifier.spec.precision,
        "onnxruntime": onnxruntime.__version__,
        "provider": classifier.provider,
        "nodes": dict(classifier.model.nodes),
        "verified": stages,
    }
    print(json.dumps(answer), flush=True)
    for line in sys.stdin:
        size, seconds = json.loads(line)
        batch, spent = pictures[:size], []
        until = time.perf_counter() + seconds
        while len(spent) < 3 or time.perf_counter() < until:
            start = time.perf_counter()
            classifier.probabilities(batch)
            spent.append(1e3 * (time.perf_counter() - start))
        print(statistics.median(spent), flush=True)


if __name__ == "__main__":
    main()
