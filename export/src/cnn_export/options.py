"""The options of an export: defaults, accepted values, help texts, and which options have no effect without others.

``export()`` and the command share them. This module imports neither PyTorch nor NumPy, so ``cnn-export --help`` stays
fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Self, TypedDict

from cnn_export.errors import ExportError

TOLERANCE = 1e-4
MAX_DROP = 0.1
"""Default limit on the loss of validation accuracy, in percentage points, unless one picture is more."""

GOLDEN_PICTURES = 8
CALIBRATION_PICTURES = 1024
SEARCH_SECONDS: float = 120
TARGETS = ("any", "vnni", "avx2", "arm", "generic")
"""Kinds of processors; :data:`cnn_export.int8.targets.TARGETS` says what each of them needs."""

FALSE_ALARMS = 0.01
"""Share of false alarms of ``--strangers`` without a value."""

LEAST_OPSET = 18
OPSET = 20


class ExportOptions(TypedDict, total=False):
    """The keyword options that :func:`cnn_export.export` and :func:`cnn_export.export_network` have in common.

    Attributes:
        half: Also make an fp16 model, for GPUs. It excludes ``evidence`` and ``strangers``, and never ships.
        quantize: Also make an int8 model. It ships only if it is accurate enough and faster on this machine. A model
            for other processors is evaluated in their arithmetic, and its speed is not measured.
        tolerance: Largest accepted difference of a probability between PyTorch and the file, 0 to 1.
        max_error: Also certify a threshold for ``cnn-infer --threshold certified``: the largest accepted share of wrong
            answers among the answered pictures, more than 0 and less than 1. None for no threshold.
        evidence: Also give the files the output ``evidence``: the part of each cell of the last feature map in each
            logit, for ``cnn-infer --evidence`` and :meth:`cnn_infer.Classifier.explain`.
        strangers: Also give the files the output ``strangeness``, for ``cnn-infer --strangers``: the accepted share of
            false alarms among pictures like those of training, more than 0 and less than 1. None for no such output.
        max_drop: Largest accepted loss of validation accuracy of int8, in percentage points, 0 to 100. None for 0.1,
            or for one picture where that is more.
        golden_pictures: Number of test pictures stored inside the model for ``cnn-infer --verify``, 0 to 8.
        calibration_pictures: Number of training pictures that the calibration ranges of int8 are computed from.
        search_seconds: Time limit of the search for the best int8 model. At least one candidate is evaluated.
        target: Processors that the int8 model is for, one of :data:`TARGETS`; None for ``any``.
        opset: ONNX opset version of the files, at least 18.
    """

    half: bool
    quantize: bool
    tolerance: float
    max_error: float | None
    evidence: bool
    strangers: float | None
    max_drop: float | None
    golden_pictures: int
    calibration_pictures: int
    search_seconds: float
    target: str | None
    opset: int


class RunOptions(ExportOptions, total=False):
    """The keyword options of :func:`cnn_export.export`.

    Attributes:
        qat: Also fine-tune the best int8 model (quantization-aware training).
    """

    qat: bool


@dataclass(frozen=True)
class Option:
    """One option of an export.

    Attributes:
        flag: Its name on the command line.
        type: Type of its values: int, float, str or bool.
        help: What it does, in whole sentences.
        default: Its value if it is not given; None if the default depends on the data or the machine.
        default_text: The default in words if ``default`` is None.
        least: Smallest accepted number.
        most: Largest accepted number; None for no limit.
        choices: All accepted texts; empty for numbers and switches.
        only_int8: Whether it has no effect without ``--quantize``.
        share: Whether it is a share, more than 0 and less than 1, which the command line also takes as a percentage.
        without_value: Its value if the command line names it without one; None if it needs one.
    """

    flag: str
    type: type
    help: str
    default: Any = None
    default_text: str = ""
    least: int = 0
    most: int | None = None
    choices: tuple[str, ...] = ()
    only_int8: bool = False
    share: bool = False
    without_value: float | None = None

    @property
    def expected(self) -> str:
        """The accepted values in words; completes "NAME must be ..."."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type is bool:
            return "True or False"
        if self.share:
            return "more than 0 and less than 1"
        kind = "a whole number" if self.type is int else "a number"
        return f"{kind} of at least {self.least}" if self.most is None else f"{kind} from {self.least} to {self.most}"

    def accepts(self, value: Any) -> bool:
        """Whether a value, other than None, is accepted. NaN is not."""
        if self.choices:
            return value in self.choices
        if self.type is bool:
            return isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, int if self.type is int else (int, float)):
            return False
        if self.share:
            return bool(0 < value < 1)
        return bool(self.least <= value and (self.most is None or value <= self.most))


OPTIONS: dict[str, Option] = {
    "quantize": Option(
        "--quantize",
        bool,
        "Also make an int8 model. It ships only if it is accurate enough and faster than fp32 on this machine.",
        False,
    ),
    "half": Option("--half", bool, "Also make an fp16 model, for GPUs. Not with --evidence or --strangers.", False),
    "tolerance": Option(
        "--tolerance",
        float,
        "Largest accepted difference of a probability between PyTorch and the exported file.",
        TOLERANCE,
        most=1,
    ),
    "max_error": Option(
        "--max-error",
        float,
        "Certify a threshold for cnn-infer --threshold certified: at most this share of the answered pictures, such as "
        "1% or 0.01, is answered wrongly, with 95% confidence. Exit with code 1 if the test split cannot confirm it.",
        default_text="no certified threshold",
        share=True,
    ),
    "evidence": Option(
        "--evidence",
        bool,
        "Give the files another output, evidence: which parts of a picture speak for and against each class, exactly. "
        "For cnn-infer --evidence. The network must end in a global maximum or mean and one linear layer.",
        False,
    ),
    "strangers": Option(
        "--strangers",
        float,
        "Give the files another output, strangeness: how far a picture is from the training pictures. For cnn-infer "
        "--strangers. SHARE is the accepted share of false alarms among pictures like those of training, 1% if it is "
        "left out. Name RUN before this option, or write --strangers=1%.",
        default_text="no such output",
        share=True,
        without_value=FALSE_ALARMS,
    ),
    "max_drop": Option(
        "--max-drop",
        float,
        "Largest accepted loss of validation accuracy of int8, in percentage points.",
        default_text=f"{MAX_DROP}, or one picture where that is more",
        most=100,
        only_int8=True,
    ),
    "golden_pictures": Option(
        "--golden",
        int,
        "Number of test pictures stored inside the model, as pixels and as files, for cnn-infer --verify. Pass 0 if "
        "they are private.",
        GOLDEN_PICTURES,
        most=GOLDEN_PICTURES,
    ),
    "calibration_pictures": Option(
        "--calibration",
        int,
        "Number of training pictures that the calibration ranges of int8 are computed from.",
        CALIBRATION_PICTURES,
        least=1,
        only_int8=True,
    ),
    "search_seconds": Option(
        "--search-seconds",
        float,
        "Time limit of the search for the best int8 model. At least one candidate is evaluated.",
        SEARCH_SECONDS,
        only_int8=True,
    ),
    "target": Option(
        "--for",
        str,
        "Processors that the int8 model is for. any: all of them; the file computes the same integers on every one. "
        "vnni, avx2, arm and generic: only this kind; on others, the file can lose accuracy or be slow.",
        default_text="any",
        choices=TARGETS,
        only_int8=True,
    ),
    "qat": Option(
        "--qat",
        bool,
        "Also fine-tune the best int8 model (quantization-aware training).",
        False,
        only_int8=True,
    ),
    "opset": Option("--opset", int, "ONNX opset version of the exported file.", OPSET, least=LEAST_OPSET),
}
"""All options by the name of their argument in :func:`cnn_export.export`."""


@dataclass(frozen=True)
class Settings:
    """The options of an export, with their defaults and checked; :class:`RunOptions` explains each.

    Raises:
        ExportError: a value is not accepted, or an option has no effect.
    """

    quantize: bool = False
    half: bool = False
    tolerance: float = TOLERANCE
    max_error: float | None = None
    evidence: bool = False
    strangers: float | None = None
    max_drop: float | None = None
    golden_pictures: int = GOLDEN_PICTURES
    calibration_pictures: int = CALIBRATION_PICTURES
    search_seconds: float = SEARCH_SECONDS
    target: str | None = None
    opset: int = OPSET
    qat: bool = False

    @property
    def needs_training_pictures(self) -> bool:
        """Whether the export needs more than the validation and test pictures."""
        return self.quantize or self.half or self.strangers is not None

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        check_values(values)
        changed = [name for name, value in values.items() if value != OPTIONS[name].default]
        unused = without_effect(changed, quantize=self.quantize)
        if unused:
            raise ExportError(f"no effect without quantize=True: {', '.join(unused)}")
        if excluded := not_with_half(values):
            raise ExportError(f"half excludes {' and '.join(excluded)}: an fp16 model does not have that output")

    @classmethod
    def of(cls, options: Mapping[str, Any], accepted: type[ExportOptions]) -> Self:
        """Return the settings for the keyword options of a call.

        Raises:
            TypeError: the call does not take one of them.
        """
        unknown = [name for name in options if name not in accepted.__annotations__]
        if unknown:
            raise TypeError(f"unexpected keyword argument {unknown[0]!r}")
        return cls(**options)


def check_values(values: Mapping[str, Any]) -> None:
    """Check options that were given; None stands for the default.

    Raises:
        ExportError: a value is not accepted.
    """
    for name, value in values.items():
        option = OPTIONS[name]
        if not (value is None and option.default is None) and not option.accepts(value):
            raise ExportError(f"{name} must be {option.expected}, not {value!r}")


def not_with_half(values: Mapping[str, Any]) -> list[str]:
    """Return the options in use that ``half`` excludes: fp16 does not give their sums exactly enough."""
    return [name for name in ("evidence", "strangers") if values["half"] and values[name]]


def without_effect(given: Iterable[str], *, quantize: bool) -> list[str]:
    """Return those of the options ``given`` that have no effect, in the order of :data:`OPTIONS`."""
    return [name for name, option in OPTIONS.items() if name in given and option.only_int8 and not quantize]
