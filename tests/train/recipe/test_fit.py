"""The recipe: the same weights for the same seed, the learning rate's shape, divergence, and one step by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cnn_infer import Spec
from cnn_train import Config, Dataset, DivergedError, Epoch, Run, Split, train
from cnn_train.network.build import build
from cnn_train.network.logits import logits_of
from cnn_train.options import AUGMENTATIONS
from cnn_train.recipe.fit import Fit, learning_rate_factor, make_optimizer
from cnn_train.recipe.muon import Muon
from cnn_train.run.checkpoint import load_checkpoint
from torch import nn

CPU = torch.device("cpu")


def trained(out: Path, **options: object) -> bytes:
    run = train("digits", **{"model": "nano", "epochs": 1, "batch_size": 256, "out": out, **options})
    return (run.path / "model.safetensors").read_bytes()


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    options = {"dropout": 0.2, "augment": list(AUGMENTATIONS), "seed": 7}
    first = trained(tmp_path / "first", **options)
    torch.manual_seed(123)  # what the caller did with random numbers does not matter
    np.random.seed(123)
    assert trained(tmp_path / "again", **options) == first
    assert trained(tmp_path / "other", **{**options, "seed": 8}) != first


# divergence


def test_a_loss_that_is_no_number_names_the_step_and_the_rate(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"^the loss is (nan|inf) at epoch 1, step \d+, learning rate \S+e\+\d+: "):
        trained(tmp_path / "run", lr=1e30, batch_size=64, precision="fp32")
    assert load_checkpoint(tmp_path / "run").epochs == []
    assert not (tmp_path / "run" / "report.json").exists()


def test_weights_that_the_last_step_of_an_epoch_broke_are_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match="validation loss is nan at epoch 1, step 1,"):
        trained(tmp_path / "run", lr=1e30, batch_size=10_000, precision="fp32")
    assert load_checkpoint(tmp_path / "run").epochs == []


def test_the_checkpoint_before_a_divergence_is_kept(run: Path) -> None:
    (run / "report.json").unlink()
    config, checkpoint = run / "config.toml", run / "checkpoint.pt"
    text = config.read_text().replace("epochs = 3", "epochs = 6")
    assert f"lr = {Config.load(config).lr}" in text
    config.write_text(text.replace(f"lr = {Config.load(config).lr}", "lr = 1e30"))
    before = checkpoint.read_bytes()
    with pytest.raises(DivergedError, match="at epoch 4"):
        train(out=run, resume=True)
    assert checkpoint.read_bytes() == before
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3


# the learning rate


@pytest.mark.parametrize("steps", [1, 2, 7, 100, 2345])
def test_the_learning_rate_rises_to_its_peak_and_falls(steps: int) -> None:
    rates = np.array([learning_rate_factor(step, steps) for step in range(steps)])
    top = int(rates.argmax())
    assert rates[top] == pytest.approx(1)
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) < 0).all()
    assert (rates > 0).all()
    if steps >= 100:
        assert 0 < top < steps / 2
        assert rates[0] <= 0.2
        assert rates[-1] < 0.02


def test_the_rate_of_an_epoch_is_that_of_its_last_step(finished: Run, digits: Dataset) -> None:
    config = finished.config
    steps = -(-len(digits.train.labels) // config.batch_size)
    lines = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    expected = [config.lr * learning_rate_factor((epoch + 1) * steps - 1, config.epochs * steps) for epoch in range(3)]
    assert [line["lr"] for line in lines] == pytest.approx(expected)


# batches and steps


@pytest.mark.parametrize(("count", "batch_size"), [(3, 2), (5, 4), (9, 2), (2, 2), (7, 100)])
def test_batches_are_never_of_one_picture(digits: Dataset, finished: Run, count: int, batch_size: int) -> None:
    some = Split(digits.train.images[:count], digits.train.labels[:count], digits.train.names[:count])
    config = replace(finished.config, batch_size=batch_size, lr=1e-3)
    # small at 8 x 8 ends with one value a channel and picture: batch norm refuses a single picture there
    network = build("small", classes=10, channels=1, size=(8, 8), dropout=0.0)
    sizes: list[int] = []
    epoch = Fit(network, some, digits.val, finished.spec, config, torch.float32).epoch(0, sizes.append)
    assert sum(sizes) == count
    assert min(sizes) >= 2
    assert max(sizes) <= max(batch_size, 3)
    assert epoch.epoch == 1


def test_an_epoch_is_stochastic_gradient_descent(digits: Dataset, finished: Run) -> None:
    """Two steps against plain PyTorch: normalisation, order, smoothing, Nesterov momentum, decay, rates."""
    spec, count = finished.spec, 64
    some = Split(digits.train.images[:count], digits.train.labels[:count], digits.train.names[:count])
    recipe = {"optimizer": "sgd", "lr": 0.1, "augment": (), "label_smoothing": 0.2, "weight_decay": 0.1}
    config = replace(finished.config, batch_size=32, epochs=1, **recipe)

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return build("nano", classes=10, channels=1, size=(8, 8), dropout=0.0).train()

    network, plain = fresh(), fresh()
    Fit(network, some, digits.val, spec, config, torch.float32).epoch(0)
    order = np.random.default_rng([config.seed, 0]).permutation(count)
    velocity = {name: torch.zeros_like(value) for name, value in plain.named_parameters()}
    for step, chosen in enumerate((order[:32], order[32:])):
        pixels = torch.tensor(some.images[chosen].transpose(0, 3, 1, 2).astype(np.float32))
        logits = plain((pixels - spec.zero_point) * spec.scale).log_softmax(dim=1)
        truth = torch.full((32, 10), 0.2 / 10)
        truth[torch.arange(32), torch.from_numpy(some.labels[chosen])] += 0.8
        plain.zero_grad()
        (-(truth * logits).sum(dim=1).mean()).backward()
        rate = config.lr * learning_rate_factor(step, 2)
        with torch.no_grad():
            for name, value in plain.named_parameters():
                if not value.requires_grad:
                    continue
                slope = value.grad + (0.1 if value.ndim > 1 else 0) * value
                velocity[name] = 0.9 * velocity[name] + slope
                value -= rate * (slope + 0.9 * velocity[name])
    torch.testing.assert_close(network.state_dict(), plain.state_dict(), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("muon", Muon), ("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)],
)
def test_biases_and_norms_do_not_decay(finished: Run, name: str, kind: type) -> None:
    network = build("nano", classes=10, channels=1, size=(8, 8), dropout=0.0)
    optimizer = make_optimizer(network, replace(finished.config, optimizer=name, weight_decay=0.3), torch.float32)
    assert type(optimizer) is kind
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    vectors = {
        id(parameter)
        for module in network.modules()
        for key, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.BatchNorm2d) or key == "bias" or (name == "muon" and isinstance(module, nn.Conv2d))
    }
    learned = [id(parameter) for parameter in network.parameters() if parameter.requires_grad]
    assert {key: 0.0 if key in vectors else 0.3 for key in learned} == decay


def test_muon_is_for_filters_over_several_channels(finished: Run) -> None:
    network = build("mobilenet_v3_small", classes=10, channels=3, size=(32, 32), dropout=None)
    optimizer = make_optimizer(network, replace(finished.config, optimizer="muon"), torch.float32)
    found = {id(p) for group in optimizer.param_groups if group.get("orthogonal") for p in group["params"]}
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert found == {id(module.weight) for module in convolutions if module.groups == 1}
    assert any(module.groups > 1 for module in convolutions)


@pytest.mark.parametrize(("model", "early"), [("nano", (20, 24)), ("resnet18", (28, 32))])
def test_our_own_networks_see_smaller_pictures_first(
    digits: Dataset, finished: Run, model: str, early: tuple[int, int]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (24, 28, 32, 1), dtype=np.uint8)
    some = Split(images, np.arange(24) % 10, range(24))
    config = replace(finished.config, model=model, optimizer="sgd", epochs=3, batch_size=8, lr=1e-3)
    config = replace(config, height=28, width=32)
    network = build(model, classes=10, channels=1, size=(28, 32), dropout=None)
    seen: list[tuple[int, ...]] = []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    fit = Fit(network, some, some, replace(finished.spec, height=28, width=32), config, torch.float32)
    epochs = [fit.epoch(number) for number in range(3)]
    assert seen == [early] * 4 + [(28, 32)] * 8  # of each epoch three steps and the validation
    assert [(epoch.height, epoch.width) for epoch in epochs] == [early, (28, 32), (28, 32)]


def _many(digits: Dataset) -> Split:
    again = np.arange(10_000) % len(digits.train.labels)
    return Split(digits.train.images[again], digits.train.labels[again], range(10_000))


def _fit(digits: Dataset, finished: Run, train: Split, epochs: int, **more: Any) -> Fit:
    torch.manual_seed(0)
    network = build("nano", classes=10, channels=1, size=(8, 8), dropout=0.0)
    config = replace(finished.config, epochs=epochs, **{"batch_size": 500, **more})
    return Fit(network, train, digits.val, finished.spec, config, torch.float32)


def test_large_sets_skip_easy_pictures_except_in_the_first_and_last_epochs(digits: Dataset, finished: Run) -> None:
    fit = _fit(digits, finished, _many(digits), 5)
    steps: list[int] = []
    epochs = [fit.epoch(number, steps.append) for number in range(5)]
    shown = [epoch.pictures for epoch in epochs]
    assert (shown[0], shown[4]) == (10_000, 10_000)
    assert all(5_000 < count < 9_000 for count in shown[1:4])
    assert sum(steps) == 50_000  # what is left out is progress, too
    rates = [epoch.lr for epoch in epochs]
    assert rates[1:] == sorted(rates[1:], reverse=True)
    few = _fit(digits, finished, digits.train, 5)
    assert [few.epoch(number).pictures for number in range(2)] == [len(digits.train.labels)] * 2


def test_every_batch_has_two_pictures_also_where_some_are_skipped(
    digits: Dataset, finished: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch norm needs two."""
    some = Split(digits.train.images[:13], digits.train.labels[:13], range(13))
    fit = _fit(digits, finished, some, 1, batch_size=2)
    monkeypatch.setattr(fit, "_choose_pictures", lambda _: np.arange(9))
    steps: list[int] = []
    fit.epoch(0, steps.append)
    assert sorted(steps) == [2, 2, 2, 3, 4]  # four pictures are skipped


def test_a_resumed_training_skips_the_same_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnn_train.recipe.fit.SELECT_FROM", 1_000)

    class EnoughError(Exception):
        pass

    def stop(epochs: Sequence[Epoch]) -> None:
        if len(epochs) == 2:
            raise EnoughError

    options = {"model": "nano", "epochs": 5}
    whole = train("digits", out=tmp_path / "whole", **options)
    assert whole.epochs[2].pictures < whole.epochs[0].pictures
    with pytest.raises(EnoughError):
        train("digits", out=tmp_path / "cut", on_epoch=stop, **options)
    resumed = train(out=tmp_path / "cut", resume=True)
    assert [epoch.pictures for epoch in resumed.epochs] == [epoch.pictures for epoch in whole.epochs]
    weights = [(run.path / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]


def test_logits_are_those_of_the_normalised_pixels_in_evaluation_mode(digits: Dataset) -> None:
    spec = Spec(digits.source.classes, 8, 8, "grey", "crop", "bilinear", zero_point=70, scale=0.02)
    network = build("nano", classes=10, channels=1, size=(8, 8), dropout=0.5).train()
    found = logits_of(network, digits.train.images[:1203], spec, CPU)
    pixels = (digits.train.images[:1203].astype(np.float64) - 70) * 0.02
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(pixels.transpose(0, 3, 1, 2)).float()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32
