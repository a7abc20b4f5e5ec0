"""One optimizer: Muon for the filters of convolutions, stochastic gradient descent (SGD) for everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
"""Coefficients and number of the Newton-Schulz iterations, as their author chose them: they bring singular values to
between 0.5 and 1.5 quickly, rather than to exactly 1."""


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return an approximation of U V' for a matrix with the singular value decomposition U S V'.

    It keeps the singular vectors and brings the singular values near 1, by a Newton-Schulz iteration of degree five
    (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/).

    Args:
        matrix: float32 (rows, columns).
        dtype: Floating-point type of the matrix products; bfloat16 is precise enough.

    Returns:
        float32 (rows, columns).
    """
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result


class Muon(torch.optim.Optimizer):
    """Muon for the parameter groups with ``orthogonal`` set, SGD with Nesterov momentum for the others.

    Muon treats the filters of a convolution as a matrix with one row per filter. A step moves them along the
    orthogonalised gradient by ``lr`` times their norm, and then restores their initial norm. Before a batch norm only
    the direction of the filters matters, so the same learning rate suits every width and every time of the training
    (Jordan, 2024, https://github.com/KellerJordan/cifar10-airbench). PyTorch's own Muon accepts matrices only.

    Args:
        groups: Parameter groups with ``lr``, ``momentum`` and optionally ``orthogonal`` or ``weight_decay``. Groups
            with ``orthogonal`` ignore ``weight_decay``.
        dtype: Floating-point type of the orthogonalisation.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": 0.9, "weight_decay": 0.0, "orthogonal": False})
        self.dtype = dtype

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step. Parameters without a gradient do not change."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if not group["orthogonal"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
            if group["orthogonal"]:
                state["length"] = parameter.norm()
        momentum = state["momentum"].mul_(group["momentum"]).add_(gradient)
        ahead = gradient.add(momentum, alpha=group["momentum"])
        if not group["orthogonal"]:
            parameter.add_(ahead, alpha=-group["lr"])
            return
        # The order of the columns does not matter, and in channels-last memory format this order needs no copy.
        matrix = ahead.permute(0, *range(2, ahead.ndim), 1).reshape(len(ahead), -1)
        update = orthogonalised(matrix, self.dtype).view(len(ahead), *ahead.shape[2:], -1)
        update = update.permute(0, update.ndim - 1, *range(1, update.ndim - 1))
        parameter.add_(update * (state["length"] / min(matrix.shape) ** 0.5), alpha=-group["lr"])
        parameter.mul_(state["length"] / parameter.norm())
