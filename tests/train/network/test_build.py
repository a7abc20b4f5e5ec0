"""torchvision's models made to fit the contract, and their weights, which stand where torch looks for them."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import torchvision
from cnn_train import ConfigError, Run, train
from cnn_train.network.build import build
from cnn_train.network.pretrained import load_pretrained
from torch import nn

ZERO_POINT, SCALE = 120, 1 / 60


@pytest.fixture
def weights_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], nn.Module]:
    """Random weights in torch's folder, in the file where torchvision's are kept after their download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def place(name: str) -> nn.Module:
        torch.manual_seed(0)
        network = torchvision.models.get_model(name, weights=None).eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 1.5)
        torch.save(network.state_dict(), weights_file(tmp_path / "torch", name))
        return network

    return place


def weights_file(home: Path, name: str) -> Path:
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / Path(urlsplit(torchvision.models.get_model_weights(name).DEFAULT.url).path).name


def refused(name: str, size: int = 32) -> str:
    with pytest.raises(ConfigError) as caught:
        build(name, classes=3, channels=3, size=(size, size), dropout=None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# which models


@pytest.mark.parametrize(("name", "channels"), [("resnet18", 1), ("mobilenet_v3_small", 3), ("squeezenet1_1", 1)])
def test_a_torchvision_model_takes_grey_and_colour(name: str, channels: int) -> None:
    network = build(name, classes=5, channels=channels, size=(32, 40), dropout=None).eval()
    with torch.no_grad():
        found = network(torch.randn(2, channels, 32, 40))
    assert found.shape == (2, 5)
    untouched = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(int(module.num_batches_tracked) == 0 for module in untouched)


@pytest.mark.parametrize(
    ("name", "near"), [("resnet81", "resnet18"), ("mobilnet_v3_small", "mobilenet_v3_small"), ("smal", "small")]
)
def test_an_unknown_model_is_refused_with_names_that_are_near(name: str, near: str) -> None:
    text = refused(name)
    assert f"unknown model {name!r} (did you mean" in text
    assert near in text.partition("one of")[0]


def test_a_model_that_is_like_none_is_refused() -> None:
    text = refused("q")
    assert "did you mean" not in text
    assert "nano, small, base, large" in text


@pytest.mark.parametrize("name", ["vit_b_16", "inception_v3"])
def test_a_size_that_a_model_does_not_take_is_refused(name: str, recwarn: pytest.WarningsRecorder) -> None:
    assert f"{name} does not take pictures of 32 x 32" in refused(name)
    assert not recwarn.list


def test_a_model_that_returns_more_than_one_tensor_is_refused(recwarn: pytest.WarningsRecorder) -> None:
    assert "googlenet does not return one tensor" in refused("googlenet", 64)
    assert not recwarn.list


def test_dropout_is_set_or_refused() -> None:
    drops = [
        module.p
        for module in build("squeezenet1_1", classes=3, channels=3, size=(32, 32), dropout=0.3).modules()
        if isinstance(module, nn.Dropout)
    ]
    assert drops == [0.3]
    with pytest.raises(ConfigError, match="resnet18 has no dropout layer"):
        build("resnet18", classes=3, channels=3, size=(32, 32), dropout=0.3)


# pretrained weights


def inputs(grey: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The same random pixels as our networks get them and as torchvision's weights expect them."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 1 if grey else 3)).astype(np.float32)
    expected = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    ours = (pixels - ZERO_POINT) * SCALE
    return (
        torch.from_numpy(ours.transpose(0, 3, 1, 2)).float(),
        torch.from_numpy(expected.transpose(0, 3, 1, 2)).float(),
    )


def first_layers(name: str, network: nn.Module) -> nn.Module:
    if name == "squeezenet1_1":
        return network.get_submodule("features")[:4]
    return nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool, network.layer1)


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_weights_see_what_they_expect(
    weights_of: Callable[[str], nn.Module], name: str, channels: int
) -> None:
    theirs = weights_of(name)
    network = build(name, classes=3, channels=channels, size=(128, 128), dropout=None).eval()
    fresh = {key: value.clone() for key, value in network.state_dict().items()}
    load_pretrained(name, network, zero_point=ZERO_POINT, scale=SCALE)
    ours, expected = inputs(channels == 1)
    with torch.no_grad():
        found, wanted = first_layers(name, network)(ours), first_layers(name, theirs)(expected)
    inner = (..., slice(9, -9), slice(9, -9))  # away from the border, where padding differs
    torch.testing.assert_close(found[inner], wanted[inner], rtol=1e-4, atol=1e-4)
    last = {key for key, value in theirs.state_dict().items() if 1000 in value.shape}
    first = "features.0." if name == "squeezenet1_1" else "conv1."
    for key, value in network.state_dict().items():
        if not key.startswith(first):
            assert torch.equal(value, fresh[key] if key in last else theirs.state_dict()[key]), key


def test_a_pretrained_network_is_trained_stored_and_opened(
    weights_of: Callable[[str], nn.Module], photos: Path, tmp_path: Path
) -> None:
    theirs = weights_of("resnet18")
    settings = {"model": "resnet18", "pretrained": True, "size": 32, "cache": str(tmp_path / "cache")}
    run = train(photos, out=tmp_path / "run", epochs=1, lr=1e-6, batch_size=8, precision="fp32", **settings)
    state = Run.open(run.path).network().state_dict()
    torch.testing.assert_close(
        state["layer2.0.conv1.weight"], theirs.layer2[0].conv1.weight.detach(), atol=1e-4, rtol=0
    )
    assert state["conv1.bias"].abs().max() > 0
    before = run.report["test"]
    (run.path / "report.json").unlink()
    assert train(out=run.path, resume=True).report["test"] == before


def test_a_preset_has_no_pretrained_weights() -> None:
    network = build("nano", classes=3, channels=3, size=(32, 32), dropout=None)
    with pytest.raises(ConfigError, match="nano is trained from scratch"):
        load_pretrained("nano", network, zero_point=ZERO_POINT, scale=SCALE)


@pytest.mark.parametrize("content", [None, b"", b"not weights", b"\x80\x02"])
def test_weights_that_cannot_be_had_are_one_line(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for proxy in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")  # nobody listens there
    if content is not None:
        weights_file(tmp_path, "resnet18").write_bytes(content)
    network = build("resnet18", classes=3, channels=3, size=(32, 32), dropout=None)
    with pytest.raises(ConfigError, match=r"weights of resnet18 cannot be fetched \(.+\).*train without") as caught:
        load_pretrained("resnet18", network, zero_point=ZERO_POINT, scale=SCALE)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
