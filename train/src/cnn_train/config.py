"""The configuration of a run: what can be set, what it is where nothing is said, and how it is stored.

An option's value comes from the call or the command line, else from ``--config``, else from
:func:`resolve`, which decides by what the data itself says: channels, size, number of pictures.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, get_args

import tomli_w
from cnn_infer.atomic import write_text
from cnn_infer.spec import Resize

from cnn_train.augment import NAMES as AUGMENTATIONS
from cnn_train.dataset import Dataset
from cnn_train.errors import ConfigError
from cnn_train.named import NAMED
from cnn_train.networks import PRESETS

OPTIMIZERS = ("sgd", "adam", "adamw")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")

BATCH_SIZE = 256
LEARNING_RATE = {"sgd": 0.2, "adam": 2e-3, "adamw": 2e-3}
"""Peak learning rates for :data:`BATCH_SIZE`; another batch size scales them in proportion (Goyal et al.,
2017, arXiv:1706.02677)."""

WEIGHT_DECAY = {"sgd": 5e-4, "adam": 0.0, "adamw": 0.05}

PICTURES_SEEN = 600_000
"""Default length of a training in pictures: ten epochs of MNIST. Small sets get more epochs, up to 60."""


class Options(TypedDict, total=False):
    """What can be asked for; what is left out is decided by :func:`resolve`. Fields as in :class:`Config`."""

    data_dir: str | None
    model: str
    pretrained: bool
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    dropout: float
    label_smoothing: float
    augment: tuple[str, ...] | list[str] | str
    size: int
    resize: Resize
    seed: int
    device: str
    precision: str
    cache: str | None
    strict: bool


@dataclass(frozen=True)
class Config:
    """A resolved configuration, as ``config.toml`` in a run folder holds it.

    Attributes:
        data: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or a folder.
        model: A preset or a torchvision classification model.
        pretrained: Start from torchvision's weights.
        epochs: Passes over the training pictures.
        batch_size: Pictures to a step.
        lr: Peak learning rate.
        optimizer: ``sgd`` (with Nesterov momentum 0.9), ``adam`` or ``adamw``.
        weight_decay: Of weights; never of biases and norms.
        label_smoothing: 0 to below 1 (Szegedy et al., 2016, arXiv:1512.00567).
        augment: Out of :data:`cnn_train.augment.NAMES`, in any order; empty for none.
        height: Rows of the network's input, in pixels.
        width: Columns of the network's input, in pixels.
        resize: ``squash``, ``crop`` or ``pad``.
        seed: Of everything random: splits, weights, order, augmentation.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        precision: ``auto``, ``fp32``, ``bf16`` or ``fp16``.
        strict: An unreadable picture is an error.
        dropout: Probability before the last layer; None keeps the architecture's own.
        data_dir: Where named sets are looked for first.
        cache: Where decoded pictures are kept; None for the user's cache folder.
    """

    data: str
    model: str
    pretrained: bool
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    label_smoothing: float
    augment: tuple[str, ...]
    height: int
    width: int
    resize: Resize
    seed: int
    device: str
    precision: str
    strict: bool
    dropout: float | None = None
    data_dir: str | None = None
    cache: str | None = None

    def save(self, path: Path) -> None:
        """Write it as TOML; what is None is left out."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        write_text(path, tomli_w.dumps({**values, "augment": list(self.augment)}))

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: the file is missing, damaged, or of another version.
        """
        values = _read_toml(path)
        sides = {key: values.pop(key) for key in ("height", "width") if key in values}
        for key, side in sides.items():
            if type(side) is not int or side < 1:
                raise ConfigError(f"{key} must be a whole number of at least 1, not {side!r} in {path}")
        try:
            return cls(**checked(values, f" in {path}"), **sides)
        except TypeError as error:
            raise ConfigError(f"{path} is of another version or incomplete: {error}") from error


def _whole(least: int) -> tuple[Callable[[Any], bool], str]:
    # TOML and torch count in 64 bits
    return lambda value: type(value) is int and least <= value < 2**63, f"a whole number of at least {least}"


def _number(least: float, below: float = 1e38) -> tuple[Callable[[Any], bool], str]:
    text = f"a number from {least:g}" + (f" to below {below:g}" if below < 1e38 else "")
    return lambda value: type(value) in (int, float) and least <= value < below, text


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _one_of(names: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return lambda value: value in names, f"one of {', '.join(names)}"


# a name that is not UTF-8 cannot be stored in TOML and JSON
_TEXT: tuple[Callable[[Any], bool], str] = (
    lambda value: isinstance(value, str) and value != "" and _is_utf8(value),
    "a text, in UTF-8",
)
_SWITCH: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, bool), "true or false")
_POSITIVE: tuple[Callable[[Any], bool], str] = (
    lambda value: type(value) in (int, float) and 0 < value < 1e38,
    "a number above 0",
)

_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "data": _TEXT,
    "data_dir": _TEXT,
    "model": _TEXT,
    "pretrained": _SWITCH,
    "epochs": _whole(1),
    "batch_size": _whole(2),  # batch norm has nothing to compare one picture with
    "lr": _POSITIVE,
    "optimizer": _one_of(OPTIMIZERS),
    "weight_decay": _number(0),
    "dropout": _number(0, 1),
    "label_smoothing": _number(0, 1),
    "augment": (lambda value: isinstance(value, (str, list, tuple)), "a list of names"),
    "size": _whole(4),
    "resize": _one_of(get_args(Resize)),
    "seed": _whole(0),
    "device": _one_of(DEVICES),
    "precision": _one_of(PRECISIONS),
    "cache": _TEXT,
    "strict": _SWITCH,
}


def checked(options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The options that are set, each of a sensible type and value.

    Raises:
        ConfigError: an option is unknown or its value makes no sense; the text says which and what would.
    """
    result = {key: value for key, value in options.items() if value is not None}
    for key, value in result.items():
        if key not in _RULES:
            raise ConfigError(f"unknown option {key!r}{where}: one of {', '.join(_RULES)}")
        valid, text = _RULES[key]
        if not valid(value):
            raise ConfigError(f"{key} must be {text}, not {value!r}{where}")
    if "augment" in result:
        result["augment"] = _augmentations(result["augment"], where)
    return result


def read_options(path: Path) -> dict[str, Any]:
    """The options in a TOML file: those of the command line, with ``_`` for ``-``.

    A run's ``config.toml`` serves as well. Raises :class:`ConfigError` as :func:`checked`.
    """
    values = _read_toml(path)
    height, width = values.pop("height", None), values.pop("width", None)
    if height is not None and height == width:
        values.setdefault("size", height)
    return checked(values, f" in {path}")


def resolve(options: Mapping[str, Any], dataset: Dataset) -> Config:
    """Decide what was not asked for by what the data says.

    Args:
        options: As :func:`checked` returns them.
        dataset: The decoded pictures.
    """
    optimizer = options.get("optimizer", "sgd")
    count = len(dataset.train.labels)
    batch_size, lr = _batch_size_and_rate(options, optimizer, count)
    return Config(
        data=_absolute(options.get("data", "digits")),
        model=options.get("model", "small"),
        pretrained=options.get("pretrained", False),
        epochs=options.get("epochs", min(60, max(10, round(PICTURES_SEEN / count)))),
        batch_size=batch_size,
        lr=lr,
        optimizer=optimizer,
        weight_decay=options.get("weight_decay", WEIGHT_DECAY[optimizer]),
        label_smoothing=options.get("label_smoothing", 0.1),
        augment=options.get("augment", _default_augmentations(dataset)),
        height=dataset.height,
        width=dataset.width,
        resize=options.get("resize", "crop"),
        seed=options.get("seed", 0),
        device=options.get("device", "auto"),
        precision=options.get("precision", "auto"),
        strict=options.get("strict", False),
        dropout=options.get("dropout", 0.0 if options.get("model", "small") in PRESETS else None),
        data_dir=options.get("data_dir") and os.path.abspath(options["data_dir"]),
        cache=options.get("cache") and os.path.abspath(options["cache"]),
    )


def _absolute(data: str) -> str:
    """A folder's place from anywhere; a named set stays its name."""
    return data if data in ("digits", *NAMED) else os.path.abspath(data)


def _batch_size_and_rate(options: Mapping[str, Any], optimizer: str, count: int) -> tuple[int, float]:
    """The one that is not given follows the one that is, in proportion."""
    rate = LEARNING_RATE[optimizer]
    # A small set needs steps more than wide ones: at least 16 to an epoch, of at least 32 pictures each.
    size = min(BATCH_SIZE, max(32, 1 << max(0, (count // 16).bit_length() - 1)))
    if "batch_size" in options:
        size = options["batch_size"]
        return size, options.get("lr", rate * size / BATCH_SIZE)
    if "lr" in options:
        return max(2, round(min(count, BATCH_SIZE * options["lr"] / rate))), options["lr"]
    return size, rate * size / BATCH_SIZE


def _default_augmentations(dataset: Dataset) -> tuple[str, ...]:
    # Classes named by a character or a number are likely to be signs, and those change their meaning in a mirror.
    characters = all(len(name) == 1 or name.isdecimal() for name in dataset.source.classes)
    flip = () if characters else ("flip",)
    cutout = ("cutout",) if min(dataset.height, dataset.width) >= 24 else ()
    return (*flip, "crop", *cutout)


def _augmentations(value: str | list[Any] | tuple[Any, ...], where: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    if names == ["none"]:
        return ()
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        text = f"augment must be none or a list out of {', '.join(AUGMENTATIONS)}"
        raise ConfigError(f"{text}, not {', '.join(map(repr, unknown))}{where}")
    return tuple(name for name in AUGMENTATIONS if name in names)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"not a file: {path}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
