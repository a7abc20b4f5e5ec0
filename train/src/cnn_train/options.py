"""What an option is: the rule for its values, its help text and its default. :mod:`cnn_train.config` lists all options.

The call, the command line and TOML files share these definitions. This module imports neither PyTorch nor NumPy, so
``cnn-train --help`` stays fast.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypedDict, get_args

from cnn_infer.spec import MAX_SIDE, Resize

AUGMENTATIONS = ("flip", "crop", "zoom", "rotate", "cutout", "colour")
"""Names of the augmentations, in the order in which they are applied."""

OPTIMIZERS = ("muon", "sgd", "adam", "adamw")
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
LOGS = ("tensorboard", "mlflow")


class Options(TypedDict, total=False):
    """The keyword options of :func:`cnn_train.train`; each is explained in :class:`cnn_train.Config`."""

    columns: tuple[str, str] | list[str]
    group: str
    fold: str
    model: str
    pretrained: bool
    teacher: str
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
    size: int | tuple[int, int] | list[int] | str
    resize: Resize
    seed: int
    device: str
    precision: str
    cache: str | None
    data_dir: str | None
    strict: bool
    log: str


@dataclass(frozen=True)
class Rule:
    """The values that an option accepts.

    Attributes:
        type: Their type, as :class:`Options` declares it.
        expected: Completes "NAME must be ..." in the error message.
        valid: Whether a value is accepted.
        choices: All accepted values, if they are names out of a list; else empty.
        stored: Converts an accepted value to the form that :class:`cnn_train.Config` stores.
    """

    type: Any
    expected: str
    valid: Callable[[Any], bool]
    choices: tuple[str, ...] = ()
    stored: Callable[[Any], Any] = lambda value: value


@dataclass(frozen=True)
class Option:
    """One option of a training.

    Attributes:
        rule: The values that it accepts.
        help: What it does, in whole sentences.
        default: Its value if it is not given; None if :func:`cnn_train.resolve` chooses it.
        default_text: The default in words, as ``--help`` shows it.
        metavar: What ``--help`` shows in place of the value; None for a name made from the type.
    """

    rule: Rule
    help: str
    default: Any
    default_text: str
    metavar: str | None = None


def option(
    rule: Rule,
    text: str,
    *,
    default: Any = None,
    default_text: str | None = None,
    metavar: str | None = None,
    name: str | None = None,
    may_be_none: bool = False,
) -> Any:
    """A field of :class:`cnn_train.Config` that can be set.

    Args:
        rule: The values that it accepts.
        text: What it does, in whole sentences.
        default: Its value if it is not given; None if :func:`cnn_train.resolve` chooses it.
        default_text: The default in words; None to write ``default`` itself.
        metavar: What ``--help`` shows in place of the value.
        name: The option's name, if it is not that of the field.
        may_be_none: Whether the field may be None; it is then left out of ``config.toml``.
    """
    if default_text is None:
        default_text = ("no", "yes")[default] if isinstance(default, bool) else str(default)
    metadata = {"name": name, "option": Option(rule, text, default, default_text, metavar)}
    return field(default=None, metadata=metadata) if may_be_none else field(metadata=metadata)


def whole_number(least: int) -> Rule:
    """Accept an int of at least ``least`` that TOML and PyTorch can store (64 bits)."""
    return Rule(int, f"a whole number of at least {least}", lambda value: type(value) is int and least <= value < 2**63)


def number(least: float, below: float = 1e38) -> Rule:
    """Accept a float or int from ``least`` to below ``below``; by default up to what fp32 can store."""
    text = f"a number from {least:g}" + (f" to below {below:g}" if below < 1e38 else "")
    return Rule(float, text, lambda value: type(value) in (int, float) and least <= value < below)


def one_of(names: tuple[str, ...], declared: Any = str) -> Rule:
    """Accept one of some names, which :class:`Options` declares as the type ``declared``."""
    return Rule(declared, f"one of {', '.join(names)}", lambda value: value in names, choices=names)


POSITIVE = Rule(float, "a number above 0", lambda value: type(value) in (int, float) and 0 < value < 1e38)
SWITCH = Rule(bool, "true or false", lambda value: isinstance(value, bool))
RESIZE = one_of(get_args(Resize), Resize)


def _is_text(value: object) -> bool:
    try:
        return isinstance(value, str) and value.encode() != b""
    except UnicodeEncodeError:  # a path with other bytes: TOML and JSON cannot store it
        return False


TEXT = Rule(str, "a text, in UTF-8", _is_text)
FOLDER = Rule(str, "the path of a folder, in UTF-8", _is_text)


def _sides(value: object) -> tuple[object, ...]:
    """``[96, 128]`` and ``"96x128"`` (height x width) as two sides, anything else as one."""
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}[xX][0-9]{1,9}", value):
        return tuple(int(side) for side in re.split("[xX]", value))
    return tuple(value) if isinstance(value, (list, tuple)) and len(value) == 2 else (value,)


def _is_size(value: object) -> bool:
    return all(type(side) is int and 4 <= side <= MAX_SIDE for side in _sides(value))


SIZE = Rule(
    int | tuple[int, int] | list[int] | str,
    f"a whole number from 4 to {MAX_SIDE}, or two of them: [height, width]",
    _is_size,
    stored=lambda value: value if isinstance(value, int) else _sides(value),
)


COLUMNS = Rule(
    tuple[str, str] | list[str],
    "two different names: [file, label]",
    lambda value: isinstance(value, (list, tuple)) and all(map(_is_text, value)) and len(set(value)) == len(value) == 2,
    stored=tuple,
)


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and _is_text(value) and re.compile(value).groups > 0
    except (re.error, RecursionError, OverflowError):
        return False


PATTERN = Rule(str, "a regular expression with parentheses, such as '(patient[0-9]+)'", _is_pattern)


MAX_FOLDS = 100
"""Most folds of a cross-validation."""


def fold_of(text: str) -> tuple[int, int] | None:
    """Return number and count of ``2/5``, the second of five folds, or None if it is no such text."""
    found = re.fullmatch("([0-9]{1,3})/([0-9]{1,3})", text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    return (number, count) if 1 <= number <= count and 2 <= count <= MAX_FOLDS else None


FOLD = Rule(
    str,
    f"a fold and the number of folds, such as 2/5 (2 to {MAX_FOLDS} folds)",
    lambda value: isinstance(value, str) and fold_of(value) is not None,
)


def _split_names(value: str | list[Any] | tuple[Any, ...]) -> list[Any]:
    names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
    return [] if names == ["none"] else names


AUGMENT = Rule(
    tuple[str, ...] | list[str] | str,
    f"none or a list out of {', '.join(AUGMENTATIONS)}",
    lambda value: isinstance(value, (str, list, tuple)) and all(name in AUGMENTATIONS for name in _split_names(value)),
    stored=lambda value: tuple(name for name in AUGMENTATIONS if name in _split_names(value)),
)
