"""The size of the pictures in each epoch."""

from dataclasses import replace

import pytest
import torch
from cnn_train import Config, Run
from cnn_train.network.build import build
from cnn_train.recipe.resizing import picture_size


@pytest.fixture
def config(finished: Run) -> Config:
    return replace(finished.config, epochs=10, height=28, width=32)


def sizes(config: Config) -> list[tuple[int, int]]:
    return [picture_size(config, number) for number in range(config.epochs)]


def test_our_networks_see_smaller_pictures_first(config: Config) -> None:
    assert sizes(config) == [(20, 24)] * 4 + [(28, 32)] * 6


@pytest.mark.parametrize("size", [(8, 8), (23, 200), (32, 128)])
def test_small_pictures_are_never_made_smaller(size: tuple[int, int], config: Config) -> None:
    assert sizes(replace(config, height=size[0], width=size[1])) == [size] * 10


@pytest.mark.parametrize(
    "size", [(24, 48), (24, 112), (29, 113), (32, 128), (39, 400), (40, 113), (40, 400), (224, 224)]
)
def test_a_network_takes_the_smaller_pictures_too(size: tuple[int, int], config: Config) -> None:
    network = build("small", classes=2, channels=3, size=size, dropout=None)
    height, width = picture_size(replace(config, height=size[0], width=size[1]), 0)
    assert network(torch.zeros(2, 3, height, width)).shape == (2, 2)


@pytest.mark.parametrize(
    ("size", "smaller"),
    [
        ((224, 224), (160, 160)),
        ((192, 96), (128, 64)),
        ((32, 32), (32, 32)),
        ((20, 33), (20, 33)),
        ((100, 48), (67, 32)),
    ],
)
def test_pretrained_lite0_is_fine_tuned_on_smaller_pictures(
    size: tuple[int, int], smaller: tuple[int, int], config: Config
) -> None:
    config = replace(config, model="lite0", pretrained=True, height=size[0], width=size[1])
    assert sizes(config) == [size, *[smaller] * 8, size]
    taught = replace(config, teacher="run")  # its last layer is not fitted at the final size
    assert sizes(taught) == sizes(replace(config, epochs=2)) * 5 == [size] * 10


def test_other_networks_see_one_size(config: Config) -> None:
    for changes in ({"model": "resnet18"}, {"model": "resnet18", "pretrained": True}, {"model": "lite0"}):
        assert sizes(replace(config, **changes)) == [(28, 32)] * 10
