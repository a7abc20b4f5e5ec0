"""The kinds of processors that an int8 model can be made for: which integers they multiply exactly and fast.

Activations are unsigned for all of them. x86 processors are slow with signed ones. On Arm, ONNX Runtime has kernels for
both, but a convolution becomes an int8 node only if its input and its output have the same type: see
``ConvNodeGroupSelector`` in ``core/optimizer/qdq_transformer/selectors_actions/qdq_selectors.cc``. The first
one reads unsigned pixels, so with signed activations it would run in fp32.
"""

from __future__ import annotations

from dataclasses import dataclass

from cnn_infer.system import machine


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: ``any``, ``vnni``, ``avx2``, ``arm`` or ``generic``.
        reduce_range: Whether weights have 7 bits. Processors that add two products in 16 bits overflow and saturate
            with weights of 8 bits.
        limit_pairs: Whether weights have 8 bits, but two weights whose products are added in 16 bits are small enough
            together that no sum overflows (:mod:`cnn_export.int8.pairs`).
    """

    name: str
    reduce_range: bool
    limit_pairs: bool = False


ANY = Target("any", reduce_range=False, limit_pairs=True)
"""The default: one file that computes the same integers on every processor."""

TARGETS = {
    target.name: target
    for target in (
        ANY,
        Target("vnni", reduce_range=False),
        Target("avx2", reduce_range=True),
        Target("arm", reduce_range=False),
        Target("generic", reduce_range=True),
    )
}

RUNS_ON = {
    "avx512_vnni": "vnni",
    "avx_vnni": "vnni",
    "avx2": "avx2",
    "neon_dotprod": "arm",
    "neon": "arm",
    "generic": "generic",
}
"""The kind of processor for each instruction set that :func:`cnn_infer.system.machine.instruction_set` returns."""


WITH_DOT_PRODUCTS = ("avx512_vnni", "avx_vnni", "neon_dotprod")
"""Instruction sets that multiply four bytes by four others and add the products in one instruction."""


def target_of(name: str | None = None) -> Target:
    """Return the target called ``name``, or :data:`ANY` if ``name`` is None."""
    return ANY if name is None else TARGETS[name]


def kind_of_this_machine() -> str:
    """Return the name of the target for processors like this machine's: ``vnni``, ``avx2``, ``arm`` or ``generic``."""
    return RUNS_ON[machine.instruction_set()]
