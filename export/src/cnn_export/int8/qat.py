"""A short quantisation-aware fine-tune: the weights learn to live with the rounding that is already decided."""

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
"""Of Adam, falling to zero in a straight line."""


def fine_tune(
    quantized: ModelProto, model: ModelProto, network: nn.Module, train: Split, spec: Spec, config: Config
) -> ModelProto:
    """A copy of ``quantized`` whose weights and biases were trained under its own rounding; scales stay.

    The float network is the teacher: what is wanted are its probabilities, on augmented training pictures (knowledge
    distillation: Hinton et al., 2015, arXiv:1503.02531).

    Args:
        quantized: From :func:`cnn_export.int8.quantize.quantize`.
        model: The float graph that it was made of.
        network: The same as a PyTorch module, with logits at temperature 1.
        train: Training pictures.
        spec: Normalisation and temperature.
        config: Of the run: its augmentation and its seed.

    Raises:
        GraphError: the network has an operator that cannot be trained here, or the loss is not a number.
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
                wanted = (teacher(pictures) / spec.temperature).softmax(1)
            loss = functional.cross_entropy(student(pictures), wanted)
            if not torch.isfinite(loss):
                raise GraphError(f"the loss of the int8 fine-tune is {loss.item()} at step {step + 1}: leave out --qat")
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            advance(1)
    student.store()
    return result
