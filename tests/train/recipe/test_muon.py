"""Muon against what defines it: the singular value decomposition, and PyTorch's own SGD for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from cnn_train.recipe.muon import Muon, orthogonalised
from torch import nn


def _matrix(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(48, 432), (432, 48), (16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_orthogonalisation_keeps_directions_and_levels_singular_values(
    shape: tuple[int, int], dtype: torch.dtype
) -> None:
    matrix = _matrix(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalised(matrix, dtype) @ right.T
    ordinary = values > 0.05 * values.max()
    level = found.diagonal()[ordinary]
    assert level.min() > 0.4
    assert level.max() < 1.6
    beside = found - torch.diag(found.diagonal())
    assert beside.norm() < 0.1 * found.norm()


def _network(*, channels_last: bool) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3))
    return network.to(memory_format=torch.channels_last) if channels_last else network  # type: ignore[call-overload]


def _steps(network: nn.Module, optimizer: torch.optim.Optimizer, count: int = 3) -> None:
    generator = torch.Generator().manual_seed(2)
    for _ in range(count):
        optimizer.zero_grad()
        batch = torch.randn(16, 4, 8, 8, generator=generator)
        nn.functional.cross_entropy(network(batch), torch.arange(16) % 3).backward()
        optimizer.step()


def test_everything_but_filters_is_sgd() -> None:
    ours, theirs = _network(channels_last=False), _network(channels_last=False)
    groups = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    _steps(ours, Muon([{"params": list(ours.parameters()), **groups}]))
    _steps(theirs, torch.optim.SGD(theirs.parameters(), **groups, nesterov=True))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_a_filter_bank_moves_by_its_rate_and_keeps_its_length() -> None:
    network = _network(channels_last=True)
    weight = network[0].get_parameter("weight")
    before = weight.detach().clone()
    _steps(network, Muon([{"params": [weight], "lr": 0.05, "momentum": 0.6, "orthogonal": True}]), count=1)
    assert weight.norm().item() == pytest.approx(before.norm().item(), rel=1e-5)
    moved = (weight.detach() - before).norm() / before.norm()
    # singular values of the update lie between 0.5 and 1.5; and the way back to the sphere
    assert 0.02 < moved < 0.08


def test_the_first_step_follows_the_decomposition() -> None:
    network = _network(channels_last=True)
    weight = network[0].get_parameter("weight")
    before = weight.detach().clone()
    optimizer = Muon([{"params": [weight], "lr": 1e-3, "momentum": 0.6, "orthogonal": True}], torch.float32)
    _steps(network, optimizer, count=1)
    assert weight.grad is not None
    left, _, right = torch.linalg.svd(weight.grad.reshape(8, -1), full_matrices=False)
    expected = (left @ right).reshape(weight.shape)
    moved = before - weight.detach()
    assert torch.cosine_similarity(moved.flatten(), expected.flatten(), dim=0) > 0.95


def test_channels_last_changes_nothing() -> None:
    weights = []
    for channels_last in (False, True):
        network = _network(channels_last=channels_last)
        weight = network[0].get_parameter("weight")
        _steps(network, Muon([{"params": [weight], "lr": 0.1, "momentum": 0.6, "orthogonal": True}], torch.float32))
        weights.append(weight.detach().contiguous())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-4, atol=1e-5)


def test_its_state_can_be_stored_and_restored() -> None:
    whole, cut = _network(channels_last=True), _network(channels_last=True)

    def optimizer_of(network: nn.Module) -> Muon:
        filters = [p for p in network.parameters() if p.ndim == 4]
        rest = [p for p in network.parameters() if p.ndim != 4]
        return Muon(
            [
                {"params": filters, "lr": 0.1, "momentum": 0.6, "orthogonal": True},
                {"params": rest, "lr": 0.1, "momentum": 0.9},
            ]
        )

    first = optimizer_of(whole)
    _steps(whole, first, count=2)
    cut.load_state_dict(whole.state_dict())
    second = optimizer_of(cut)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    _steps(whole, first, count=2)
    _steps(cut, second, count=2)
    for mine, other in zip(whole.parameters(), cut.parameters(), strict=True):
        assert torch.equal(mine, other)
