"""What can be asked for, and what of it makes sense: of the call, the command line and TOML files alike."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypedDict, get_args

from cnn_infer.spec import Resize

from cnn_train.errors import ConfigError

AUGMENTATIONS = ("flip", "crop", "zoom", "rotate", "cutout", "colour")
"""Names of the augmentations, in the order in which they are applied."""

OPTIMIZERS = ("muon", "sgd", "adam", "adamw")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


class Options(TypedDict, total=False):
    """What can be asked for; :func:`cnn_train.config.resolve` decides the rest. Fields as in :class:`Config` there."""

    data_dir: str | None
    model: str
    pretrained: bool
    epochs: int
    patience: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    dropout: float
    label_smoothing: float
    augment: tuple[str, ...] | list[str] | str
    balance: bool
    size: int
    resize: Resize
    seed: int
    device: str
    precision: str
    cache: str | None
    strict: bool


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
    "patience": _whole(0),
    "batch_size": _whole(2),  # batch norm has nothing to compare one picture with
    "lr": _POSITIVE,
    "optimizer": _one_of(OPTIMIZERS),
    "weight_decay": _number(0),
    "dropout": _number(0, 1),
    "label_smoothing": _number(0, 1),
    "augment": (lambda value: isinstance(value, (str, list, tuple)), "a list of names"),
    "balance": _SWITCH,
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
    values = read_toml(path)
    height, width = values.pop("height", None), values.pop("width", None)
    if height is not None and height == width:
        values.setdefault("size", height)
    return checked(values, f" in {path}")


def _augmentations(value: str | list[Any] | tuple[Any, ...], where: str) -> tuple[str, ...]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    if names == ["none"]:
        return ()
    unknown = [name for name in names if name not in AUGMENTATIONS]
    if unknown:
        text = f"augment must be none or a list out of {', '.join(AUGMENTATIONS)}"
        raise ConfigError(f"{text}, not {', '.join(map(repr, unknown))}{where}")
    return tuple(name for name in AUGMENTATIONS if name in names)


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises :class:`ConfigError` where it is missing or no TOML."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"not a file: {path}")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
