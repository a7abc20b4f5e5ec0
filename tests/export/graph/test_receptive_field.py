"""The receptive field of a cell is where its gradient is not zero."""

from functools import cache

import pytest
import torch
from cnn_export.graph.float_graph import NORMALISED, float_graph
from cnn_export.graph.receptive_field import EVERYTHING, Axis, Field, receptive_field
from cnn_infer import Spec
from torch import Tensor, nn
from torch.nn import functional

SIDES = (40, 36)
SPEC = Spec(("a", "b"), *SIDES, "grey", "squash", "bilinear", 128, 1 / 64)


class Shifted(nn.Module):
    """Four shifted copies of a picture, a dilated convolution with a shortcut, and poolings; as if trained."""

    def __init__(self, gate: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(4, 8, 3, padding=1, stride=2)
        self.inner = nn.Conv2d(8, 8, (3, 5), padding=(2, 4), dilation=2)
        self.gate = nn.Conv2d(8, 8, 1) if gate else None
        self.head = nn.Linear(8, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.abs_().add_(0.01)  # so that no gradient vanishes

    def features(self, pictures: Tensor) -> Tensor:
        padded = functional.pad(pictures, (1, 0, 1, 0))
        down, right = slice(1, None), slice(None, -1)
        copies = [padded[:, :, rows, columns] for rows in (down, right) for columns in (down, right)]
        features = self.stem(torch.cat(copies, 1))
        features = features + functional.softplus(self.inner(features))
        if self.gate is not None:
            features = features * torch.sigmoid(self.gate(features.mean((2, 3), keepdim=True)))
        return functional.avg_pool2d(features, 3, 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(pictures).mean((2, 3)))
        return logits


@cache
def shifted(gate: bool) -> Field:
    return last_map(Shifted(gate))


def last_map(network: nn.Module) -> Field:
    graph = float_graph(network, SPEC)
    pool = next(node for node in reversed(graph.graph.node) if node.op_type == "GlobalAveragePool")
    return receptive_field(graph, NORMALISED, pool.input[0])


def test_a_cell_depends_on_the_pixels_of_its_field() -> None:
    network, field = Shifted(), shifted(gate=False)
    assert field.axes is not None
    assert not field.gated
    pictures = torch.rand(1, 1, *SIDES, requires_grad=True)
    features = network.features(pictures)
    for cell in ((0, 0), (4, 3), (features.shape[2] - 1, features.shape[3] - 1)):
        (gradient,) = torch.autograd.grad(features[0, :, cell[0], cell[1]].sum(), pictures, retain_graph=True)
        for axis, side, index, found in zip((3, 2), SIDES, cell, field.axes, strict=True):
            seen = gradient.abs().sum((0, 1, axis)).nonzero().ravel()
            start = found.start + index * found.step
            assert (seen.min(), seen.max()) == (max(start, 0), min(start + found.size, side) - 1)


def test_a_gate_that_sees_the_whole_picture_is_reported() -> None:
    gated, plain = shifted(gate=True), shifted(gate=False)
    assert gated == Field(plain.axes, gated=True)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.ChannelShuffle(2), Field((Axis(-1, 3, 1), Axis(-1, 3, 1)), gated=False)),
        (nn.PixelUnshuffle(4), Field((Axis(-1, 6, 4), Axis(-1, 6, 4)), gated=False)),
        (nn.UpsamplingNearest2d(scale_factor=2), EVERYTHING),
    ],
    ids=["shuffled channels", "blocks of pixels", "unknown"],
)
def test_an_unknown_operator_counts_as_one_that_sees_everything(layer: nn.Module, expected: Field) -> None:
    class Pooled(nn.Sequential):
        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = super().forward(pictures)
            return found.mean((2, 3))

    assert last_map(Pooled(nn.Conv2d(1, 4, 3, padding=1), layer)) == expected
