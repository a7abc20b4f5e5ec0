"""Fine-tuning: the last layer is trained alone, then all layers at a lower learning rate."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import torchvision
from cnn_infer import Spec
from cnn_train import Config, Run, Split
from cnn_train.network.build import build
from cnn_train.recipe.finetuning import frozen_epochs
from cnn_train.recipe.fit import Fit, learning_rate_factor
from torch import nn

CLASSES = ("blue", "green", "red")
LAST = {"resnet18": "fc.", "squeezenet1_1": "classifier.1."}


def fit_of(name: str, config: Config, network: nn.Module | None = None) -> Fit:
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (12, 32, 32, 3), np.uint8), np.arange(12) % 3
    split = Split(images, labels, [str(number) for number in range(12)])
    spec = Spec(CLASSES, 32, 32, "rgb", "crop", "bilinear", zero_point=120, scale=1 / 60)
    if network is None:
        torch.manual_seed(0)
        network = build(name, classes=3, channels=3, size=(32, 32), dropout=None)
    network.to(memory_format=torch.channels_last)
    return Fit(network, split, split, spec, config, torch.float32)


@pytest.fixture
def config(finished: Run) -> Config:
    """Two frozen epochs, then eight."""
    settings = replace(finished.config, pretrained=True, epochs=10, batch_size=6, lr=0.01, augment=())
    assert frozen_epochs(settings) == 2
    return settings


def state(fit: Fit) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in fit.network.state_dict().items()}


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_first_the_last_layer_learns_then_all_at_a_lower_rate(name: str, config: Config) -> None:
    fit = fit_of(name, config)
    rates, states = [], [state(fit)]
    for number in (0, 1, 2):
        rates.append(fit.epoch(number).lr)
        states.append(state(fit))
    for before, after in pairwise(states[:3]):
        changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
        assert changed == {f"{LAST[name]}weight", f"{LAST[name]}bias"}
    changed = {key for key, value in states[3].items() if not torch.equal(value, states[2][key])}
    # statistics of the norms too; biases of units that are dead in so small a picture do not move
    assert {key for key in states[3] if not key.endswith("bias")} <= changed
    plain = [0.01 * learning_rate_factor(2 * number + 1, 20) for number in (0, 1, 2)]
    assert rates == pytest.approx([plain[0], plain[1], plain[2] / 10])


def test_from_scratch_all_learns_from_the_first_epoch(config: Config) -> None:
    fit = fit_of("resnet18", replace(config, pretrained=False))
    before = state(fit)
    rate = fit.epoch(0).lr
    assert all(not torch.equal(value, before[key]) for key, value in state(fit).items())
    assert rate == pytest.approx(0.01 * learning_rate_factor(1, 20))


def test_a_training_that_resumes_after_the_frozen_epochs_reaches_the_same_weights(config: Config) -> None:
    fit = fit_of("resnet18", config)
    for number in (0, 1):
        fit.epoch(number)
    weights, optimizer = state(fit), deepcopy(fit.optimizer.state_dict())
    network = build("resnet18", classes=3, channels=3, size=(32, 32), dropout=None)
    network.load_state_dict(weights)
    again = fit_of("resnet18", config, network)
    again.optimizer.load_state_dict(optimizer)
    for each in (fit, again):
        each.epoch(2)
    assert all(torch.equal(value, state(again)[key]) for key, value in state(fit).items())


def test_the_command_says_what_is_frozen_and_keeps_the_weights(
    photos: Path, command: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    address = torchvision.models.get_model_weights("resnet18").DEFAULT.url
    theirs = torchvision.models.get_model("resnet18", weights=None).state_dict()
    torch.save(theirs, folder / Path(urlsplit(address).path).name)
    flags = ("--model", "resnet18", "--pretrained", "--size", "32", "--epochs", "2", "--lr", "1e-7")
    code, text = command(str(photos), *flags, "--batch-size", "8", "--precision", "fp32", "--out", "run")
    assert code == 0, text
    assert "only the last layer is trained in the first 1 of 2 epochs" in text
    kept = Run.open("run").network().state_dict()
    torch.testing.assert_close(kept["layer2.0.conv1.weight"], theirs["layer2.0.conv1.weight"], atol=1e-4, rtol=0)
