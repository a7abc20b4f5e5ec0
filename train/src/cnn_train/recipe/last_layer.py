"""The first and the last epoch with pretrained weights: only the last layer is fitted, on frozen features.

The other layers keep their weights, so the features of each picture are computed once (:mod:`.features`), and what is
left is a convex problem: multinomial logistic regression with a penalty on the squared weights. Validation chooses the
strength of the penalty: the one with the lowest loss if this is the only epoch. A training that fine-tunes takes the
strongest one whose loss is at most one standard error above the lowest, which is a little more accurate in the end.

Without the first fit, a last layer with random weights would send large gradients through the network and destroy the
pretrained features (Kumar et al., 2022, "Fine-Tuning can Distort Pretrained Features", arXiv:2202.10054).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from cnn_train import distributed
from cnn_train.errors import DivergedError
from cnn_train.metrics import calibrated_error, calibrated_loss, fit_temperature
from cnn_train.recipe.features import Extractor, last_layer
from cnn_train.recipe.fit import Epoch, Fit

STRENGTHS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Penalties that are tried, from strong to weak, until the validation loss rises: factors of half the sum of squared
weights, added to the mean loss of a picture."""

USUAL_LOGITS = 2.0
"""Standard deviation that logits are scaled to before the temperature is fitted, so that it is within its range."""

LEAST_DEVIATION = 1e-3
"""Added to the standard deviation of each feature, because some features are always 0."""

MAX_PICTURES = 25_000
"""Of more pictures than this, some are chosen at random, so that the features fit into memory."""


def fit_last_layer(fit: Fit, number: int, cache: Path | None, after_step: Callable[[], None] = lambda: None) -> Epoch:
    """Fit the last layer of ``fit.network`` in place.

    Args:
        fit: The training, between two epochs.
        number: Number of this epoch, from 0.
        cache: Folder that keeps the features; None to keep them in memory alone.
        after_step: Called after each batch.

    Returns:
        The measurements. The learning rate is 0: there is no step of the optimizer.

    Raises:
        DataError: the cache cannot be written.
        DivergedError: a feature or the validation loss is infinite or not a number.
    """
    begun = time.perf_counter()
    config, labels = fit.config, fit.train.labels
    chosen = np.arange(len(labels))
    if len(labels) > MAX_PICTURES:
        chosen = np.sort(np.random.default_rng(config.seed).permutation(len(labels))[:MAX_PICTURES])
    mirrored = "flip" in config.augment  # measured: other augmented copies do not help
    extractor = Extractor(fit.network, fit.spec, fit.precision, fit.device, cache, after_step)
    pictures = fit.train.images if len(chosen) == len(labels) else fit.train.images[chosen]
    train = extractor.features(pictures, "train", mirrored=mirrored)
    val = extractor.features(fit.val.images, "val")
    for name, rows in (("training", train), ("validation", val)):
        _check_finite(f"a feature of the {name} pictures", np.max(np.abs(rows)), number)  # above 65,504 fp16 has none
    targets = np.tile(labels[chosen], 1 + mirrored)
    computed = time.perf_counter()
    weight, bias = distributed.compute_on_main(
        lambda: _best_layer(
            train, targets, val, fit.val.labels, len(fit.spec.classes), balance=config.balance, strong=config.epochs > 1
        )
    )
    layer = last_layer(fit.network)[1]
    with torch.no_grad():
        layer.weight.copy_(weight.view_as(layer.weight))
        if layer.bias is not None:
            layer.bias.copy_(bias)
    logits = _logits(_tensor(train), weight, bias)
    size = fit.spec.height, fit.spec.width
    logits_on_val = _logits(_tensor(val), weight, bias).numpy()
    val_loss, val_accuracy, val_calibrated_loss = fit.validate(size)
    _check_finite("the validation loss", val_loss, number)
    truth = torch.from_numpy(targets)
    return Epoch(
        epoch=number + 1,
        pictures=len(chosen),
        height=size[0],
        width=size[1],
        train_loss=functional.cross_entropy(logits, truth).item(),
        train_accuracy=(logits.argmax(1) == truth).float().mean().item(),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        val_calibrated_loss=val_calibrated_loss,
        lr=0.0,
        images_per_second=len(chosen) / (computed - begun),
        seconds=time.perf_counter() - begun,
        val_calibrated_error=calibrated_error(logits_on_val, fit.val.labels),
    )


def _check_finite(what: str, value: float, number: int) -> None:
    if not np.isfinite(value):
        trained = number > 0  # at the first epoch the features are those of the pretrained network
        raise DivergedError(
            f"{what} is infinite or not a number at epoch {number + 1}: {'lower --lr, ' if trained else ''}train with "
            "--precision fp32 if that is not set, or choose another --model",
            lower_rate=trained,
        )


def _best_layer(
    train: NDArray[np.float16],
    train_labels: NDArray[np.int64],
    val: NDArray[np.float16],
    val_labels: NDArray[np.int64],
    classes: int,
    *,
    balance: bool,
    strong: bool,
) -> tuple[Tensor, Tensor]:
    """Fit the layer for each strength, and return weight (classes, features) and bias (classes,) of the best one.

    ``strong`` takes the strongest of those that are hardly worse. Weight and bias are divided by the best temperature
    on validation, so that fine-tuning starts with calibrated probabilities.
    """
    rows, targets = _tensor(train), torch.from_numpy(train_labels)
    mean, deviation = rows.mean(dim=0), rows.std(dim=0, correction=0) + LEAST_DEVIATION
    rows.sub_(mean).div_(deviation)
    counts = torch.bincount(targets, minlength=classes)
    importance = len(targets) / (classes * counts) if balance else None
    seen = _tensor(val).sub_(mean).div_(deviation)
    parameters = torch.zeros(classes, rows.shape[1] + 1)
    found: list[tuple[Tensor, NDArray[np.float32], float]] = []
    for strength in STRENGTHS:
        parameters = fit_softmax(rows, targets, parameters, strength, importance)
        scores = _logits(seen, parameters[:, :-1], parameters[:, -1])
        gain = USUAL_LOGITS / scores.std(correction=0).clamp_min(1e-6)  # strong penalties make logits small
        logits: NDArray[np.float32] = (gain * scores).numpy()
        found.append((gain * parameters, logits, calibrated_loss(logits, val_labels)))
        if len(found) > 1 and found[-1][2] > found[-2][2]:
            break
    _, logits, lowest = min(found, key=lambda each: each[2])
    most = lowest + (calibrated_error(logits, val_labels) if strong else 0.0)
    best, logits, _ = next(each for each in found if each[2] <= most)
    temperature = fit_temperature(logits, val_labels)
    weight = best[:, :-1] / deviation / temperature
    return weight, best[:, -1] / temperature - weight @ mean


def fit_softmax(
    rows: Tensor, labels: Tensor, start: Tensor, strength: float, importance: Tensor | None = None
) -> Tensor:
    """Return the parameters of multinomial logistic regression with an L2 penalty, found by L-BFGS.

    Args:
        rows: Standardised features, float32 (n, features).
        labels: int64 (n,).
        start: Where to start, float32 (classes, features + 1); the last column is the bias, which has no penalty.
        strength: Factor of half the sum of squared weights, above 0; the loss is the mean of the pictures.
        importance: Weight of each class, float32 (classes,); None for equal weights.

    Returns:
        float32 (classes, features + 1).
    """
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits = _logits(rows, parameters[:, :-1], parameters[:, -1])
        loss = functional.cross_entropy(logits, labels, weight=importance)
        loss = loss + strength / 2 * parameters[:, :-1].square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return parameters.detach()


def _tensor(features: NDArray[np.float16]) -> Tensor:
    """A copy in memory, float32."""
    return torch.from_numpy(np.array(features, np.float32))


def _logits(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return rows @ weight.T + bias
