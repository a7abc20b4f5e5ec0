"""The features of a picture come from maps that a convolution computed: the picture itself is none of them."""

from collections.abc import Callable

import numpy as np
import pytest
from cnn_export import GraphError
from cnn_export.graph.features import maps_of
from cnn_export.graph.first_layer import OWN_LAYER, normalise_input
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.graph.lookup import makers_of
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import collect
from cnn_export.int8.targets import target_of
from cnn_infer import Spec
from onnx import ModelProto
from torch import Tensor, nn

SPEC = Spec(("a", "b", "c"), 12, 12, "rgb", "squash", "bilinear", 124, 0.016)
PICTURES = np.random.default_rng(0).integers(0, 256, (9, *SPEC.shape), dtype=np.uint8)


class Network(nn.Module):
    """``branches`` read the picture, and ``after`` reads the sum of what they give."""

    def __init__(self, branches: list[nn.Module], *after: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.after = nn.Sequential(*after, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        first, *others = (branch(pictures) for branch in self.branches)
        logits: Tensor = self.after(sum(others, first).relu())
        return logits


def conv(channels: int = 3, groups: int = 1) -> nn.Module:
    return nn.Conv2d(channels, 8 if groups == 1 else 9, 3, padding=1, groups=groups)


class Turned(nn.Module):
    """A convolution of the picture turned by 90 degrees and scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = conv()

    def forward(self, pictures: Tensor) -> Tensor:
        found: Tensor = self.inner(2 * pictures.transpose(2, 3) - 1)
        return found


def float_form(network: nn.Module) -> ModelProto:
    graph = float_graph(network.eval(), SPEC)
    normalise_input(graph, np.array([1, 0.5, 2]), np.array([0, 0.1, -0.1]), SPEC)
    return graph


def int8_form(network: nn.Module) -> ModelProto:
    graph, batches = float_form(network), normalised(PICTURES, SPEC)
    return quantize(graph, collect(graph, batches), batches, SPEC, Recipe("minmax"), target_of(None))


NETWORKS = {
    "one convolution that takes the normalisation": (Network([conv()], conv(8), conv(8)), [8, 8]),
    "groups, so that the normalisation is a layer": (
        Network([nn.Sequential(conv(groups=3), nn.Conv2d(9, 8, 1))], conv(8)),
        [9, 8],
    ),
    "two convolutions side by side": (Network([conv(), conv()], conv(8), conv(8)), [8, 8]),
    "a branch that turns the picture": (Network([conv(), Turned()], conv(8)), [8]),
    "a branch that pools the picture": (
        Network([conv(), nn.Sequential(nn.MaxPool2d(3, 1, 1), conv())], conv(8)),
        [8],
    ),
}


@pytest.mark.parametrize("form", [float_form, int8_form], ids=["float", "int8"])
@pytest.mark.parametrize(("network", "channels"), NETWORKS.values(), ids=NETWORKS)
def test_a_map_is_what_a_convolution_computed(
    network: nn.Module, channels: list[int], form: Callable[[nn.Module], ModelProto]
) -> None:
    model = keep_contract(form(network), SPEC)
    makers = makers_of(model)
    found = maps_of(model)
    assert [count for _, count in found] == channels
    for name, _ in found:
        behind = [name]
        while (maker := makers.get(behind[-1])) is not None and (maker.op_type != "Conv" or maker.name == OWN_LAYER):
            behind.append(maker.input[0])
        assert maker is not None, behind


@pytest.mark.parametrize("form", [float_form, int8_form], ids=["float", "int8"])
@pytest.mark.parametrize(
    "network", [Network([conv()]), Network([conv(), Turned()])], ids=["one convolution", "side by side"]
)
def test_convolutions_that_only_read_the_picture_are_refused(
    network: nn.Module, form: Callable[[nn.Module], ModelProto]
) -> None:
    message = r"strangers \(--strangers\) needs a network with two convolutions or more, one after the other"
    with pytest.raises(GraphError, match=message):
        maps_of(keep_contract(form(network), SPEC))
