"""The first and the last epoch with pretrained weights: features, and the last layer that is fitted on them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cnn_infer import Spec
from cnn_train import Config, DataError, DivergedError, Run, Split
from cnn_train.network.build import build
from cnn_train.recipe.features import Extractor, last_layer
from cnn_train.recipe.fit import Fit
from cnn_train.recipe.last_layer import fit_last_layer, fit_softmax
from sklearn.linear_model import LogisticRegression
from torch import nn

SPEC = Spec(("blue", "green", "red"), 32, 32, "rgb", "crop", "bilinear", zero_point=127, scale=1 / 128)


def pictures(count: int, seed: int, *, by: int = 100, wrong: float = 0.0) -> Split:
    """Noise, brighter ``by`` so much in the colour of the class; a part of the labels is ``wrong``."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = random.integers(0, 120, (count, 32, 32, 3))
    colours = np.where(random.random(count) < wrong, random.integers(0, 3, count), labels)
    images[np.arange(count), :, :, 2 - colours] += by
    return Split(images.astype(np.uint8), labels, [str(number) for number in range(count)])


def network_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build(name, classes=3, channels=3, size=(32, 32), dropout=None).to(memory_format=torch.channels_last)


@pytest.fixture
def config(finished: Run) -> Config:
    return replace(finished.config, pretrained=True, epochs=2, batch_size=6, augment=("flip", "crop"))


@pytest.fixture
def extractor(tmp_path: Path) -> Extractor:
    network = network_of("resnet18")
    return Extractor(network, SPEC, torch.float32, torch.device("cpu"), tmp_path / "cache", lambda: None)


def calls_of(network: nn.Module) -> list[int]:
    """The sizes of the batches that a network computes from now on."""
    found: list[int] = []
    network.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))
    return found


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_only_the_last_layer_is_fitted_and_it_classifies(name: str, config: Config, tmp_path: Path) -> None:
    network = network_of(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fit = Fit(network, pictures(24, 0), pictures(9, 1), SPEC, config, torch.float32)
    epoch = fit_last_layer(fit, 0, tmp_path / "cache")
    assert (epoch.epoch, epoch.pictures, epoch.lr) == (1, 24, 0.0)
    assert epoch.val_accuracy == 1.0
    assert epoch.train_accuracy == 1.0
    assert max(epoch.train_loss, epoch.val_loss) < 0.3  # the logits are neither too small nor too large
    assert epoch.val_calibrated_error < 0.1
    layer = last_layer(network)[0]
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {f"{layer}.weight", f"{layer}.bias"}


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("squeezenet1_1", 512)])
def test_a_process_may_have_no_pictures(
    name: str, width: int, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cnn_train.distributed.shard", lambda _: slice(0, 0))
    found = replace(extractor, network=network_of(name), cache=None).features(pictures(1, 0).images, "val")
    assert (found.shape, found.dtype) == ((0, width), np.float16)


def test_fine_tuning_gets_the_stronger_penalty_of_losses_that_are_nearly_the_same(config: Config) -> None:
    fitted = []
    for epochs in (1, 3):
        some = (pictures(count, seed, by=16, wrong=0.3) for count, seed in ((90, 0), (45, 50)))
        fit = Fit(network_of("resnet18"), *some, SPEC, replace(config, epochs=epochs), torch.float32)
        fitted.append(fit_last_layer(fit, 0, None))
    only, first = fitted
    assert only.val_calibrated_loss < first.val_calibrated_loss < only.val_calibrated_loss + only.val_calibrated_error
    assert only.train_loss < first.train_loss


@pytest.mark.parametrize(("scale", "what"), [(1e6, "a feature of the training pictures"), (np.nan, "a feature of the")])
def test_features_that_float16_cannot_store_are_a_divergence(config: Config, scale: float, what: str) -> None:
    network = network_of("resnet18")
    with torch.no_grad():
        network.layer4[1].bn2.weight.fill_(scale)
    fit = Fit(network, pictures(24, 0), pictures(9, 1), SPEC, config, torch.float32)
    with pytest.raises(
        DivergedError, match=rf"^{what}.* is infinite or not a number at epoch 1: train with --precision fp32 if"
    ) as caught:
        fit_last_layer(fit, 0, None)
    assert not caught.value.lower_rate


def test_a_validation_loss_that_is_no_number_is_a_divergence(config: Config) -> None:
    network = network_of("resnet18")
    network.fc.register_forward_hook(lambda _, __, logits: logits * np.nan)
    fit = Fit(network, pictures(24, 0), pictures(9, 1), SPEC, config, torch.float32)
    with pytest.raises(
        DivergedError, match=r"^the validation loss is infinite or not a number at epoch 3: lower --lr, train with"
    ) as caught:
        fit_last_layer(fit, 2, None)
    assert caught.value.lower_rate


def test_features_are_what_the_last_layer_sees(extractor: Extractor) -> None:
    split = pictures(5, 0)
    features = extractor.features(split.images, "train", mirrored=True)
    assert features.shape == (10, 512)
    seen: list[torch.Tensor] = []
    extractor.network.fc.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = (torch.from_numpy(split.images).permute(0, 3, 1, 2).float() - 127) / 128
    with torch.no_grad():
        for each in (batch, batch.flip(3)):
            extractor.network(each)
    plain, mirrored = (each.numpy() for each in seen)
    np.testing.assert_allclose(features[:5], plain, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(features[5:], mirrored, rtol=1e-2, atol=1e-3)


def test_features_are_computed_once(extractor: Extractor) -> None:
    split = pictures(5, 0)
    calls = calls_of(extractor.network)
    first = extractor.features(split.images, "train")
    assert sum(calls) == 5
    again = extractor.features(split.images, "train")
    assert isinstance(again, np.memmap)
    assert sum(calls) == 5
    assert np.array_equal(first, again)
    with torch.no_grad():
        extractor.network.fc.weight.zero_()  # the last layer does not matter
    extractor.features(split.images, "val")
    assert sum(calls) == 5


def other_pixels(extractor: Extractor) -> np.ndarray:
    return extractor.features(pictures(5, 1).images, "train")


def other_weights(extractor: Extractor) -> np.ndarray:
    with torch.no_grad():
        extractor.network.conv1.weight[0, 0, 0, 0] += 1
    return extractor.features(pictures(5, 0).images, "train")


def other_precision(extractor: Extractor) -> np.ndarray:
    return replace(extractor, precision=torch.bfloat16).features(pictures(5, 0).images, "train")


def damaged_file(extractor: Extractor) -> np.ndarray:
    [file] = extractor.cache.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    return extractor.features(pictures(5, 0).images, "train")


@pytest.mark.parametrize("change", [other_pixels, other_weights, other_precision, damaged_file])
def test_features_are_computed_again_when_something_changed(
    extractor: Extractor, change: Callable[[Extractor], np.ndarray]
) -> None:
    extractor.features(pictures(5, 0).images, "train")
    calls = calls_of(extractor.network)
    change(extractor)
    assert sum(calls) == 5


def test_a_cache_that_cannot_be_written_is_one_line(extractor: Extractor) -> None:
    extractor.cache.write_bytes(b"a file in the place of the folder")
    with pytest.raises(DataError, match=r"cannot write the features .*--cache") as caught:
        extractor.features(pictures(3, 0).images, "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("balance", [False, True])
def test_the_fit_agrees_with_scikit_learn(balance: bool) -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [30, 20, 10])
    rows = (random.normal(size=(60, 4)) + labels[:, None]).astype(np.float32)
    importance = torch.tensor(60 / (3 * np.bincount(labels)), dtype=torch.float32) if balance else None
    found = fit_softmax(torch.from_numpy(rows), torch.from_numpy(labels), torch.zeros(3, 5), 0.1, importance)
    other = LogisticRegression(C=1 / (0.1 * 60), class_weight="balanced" if balance else None, tol=1e-8).fit(
        rows, labels
    )
    np.testing.assert_allclose(found[:, :-1], other.coef_, atol=2e-3)
    np.testing.assert_allclose(
        found[:, -1] - found[:, -1].mean(), other.intercept_ - other.intercept_.mean(), atol=5e-3
    )
