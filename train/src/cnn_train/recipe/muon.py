"""Muon for the filters of convolutions, stochastic gradient descent for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
"""Of the Newton-Schulz iteration, as its author chose them: it brings singular values to between 0.5 and 1.5 fast,
not to 1 exactly."""


def orthogonalised(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The matrix with its singular values brought near 1, directions kept: near U V' of its U S V'.

    A Newton-Schulz iteration of degree five (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon/).

    Args:
        matrix: float32 (rows, columns).
        dtype: What the products are computed in; bfloat16 is enough.

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
    """Groups with ``orthogonal`` set take Muon's steps, the others those of SGD with Nesterov momentum.

    A filter bank, seen as a matrix of one row a filter, steps along its orthogonalised gradient by ``lr`` of its own
    length, and then gets back the length that it began with: behind a norm layer only its direction counts, and a
    learning rate then means the same at every width and at any time (Jordan, 2024,
    https://github.com/KellerJordan/cifar10-airbench). PyTorch's own Muon takes matrices only.

    Args:
        groups: Parameter groups, each with ``lr`` and ``momentum``, and perhaps ``orthogonal`` or ``weight_decay``,
            which applies to the others alone.
        dtype: What orthogonalisation computes in.
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
        """Take one step; parameters without a gradient stay."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
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
        # the order of the columns does not matter: this one is a view where memory is channels last
        matrix = ahead.permute(0, *range(2, ahead.ndim), 1).reshape(len(ahead), -1)
        update = orthogonalised(matrix, self.dtype).view(len(ahead), *ahead.shape[2:], -1)
        update = update.permute(0, update.ndim - 1, *range(1, update.ndim - 1))
        parameter.add_(update * (state["length"] / min(matrix.shape) ** 0.5), alpha=-group["lr"])
        parameter.mul_(state["length"] / parameter.norm())
