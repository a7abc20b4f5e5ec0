"""The options of an export: defaults, accepted values, help texts, and which options have no effect without others.

``export()`` and the command share them. This module imports neither PyTorch nor NumPy, so ``cnn-export --help`` stays
fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cnn_export.errors import ExportError

TOLERANCE = 1e-4
MAX_DROP = 0.1
"""Default limit on the loss of validation accuracy, in percentage points, unless one picture is more."""

GOLDEN_PICTURES = 8
CALIBRATION_PICTURES = 1024
SEARCH_SECONDS: float = 120
TARGETS = ("any", "vnni", "avx2", "arm", "generic")
"""Kinds of processors; :data:`cnn_export.int8.targets.TARGETS` says what each of them needs."""

LEAST_OPSET = 18
OPSET = 20


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

    @property
    def expected(self) -> str:
        """The accepted values in words; completes "NAME must be ..."."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.type is bool:
            return "True or False"
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
        return bool(self.least <= value and (self.most is None or value <= self.most))


OPTIONS: dict[str, Option] = {
    "quantize": Option(
        "--quantize",
        bool,
        "Also make an int8 model. It ships only if it is accurate enough and faster than fp32 on this machine.",
        False,
    ),
    "tolerance": Option(
        "--tolerance",
        float,
        "Largest accepted difference of a probability between PyTorch and the exported file.",
        TOLERANCE,
        most=1,
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


def check_values(values: Mapping[str, Any]) -> None:
    """Check options that were given; None stands for the default.

    Raises:
        ExportError: a value is not accepted.
    """
    for name, value in values.items():
        option = OPTIONS[name]
        if not (value is None and option.default is None) and not option.accepts(value):
            raise ExportError(f"{name} must be {option.expected}, not {value!r}")


def without_effect(given: Iterable[str], *, quantize: bool) -> list[str]:
    """Return those of the options ``given`` that have no effect, in the order of :data:`OPTIONS`."""
    return [name for name, option in OPTIONS.items() if name in given and option.only_int8 and not quantize]
