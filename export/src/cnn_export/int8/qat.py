"""Quantization-aware fine-tuning: weights and biases adapt to the rounding, while the scales stay fixed."""

from __future__ import annotations

import numpy as np
import torch
from cnn_infer import console
from cnn_infer.spec import Spec
from cnn_train import Config, Split
from cnn_train.replay import augment, to_input
from onnx import ModelProto
from torch import nn
from torch.nn import functional

from cnn_export.errors import GraphError
from cnn_export.int8.simulation import Simulation

STEPS = 300
BATCH_SIZE = 128
LEARNING_RATE = 2e-5
"""Initial learning rate of Adam; it falls linearly to 0."""


def fine_tune(
    quantized: ModelProto, model: ModelProto, network: nn.Module, train: Split, spec: Spec, config: Config
) -> ModelProto:
    """Return a copy of ``quantized`` with fine-tuned weights and biases.

    The float network is the teacher: the int8 network learns its probabilities on augmented training pictures
    (knowledge distillation: Hinton et al., 2015, arXiv:1503.02531).

    Args:
        quantized: Result of :func:`cnn_export.int8.quantize.quantize` for ``model``.
        model: Float graph.
        network: The same network as a PyTorch module, with logits at temperature 1.
        train: Training split.
        spec: Specification of the model: normalisation and temperature.
        config: Configuration of the run: augmentation and random seed.

    Raises:
        GraphError: The network has an operator that :class:`Simulation` does not support, or the loss is not a number.
    """
    result = ModelProto()
    result.CopyFrom(quantized)
    student = Simulation(result, model)
    teacher = network.eval()
    optimizer = torch.optim.Adam(student.parameters(), LEARNING_RATE)
    generator = torch.Generator().manual_seed(config.seed)
    random = np.random.default_rng(config.seed)
    size = min(BATCH_SIZE, len(train.labels))
    with console.progress("fine-tuning int8", STEPS, unit="steps") as advance:
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * (1 - step / STEPS)
            chosen = np.sort(random.choice(len(train.labels), size, replace=False))
            with torch.no_grad():
                pictures = augment(to_input(train.images[chosen], spec, torch.device("cpu")), config.augment, generator)
                targets = (teacher(pictures) / spec.temperature).softmax(1)
            loss = functional.cross_entropy(student(pictures), targets)
            if not torch.isfinite(loss):
                raise GraphError(
                    f"the loss of the int8 fine-tuning is {loss.item()} at step {step + 1}: leave out qat (--qat)"
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            advance(1)
    student.store()
    return result
