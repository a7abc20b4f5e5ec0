"""The table of all options, :class:`Config`, and the TOML files that store them.

Each field of :class:`Config` is one option: its name, type, accepted values, help text and default.
:func:`checked`, :func:`read_options` and the command line are derived from the fields. A value comes from the call or
the command line, else from the file given with ``--config``, else from :func:`cnn_train.resolve`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import tomli_w
from cnn_infer.spec import Resize
from cnn_infer.system.atomic import write_text

from cnn_train.errors import ConfigError
from cnn_train.options import (
    AUGMENT,
    AUGMENTATIONS,
    COLUMNS,
    DEVICES,
    FOLD,
    FOLDER,
    LOGS,
    OPTIMIZERS,
    PATTERN,
    POSITIVE,
    PRECISIONS,
    RESIZE,
    SIZE,
    SWITCH,
    TEXT,
    Option,
    number,
    one_of,
    option,
    whole_number,
)
from cnn_train.text_file import read_text_file


@dataclass(frozen=True, kw_only=True)
class Config:
    """A resolved configuration, as ``config.toml`` in a run folder stores it. The fields say what each value means."""

    data: str = option(
        TEXT, "Data set: digits, mnist, fashion-mnist, cifar10, a folder, or a labels file.", default="digits"
    )
    columns: tuple[str, str] | None = option(
        COLUMNS,
        "The columns of a labels file that name the picture and its class.",
        default_text="file_name label",
        metavar="FILE LABEL",
        may_be_none=True,
    )
    group: str | None = option(
        PATTERN,
        "Regular expression whose first parentheses match the group of a picture (patient, camera, session) in its "
        "path. All pictures of a group go into the same split.",
        default_text="the column group of a labels file, else no groups",
        metavar="REGEX",
        may_be_none=True,
    )
    fold: str | None = option(
        FOLD,
        "Train only fold I of the K folds of --folds K.",
        default_text="no folds; the test split is the given one, or is set aside",
        metavar="I/K",
        may_be_none=True,
    )
    model: str = option(
        TEXT,
        "Network: nano, small, base, large, lite0 (EfficientNet-Lite0), or a torchvision classification model such as "
        "resnet18.",
        default="small",
        metavar="NAME",
    )
    pretrained: bool = option(
        SWITCH,
        "Start from ImageNet weights, for lite0 and torchvision models. The first epoch fits the last layer on frozen "
        "features. The next epochs fine-tune the last half of the parameters, then all, with lower learning rates for "
        "early layers. The last epoch (of three or more, without --teacher) fits the last layer again.",
        default=False,
    )
    teacher: str | None = option(
        FOLDER,
        "Run folder of a trained network, whose probabilities are learned besides the labels (distillation). It may be "
        "of another kind and size, but not of other classes.",
        default_text="none, only the labels",
        metavar="RUN",
        may_be_none=True,
    )
    epochs: int = option(
        whole_number(1),
        "Maximum number of epochs (passes over the training pictures).",
        default_text="10 to 200, more for fewer pictures; 7 to 32 with --pretrained",
        metavar="N",
    )
    patience: int = option(
        whole_number(0),
        "Stop early after N epochs in a row without a lower validation loss (after calibration). Epochs with smaller "
        "pictures than the last ones do not count. 0 never stops early.",
        default_text="half of --epochs, at least 10, for fewer than 10,000 training pictures; else, and with "
        "--pretrained, 0",
        metavar="N",
    )
    batch_size: int = option(
        whole_number(2),  # batch norm needs two pictures to compute a variance
        "Training pictures per step.",
        default_text="256; smaller, down to 32, for fewer than 4,096 training pictures",
        metavar="N",
    )
    lr: float = option(
        POSITIVE,
        "Peak learning rate. It does not change --batch-size.",
        default_text="0.08 for muon, 0.2 for sgd, 0.002 for adam and adamw at batch size 256; in proportion at other "
        "batch sizes (a batch holds no more than all training pictures); with --pretrained 0.0005 for adamw and adam, "
        "0.005 for sgd, 0.01 for muon at any batch size",
        metavar="RATE",
    )
    optimizer: str = option(
        one_of(OPTIMIZERS),
        "Optimizer. muon trains the convolutions with Muon and the other layers with sgd; sgd has Nesterov momentum.",
        default_text="muon for nano to large, sgd for lite0 and torchvision models, adamw with --pretrained",
    )
    weight_decay: float = option(
        number(0),
        "Weight decay. Biases, norms and the convolutions that Muon trains have none.",
        default_text="0.0005 for muon and sgd, 0 for adam, 0.05 for adamw",
        metavar="FACTOR",
    )
    dropout: float | None = option(
        number(0, 1),
        "Probability of the dropout layers (the presets have one, before the last layer), from 0 to below 1.",
        default_text="0; lite0 and torchvision models keep their own",
        metavar="P",
        may_be_none=True,
    )
    label_smoothing: float = option(
        number(0, 1),
        "Label smoothing, from 0 to below 1.",  # Szegedy et al., 2016, arXiv:1512.00567
        default=0.1,
        metavar="P",
    )
    augment: tuple[str, ...] = option(
        AUGMENT,
        f"Random changes of the training pictures: none, or a list out of {','.join(AUGMENTATIONS)}.",
        default_text="crop; also flip if the pictures look alike in a mirror; also cutout from 24 pixels a side, but "
        "not for nano with 10,000 pictures or more; with --pretrained zoom and colour in place of crop and cutout",
        metavar="LIST",
    )
    balance: bool = option(
        SWITCH,
        "Draw every class equally often in training.",
        default=False,
        default_text="no, each class as often as it has pictures",
    )
    height: int = option(
        SIZE,
        "Input size of the network in pixels: N for squares, or HEIGHTxWIDTH.",
        default_text="the pictures' own size if all have the same and no side is above 128; else 128; with "
        "--pretrained four times their longest side, from 96 to 224",
        metavar="N|HxW",
        name="size",  # sets height and width
    )
    width: int
    resize: Resize = option(  # noqa: RUF009 - makes a field
        RESIZE,
        "How a picture is brought to --size: crop fills it and cuts off the rest, pad fits the picture inside a grey "
        "border, squash stretches it.",
        default="crop",
    )
    seed: int = option(
        whole_number(0),
        "Random seed of splits, weights, order and augmentation.",
        default=0,
        metavar="N",
    )
    device: str = option(
        one_of(DEVICES),
        "Device to train on.",
        default="auto",
        default_text="auto, which is cuda if available, else mps, else cpu",
    )
    precision: str = option(
        one_of(PRECISIONS),
        "Number format of the convolutions in training. fp16 needs cuda.",
        default="auto",
        default_text="auto, which is bf16 if the CPU or GPU computes in it, fp16 on older GPUs, else fp32",
    )
    cache: str | None = option(
        FOLDER,
        "Folder for decoded pictures. Entries that are not used for 30 days are removed.",
        default_text="edgecnn/pictures in the user's cache folder",
        metavar="DIR",
        may_be_none=True,
    )
    data_dir: str | None = option(
        FOLDER,
        "Folder that is searched first for mnist, fashion-mnist and cifar10.",
        default_text="none",
        metavar="DIR",
        may_be_none=True,
    )
    strict: bool = option(SWITCH, "Stop at an unreadable picture instead of leaving it out.", default=False)
    log: str | None = option(
        one_of(LOGS),
        "Also log each epoch for TensorBoard or MLflow, into the run folder.",
        default_text="none, only metrics.jsonl",
        may_be_none=True,
    )

    def save(self, path: Path) -> None:
        """Write the configuration as TOML, without the values that are None."""
        values = {key: value for key, value in asdict(self).items() if value is not None}
        write_text(path, tomli_w.dumps({**values, "augment": list(self.augment)}))

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read what :meth:`save` wrote.

        Raises:
            ConfigError: the file is missing, damaged, incomplete, or of another version.
        """
        values = read_toml(path)
        sides = {key: values.pop(key) for key in ("height", "width") if key in values}
        for key, side in sides.items():
            if type(side) is not int or side < 1:
                raise ConfigError(f"{key} must be a whole number of at least 1, not {side!r} in {path}")
        try:
            return cls(**checked(values, f" in {path}"), **sides)
        except TypeError as error:
            raise ConfigError(f"{path} is of another version or incomplete: {error}") from error


OPTIONS: Mapping[str, Option] = {
    field.metadata["name"] or field.name: field.metadata["option"] for field in fields(Config) if field.metadata
}
"""All options by name. Names have ``_`` where the command line has ``-``."""

DEFAULTS: Mapping[str, Any] = {name: entry.default for name, entry in OPTIONS.items() if entry.default is not None}
"""The defaults that do not depend on the data."""


def checked(options: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return the options that are not None, each in the form that :class:`Config` stores.

    Args:
        options: Values by the names in :data:`OPTIONS`.
        where: Ends the error message, such as ``" in options.toml"``.

    Raises:
        ConfigError: an option is unknown, or its value is not accepted.
    """
    result = {}
    for name, value in options.items():
        if value is None:
            continue
        if name not in OPTIONS:
            raise ConfigError(f"unknown option {name!r}{where}: one of {', '.join(OPTIONS)}")
        rule = OPTIONS[name].rule
        if not rule.valid(value):
            raise ConfigError(f"{name} must be {rule.expected}, not {value!r}{where}")
        result[name] = rule.stored(value)
    return result


def read_options(path: Path) -> dict[str, Any]:
    """Read options from a TOML file. Their names are those of the command line, with ``_`` for ``-``.

    The ``config.toml`` of a run works too: its ``height`` and ``width`` are read as ``size``.

    Raises:
        ConfigError: the file cannot be read, or :func:`checked` refuses an option.
    """
    values = read_toml(path)
    sides = [values.pop(key) for key in ("height", "width") if key in values]
    if sides and (len(sides) == 1 or "size" in values):
        raise ConfigError(f"height and width must both be set, without size, in {path}: better size = [height, width]")
    if sides:
        values["size"] = sides[0] if sides[0] == sides[1] else sides
    return checked(values, f" in {path}")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. Raises :class:`ConfigError` if it is missing or not TOML."""
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"not a file: {path}")
        return tomllib.loads(read_text_file(path))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
