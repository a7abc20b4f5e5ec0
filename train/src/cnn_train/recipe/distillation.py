"""Distillation: a small network learns the probabilities of a trained one, the teacher, besides the labels.

The loss is ``SHARE * T**2 * KL(teacher || student) + (1 - SHARE) * cross-entropy``, with both softmaxes of the
Kullback-Leibler divergence at the temperature ``T`` (Hinton, Vinyals and Dean, 2015, arXiv:1503.02531).

The teacher sees each picture at its own size, but augmented as for the student, so that it answers the question that
the student is asked (Beyer et al., 2022, "Knowledge distillation: A good teacher is patient and consistent",
arXiv:2106.05237).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from cnn_infer.spec import Spec
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cnn_train.network.logits import EVALUATION_PIXELS, autocast, to_input
from cnn_train.recipe.augment import augment

TEMPERATURE, SHARE = 2.0, 0.9
"""Temperature of both softmaxes, and the share of the teacher in the loss; the rest is that of the labels."""


@dataclass(frozen=True)
class Teacher:
    """A trained network and the training pictures at its size.

    Attributes:
        network: On the device of the training, in evaluation mode.
        spec: Its specification. Its temperature calibrates its probabilities.
        images: The training pictures in the order of the student's, uint8 (n, h, w, c).
        order: The teacher's class for each class of the student, int64 (classes,), on the device.
        digest: SHA-256 of the file of its weights, hexadecimal.
    """

    network: nn.Module
    spec: Spec
    images: NDArray[np.uint8]
    order: Tensor
    digest: str

    @torch.no_grad()
    def logits(
        self,
        positions: NDArray[np.int64],
        student: Spec,
        names: Sequence[str],
        generator: torch.Generator,
        precision: torch.dtype,
    ) -> Tensor:
        """Return the calibrated logits of augmented pictures, in the order of the student's classes.

        Args:
            positions: Which pictures, int64 (k,).
            student: The specification of the student. Pictures are augmented in its normalisation, so that colours
                change by the same amount.
            names: The augmentations.
            generator: In the state in which the student's pictures were augmented: the two views are the same.
            precision: Floating-point type that convolutions compute in.

        Returns:
            float32 (k, classes).
        """
        device, spec = self.order.device, self.spec
        view = augment(to_input(self.images[positions], student, device), names, generator)
        view = (view / student.scale + (student.zero_point - spec.zero_point)) * spec.scale
        count = max(1, EVALUATION_PIXELS // (spec.height * spec.width))
        with autocast(device, precision):
            found = torch.cat([self.network(part).float() for part in torch.split(view, count)])
        return found[:, self.order] / spec.temperature


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean divergence of the student from the teacher at :data:`TEMPERATURE`, times its square, in nats.

    The square keeps the gradients as large as those of the labels.

    Args:
        student: Logits, float32 (n, classes).
        teacher: Logits, float32 (n, classes).
    """
    ours, theirs = (functional.log_softmax(logits / TEMPERATURE, 1) for logits in (student, teacher))
    return TEMPERATURE**2 * functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
