"""The results of a training: final metrics, weights, specification and plots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from cnn_infer import console
from cnn_infer.calibration import calibration_of
from cnn_infer.run_files import CONFUSION, MISTAKES, RELIABILITY, SPEC
from cnn_infer.spec import Spec
from cnn_infer.system.atomic import write_text
from numpy.typing import NDArray
from torch import nn

from cnn_train.data.dataset import Dataset
from cnn_train.metrics import fit_temperature, metrics_of, probabilities_of
from cnn_train.run import plots
from cnn_train.run.folder import save_weights

PACKAGES = ("cnn-train", "torch", "torchvision", "pillow", "simplejpeg", "numpy")
"""The packages whose versions are stored with a result."""


def versions() -> dict[str, str]:
    """Return the version of each of :data:`PACKAGES`."""
    return {name: metadata.version(name) for name in PACKAGES}


def write_results(
    path: Path, network: nn.Module, logits: Mapping[str, NDArray[np.float32]], dataset: Dataset, spec: Spec
) -> dict[str, Any]:
    """Fit the temperature, measure the test split, and write the weights, the specification and the plots.

    Args:
        path: The run folder.
        network: The trained network.
        logits: Logits of the splits ``val`` and ``test``, float32 (n, classes), at temperature 1.
        dataset: The decoded pictures.
        spec: The specification that the network was trained with; its temperature is 1.

    Returns:
        ``test`` and ``validation``, each from :func:`cnn_train.metrics.metrics_of`, and ``temperature``. ``test`` also
        has ``calibration``, from :func:`cnn_infer.calibration.calibration_of`, after the temperature.
    """
    temperature = fit_temperature(logits["val"], dataset.val.labels)
    validation = metrics_of(logits["val"], dataset.val.labels, spec.classes)
    test = metrics_of(logits["test"], dataset.test.labels, spec.classes)
    probabilities = probabilities_of(logits["test"], temperature)
    test["calibration"] = calibration_of(probabilities, dataset.test.labels)
    summary = {key: value for key, value in test.items() if key not in ("per_class", "confusion", "calibration")}
    details = {**spec.details, "metrics": {"test": summary}, "versions": versions()}
    save_weights(path, network)
    write_text(path / SPEC, replace(spec, temperature=temperature, details=details).to_json() + "\n")
    title = f"test split: {test['accuracy']:.2%} of {test['images']:,} pictures correct"
    plots.save(plots.confusion(np.array(test["confusion"]), spec.classes, title), path / CONFUSION)
    mistakes = plots.mistakes(dataset.test.images, dataset.test.labels, probabilities, spec.classes)
    plots.save(mistakes, path / MISTAKES)
    title = f"reliability on {console.quantity(len(dataset.test.labels), 'test picture')}"
    plots.save(plots.reliability({"PyTorch": test["calibration"]}, title), path / RELIABILITY)
    return {"test": test, "validation": validation, "temperature": temperature}


def summary(test: dict[str, Any]) -> str:
    """Return one line with the test metrics; ``test`` is from :func:`cnn_train.metrics.metrics_of`."""
    low, high = test["accuracy_interval"]
    return (
        f"test: accuracy {test['accuracy']:.2%} (95% interval {low:.1%} to {high:.1%}), "
        f"macro F1 {test['macro_f1']:.4f}, loss {test['loss']:.4f}, calibration error (ECE) "
        f"{test['calibration']['ece']:.4f} on {test['images']:,} pictures"
    )
