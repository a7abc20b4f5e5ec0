"""Our own networks: how large they are, which sizes they take, and that moving pixels is what it says."""

import numpy as np
import pytest
import torch
from cnn_train import ConfigError
from cnn_train.network.build import build
from cnn_train.network.presets import PRESETS, ConvNorm, Shifts, SpaceToDepth, Whitening, init_whitening
from torch import Tensor, nn

SIZES = [(8, 8), (28, 28), (9, 60), (48, 49), (112, 30), (8, 224), (113, 127), (224, 224)]


@pytest.mark.parametrize(
    ("name", "most"), [("nano", 60_000), ("small", 420_000), ("base", 999_999), ("large", 1_800_000)]
)
def test_a_preset_stays_within_its_size(name: str, most: int) -> None:
    network = build(name, classes=10, channels=1, size=(28, 28), dropout=None)
    assert most / 2 < sum(parameter.numel() for parameter in network.parameters()) <= most


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_every_size_and_colour_gives_one_tensor_of_logits(name: str, channels: int, size: tuple[int, int]) -> None:
    network = build(name, classes=7, channels=channels, size=size, dropout=0.1).eval()
    with torch.no_grad():
        found = network(torch.randn(2, channels, *size))
    assert found.shape == (2, 7)
    assert found.isfinite().all()


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [(7, 8), (28, 7), (1, 1)])
def test_pictures_that_are_too_small_are_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"{name} .* at least 8 pixels a side, not {size[0]} x {size[1]}"):
        build(name, classes=10, channels=1, size=size, dropout=None)


def test_dropout_is_before_the_last_layer() -> None:
    network = build("nano", classes=4, channels=1, size=(8, 8), dropout=0.4)
    drop, head = list(network.children())[-2:]
    assert isinstance(drop, nn.Dropout)
    assert drop.p == 0.4
    assert isinstance(head, nn.Linear)


def correlated(picture: np.ndarray, kernel: np.ndarray, top: int, left: int) -> np.ndarray:
    """Plain sums: picture (h, w, c) with a kernel (rows, columns, c) that reaches ``top``, ``left`` before a pixel."""
    height, width, _ = picture.shape
    rows, columns, _ = kernel.shape
    padded = np.pad(picture, ((top, rows), (left, columns), (0, 0)))
    found = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            found[y, x] = (padded[y : y + rows, x : x + columns] * kernel).sum()
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_shifts_and_a_3x3_convolution_are_a_4x4_convolution(channels: int) -> None:
    random = np.random.default_rng(0)
    picture = random.normal(size=(9, 7, channels))
    weights = random.normal(size=(2, 2, channels, 3, 3))  # of the copies moved down and right
    convolution = nn.Conv2d(4 * channels, 1, 3, padding=1, bias=False, dtype=torch.float64)
    convolution.weight = nn.Parameter(torch.from_numpy(weights.reshape(1, 4 * channels, 3, 3)))
    with torch.no_grad():
        found = convolution(Shifts()(torch.from_numpy(picture.transpose(2, 0, 1))[None]))[0, 0].numpy()
    wide = np.zeros((4, 4, channels))
    for down in (0, 1):
        for right in (0, 1):
            wide[down : down + 3, right : right + 3] += weights[down, right].transpose(1, 2, 0)
    expected = correlated(picture, wide, 1, 1)
    # at the top and left the 3x3 convolution pads the moved copies, which hold a row or column less there
    np.testing.assert_allclose(found[1:, 1:], expected[1:, 1:], atol=1e-12)


@pytest.mark.parametrize("block", [2, 4])
@pytest.mark.parametrize("size", [(8, 12), (9, 11)])
def test_space_to_depth_loses_no_pixel_and_pads_with_zero(block: int, size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).normal(size=(1, 3, *size))
    found = SpaceToDepth(block)(torch.from_numpy(picture)).numpy()
    rows, columns = (-(-side // block) for side in size)
    assert found.shape == (1, 3 * block * block, rows, columns)
    for channel in range(3):
        for y in range(rows * block):
            for x in range(columns * block):
                inside = y < size[0] and x < size[1]
                place = channel * block * block + (y % block) * block + x % block
                assert found[0, place, y // block, x // block] == (picture[0, channel, y, x] if inside else 0)


def test_whitening_levels_the_variance_of_every_direction() -> None:
    random = np.random.default_rng(0)
    smooth = random.normal(size=(400, 3, 6, 6)).cumsum(axis=2).cumsum(axis=3)
    pictures = torch.from_numpy(smooth / smooth.std()).float()
    network = build("nano", classes=3, channels=3, size=(8, 8), dropout=None)
    layer = network.get_submodule("whitening")
    assert isinstance(layer, Whitening)
    init_whitening(network, pictures)
    with torch.no_grad():
        found = layer.convolution(Shifts()(pictures)).movedim(1, 3).reshape(-1, 24).double()
    moments = (found.T @ found / len(found))[:12, :12]
    away = moments - torch.diag(moments.diagonal())
    assert away.abs().max() < 1e-3
    assert 0.5 < moments.diagonal().min() <= moments.diagonal().max() < 1.001  # noise stays quieter than that
    torch.testing.assert_close(found[:, 12:], -found[:, :12])


@pytest.mark.parametrize("count", [1, 256, 700])
def test_whitening_sees_all_patches_but_few_at_once(count: int) -> None:
    pictures = torch.from_numpy(np.random.default_rng(count).normal(size=(count, 3, 9, 8)).astype(np.float32))
    network = build("nano", classes=2, channels=3, size=(9, 8), dropout=0.0)
    blocks: list[Tensor] = []
    network.rearrange.register_forward_hook(lambda _, inputs, patches: blocks.append(patches))
    init_whitening(network, pictures)
    assert max(map(len, blocks)) <= 256
    patches = torch.cat(blocks).movedim(1, 3).flatten(0, 2).double()
    assert len(patches) == count * 72
    components = network.whitening.convolution.weight[:12, :, 0, 0].double()
    covariance = components @ (patches.T @ patches / len(patches)) @ components.T
    off_diagonal = covariance - torch.diag(covariance.diagonal())
    torch.testing.assert_close(off_diagonal, torch.zeros_like(covariance), atol=1e-4, rtol=0)


def test_whitening_leaves_other_networks_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = network[0].get_parameter("weight").detach().clone()
    init_whitening(network, torch.randn(4, 3, 8, 8))
    assert torch.equal(network[0].get_parameter("weight"), before)


def test_pooling_before_the_norm_in_training_is_pooling_after_it_in_evaluation() -> None:
    layer = ConvNorm(4, 16, pool=True)
    features = torch.randn(64, 4, 9, 8)
    for _ in range(200):  # until the running figures are those of this batch
        trained = layer(features)
    torch.testing.assert_close(layer.eval()(features), trained, rtol=0.01, atol=0.01)
    assert trained.shape == (64, 16, 4, 4)
