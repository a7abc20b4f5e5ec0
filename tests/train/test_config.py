"""Where the value of an option comes from, which values are refused, and what a run stores."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest
from cnn_train import Config, ConfigError, Dataset, Run, Split, open_source, prepare, resolve, train
from cnn_train.config import OPTIONS, checked, read_options
from cnn_train.options import Options

INVALID = {
    "data": ("", 3),
    "columns": ("image label", ["image"], ["image", "image"], ["image", ""], ["image", 3], [["image"], ["label"]], 5),
    "group": ("", "[0-9]+", "(", 3),
    "fold": ("", "0/5", "6/5", "1/1", "1/101", "1-5", "1/5 ", 1),
    "model": ("", 18),
    "pretrained": ("yes", 1),
    "teacher": ("", 3),
    "epochs": (0, -3, 2.5, "3", True),
    "patience": (-1, 1.5, "3", True),
    "batch_size": (1, 0, -64, 64.0, True),
    "lr": (0, -0.1, float("nan"), float("inf"), "0.1", True),
    "optimizer": ("rmsprop", "SGD", 1),
    "weight_decay": (-1e-4, float("nan"), float("inf"), "0"),
    "dropout": (-0.1, 1, 1.5, float("nan"), "0.5"),
    "label_smoothing": (-0.1, 1.0, float("nan")),
    "augment": ("mirror", "flip,mirror", ["flip", "none"], [3], 5, ""),
    "balance": ("yes", 1),
    "size": (
        3,
        0,
        -28,
        28.0,
        "28",
        "28x",
        "x28",
        "3x28",
        "28x28x28",
        "28x4097",
        True,
        4097,
        [28],
        [28, 3],
        [28, 28, 28],
        (28, 28.0),
    ),
    "resize": ("stretch", "CROP", 1),
    "seed": (-1, 1.5, "0", 2**63),
    "device": ("gpu", "cuda:0"),
    "precision": ("int8", "float32"),
    "cache": ("", 1),
    "data_dir": ("", 1),
    "strict": ("no", 0),
    "log": ("wandb", "", 1),
}


def with_pictures(digits: Dataset, count: int, *, classes: tuple[str, ...] | None = None) -> Dataset:
    """The digits as if there were ``count`` training pictures, and with other classes' names."""
    images = np.broadcast_to(digits.train.images[:1], (count, *digits.train.images.shape[1:]))
    train = Split(images, np.zeros(count, np.int64), range(count))
    source = replace(digits.source, classes=classes or digits.source.classes)
    return replace(digits, train=train, source=source)


# flag, file, default


def test_what_is_passed_wins_over_the_file_and_the_file_over_the_default(digits: Dataset, tmp_path: Path) -> None:
    file = tmp_path / "options.toml"
    file.write_text('epochs = 7\noptimizer = "adam"\nseed = 3\naugment = ["cutout", "flip"]\n')
    default = resolve({}, digits)
    found = resolve({**read_options(file), **checked({"epochs": 2, "seed": None})}, digits)
    assert (found.epochs, found.optimizer, found.seed, found.augment) == (2, "adam", 3, ("flip", "cutout"))
    assert (found.model, found.label_smoothing, found.resize) == (default.model, default.label_smoothing, "crop")
    assert default.optimizer == "muon"
    assert default.seed == 0


@pytest.mark.parametrize("optimizer", ["muon", "sgd", "adam", "adamw"])
def test_the_default_rate_is_in_proportion_to_the_batch_size(digits: Dataset, optimizer: str) -> None:
    many = with_pictures(digits, 50_000)
    default = resolve({"optimizer": optimizer}, many)
    smaller = resolve({"optimizer": optimizer, "batch_size": default.batch_size // 4}, many)
    assert smaller.lr == pytest.approx(default.lr / 4)
    whole = resolve({"optimizer": optimizer, "batch_size": len(many.train.labels)}, many)
    larger = resolve({"optimizer": optimizer, "batch_size": 100 * len(many.train.labels)}, many)
    assert larger.lr == whole.lr  # a batch holds no more than all pictures
    both = resolve({"optimizer": optimizer, "lr": 0.5, "batch_size": 10}, many)
    assert (both.lr, both.batch_size) == (0.5, 10)


@pytest.mark.parametrize("count", [100, 1_000, 50_000])
@pytest.mark.parametrize("rate", [1e-9, 0.004, 1e30])
def test_a_given_rate_changes_nothing_else(digits: Dataset, count: int, rate: float) -> None:
    pictures = with_pictures(digits, count)
    assert resolve({"lr": rate}, pictures) == replace(resolve({}, pictures), lr=rate)


def test_cutout_is_for_networks_that_memorise_pictures_of_24_pixels(digits: Dataset) -> None:
    def augmented(side: int, count: int, model: str) -> bool:
        images = np.zeros((count, side, side, 1), np.uint8)
        train = replace(digits.train, images=images, labels=np.arange(count) % 10)
        dataset = replace(digits, height=side, width=side, train=train)
        return "cutout" in resolve({"model": model}, dataset).augment

    assert augmented(24, 9_999, "nano")
    assert not augmented(24, 10_000, "nano")
    assert augmented(24, 10_000, "small")
    assert not augmented(23, 10_000, "small")


def test_defaults_suit_the_data(digits: Dataset) -> None:
    assert "flip" not in resolve({}, digits).augment
    animals = with_pictures(digits, 1000, classes=("cat", "dog"))
    assert "flip" not in resolve({}, animals).augment
    both_ways = np.concatenate([animals.train.images[:500], animals.train.images[:500, :, ::-1]])
    labels = np.concatenate([animals.train.labels[:500]] * 2)
    mirrored = replace(animals, train=replace(animals.train, images=both_ways, labels=labels))
    assert "flip" in resolve({}, mirrored).augment
    few, many = (resolve({}, with_pictures(digits, count)) for count in (1000, 60_000))
    assert few.epochs > many.epochs
    assert few.batch_size < many.batch_size
    assert 0 < few.patience < few.epochs
    assert many.patience == 0
    fewest = resolve({}, with_pictures(digits, 160))
    assert fewest.epochs > few.epochs
    assert resolve({"epochs": 3}, with_pictures(digits, 160)).patience >= 3  # so short a training is not cut off
    assert resolve({}, digits).dropout == 0
    assert resolve({"model": "alexnet"}, digits).dropout is None
    assert (resolve({}, digits).height, resolve({}, digits).width) == (8, 8)


@pytest.mark.parametrize("value", ["none", ["none"], [], ()])
def test_no_augmentation(value: object) -> None:
    assert checked({"augment": value}) == {"augment": ()}


def test_augmentations_as_text_or_list_in_any_order() -> None:
    assert checked({"augment": "crop, flip"}) == checked({"augment": ["flip", "crop"]}) == {"augment": ("flip", "crop")}


# values that are refused


@pytest.mark.parametrize(("option", "value"), [(key, value) for key, values in INVALID.items() for value in values])
def test_a_value_that_is_not_accepted_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        checked({option: value})
    text = str(caught.value)
    culprit = value.split(",")[-1] if isinstance(value, str) else value[-1] if isinstance(value, list) else value
    assert option in text
    assert repr(culprit) in text or repr(value) in text
    assert "\n" not in text


def test_what_train_takes_is_typed_as_the_table_says() -> None:
    hints = get_type_hints(Options)
    assert [*hints] == [name for name in OPTIONS if name != "data"] == [name for name in INVALID if name != "data"]
    for name, hint in hints.items():
        assert hint in (OPTIONS[name].rule.type, OPTIONS[name].rule.type | None), name


def test_the_configuration_stores_what_the_table_accepts() -> None:
    hints = {**get_type_hints(Config), "size": None}
    assert {*hints} == {*OPTIONS, "height", "width"}
    for name, option in OPTIONS.items():
        if name not in ("augment", "columns", "size"):  # stored in another form
            assert hints[name] in (option.rule.type, option.rule.type | None), name
        if option.default is not None:
            assert checked({name: option.default}) == {name: option.default}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("epoch = 3", "unknown option 'epoch'"),
        ("[train]\nepochs = 3", "unknown option 'train'"),
        ("epochs = 0", "epochs must be .* not 0"),
        ("height = 8", "height and width must both be set"),
        ("size = 8\nheight = 8\nwidth = 8", "height and width must both be set, without size"),
        ("size = [8]", r"size must be .* not \[8\]"),
        ('augment = "turn"', "'turn'"),
        ("epochs = ", "is not TOML"),
        ("\xff", "is not TOML"),
    ],
)
def test_a_file_is_refused_by_name_and_reason(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=reason) as caught:
        read_options(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-with-mark", "utf-16-be-with-mark"])
def test_a_file_may_have_a_byte_order_mark_and_be_utf_16(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding.endswith("-with-mark") else ""
    file = tmp_path / "mine.toml"
    file.write_bytes((mark + 'epochs = 3\r\ndata = "Bär"\r\n').encode(encoding.removesuffix("-with-mark")))
    assert read_options(file) == {"epochs": 3, "data": "Bär"}


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        read_options(tmp_path / "none.toml")


# what a run stores


def test_the_stored_configuration_is_the_resolved_one(digits: Dataset, tmp_path: Path) -> None:
    options = {"augment": "flip,colour", "lr": 0.03, "data_dir": "/somewhere", "dropout": 0.25, "seed": 2**62}
    config = resolve(checked(options), digits)
    config.save(tmp_path / "config.toml")
    assert Config.load(tmp_path / "config.toml") == config
    assert (config.lr, config.data_dir, config.augment) == (0.03, "/somewhere", ("flip", "colour"))


def test_the_stored_configuration_serves_as_a_file_of_options(finished: Run, digits: Dataset) -> None:
    options = read_options(finished.path / "config.toml")
    assert options["size"] == 8
    assert resolve(options, digits) == finished.config
    assert resolve({**options, "seed": 5}, digits) == replace(finished.config, seed=5)


def test_sizes_that_are_not_square_are_kept_everywhere(tmp_path: Path) -> None:
    run = train("digits", model="nano", epochs=1, size=[12, 8], out=tmp_path / "run")
    assert (run.config.height, run.config.width, run.spec.shape) == (12, 8, (12, 8, 1))
    again = train(config=run.path / "config.toml", out=tmp_path / "again")
    assert (again.config, again.spec.shape) == (run.config, (12, 8, 1))
    file = tmp_path / "mine.toml"
    for written in ("[12, 8]", '"12x8"', '"12X8"'):
        file.write_text(f"size = {written}\n")
        options = read_options(file)
        assert options == {"size": (12, 8)}
    dataset = prepare(open_source("digits"), size=options["size"])
    assert (dataset.height, dataset.width) == (12, 8)
    assert resolve(options, dataset).height == 12


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("epochs = 3", 'epochs = "three"', "epochs must be"),
        ("epochs = 3", "", "incomplete"),
        ("epochs = 3", "epochs = 3\ncycles = 2", "unknown option 'cycles'"),
        ("height = 8", "height = 0", "height must be"),
    ],
)
def test_a_stored_configuration_that_was_damaged_is_refused(run: Path, old: str, new: str, reason: str) -> None:
    file = run / "config.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=reason) as caught:
        Config.load(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [("digits",), ("photos",), ("digits", "--tune", "1"), ("digits", "--folds", "2"), ("digits", "--check")],
    ids=["digits", "folder", "tune", "folds", "check"],
)
def test_a_folder_to_search_is_for_named_sets(
    refused: Callable[..., str], photos: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    line = refused(*arguments, "--data-dir", "nowhere")
    assert f"no effect with {arguments[0]}, which is not searched for: --data-dir" in line
    assert not (tmp_path / "runs").exists()
