"""The outputs of an int8 model on the processors that it is for, which may compute other integers than this machine."""

from __future__ import annotations

from functools import partial

from cnn_infer import Model
from onnx import ModelProto

from cnn_export.int8.reference import Reference
from cnn_export.int8.targets import ANY, Target, kind_of_this_machine
from cnn_export.parity import Evaluate, run_model

SATURATING = frozenset({"avx2", "generic"})
"""Targets whose processors saturate sums of two products to 16 bits. Of the generic ones, some do: x86 with SSE4.1 in
builds of ONNX Runtime for Windows."""


def is_here(target: Target) -> bool:
    """Whether this machine computes the integers of a target's processors, at their speed."""
    return target.name in (ANY.name, kind_of_this_machine())


def evaluator(model: ModelProto, opened: Model, target: Target) -> Evaluate:
    """Return a function that evaluates a model as the processors of a target do.

    That is ONNX Runtime if this machine is one of them, and otherwise :class:`cnn_export.int8.reference.Reference`.

    Args:
        model: The int8 model, with the inputs and outputs of the model file.
        opened: The same model in ONNX Runtime on this machine.
        target: The processors.

    Raises:
        GraphError: The model has an int8 node that the reference does not know.
    """
    if is_here(target):
        return partial(run_model, opened)
    return Reference(model, saturates=target.name in SATURATING).run
