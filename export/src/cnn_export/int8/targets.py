"""The kinds of processors that an int8 model can be made for: which integers they multiply exactly and fast."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_infer.system import machine


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: ``vnni``, ``avx2``, ``arm`` or ``generic``.
        reduce_range: Whether weights have 7 bits. Processors that add two products in 16 bits overflow and saturate
            with weights of 8 bits.
        signed: Whether activations are int8 instead of uint8.
    """

    name: str
    reduce_range: bool
    signed: bool


TARGETS = {
    target.name: target
    for target in (
        Target("vnni", reduce_range=False, signed=False),
        Target("avx2", reduce_range=True, signed=False),
        Target("arm", reduce_range=False, signed=True),
        Target("generic", reduce_range=True, signed=False),
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
"""The target for each instruction set that :func:`cnn_infer.system.machine.instruction_set` returns."""


def target_of(name: str | None = None) -> Target:
    """Return the target called ``name``, or the one for this machine if ``name`` is None."""
    return TARGETS[RUNS_ON[machine.instruction_set()] if name is None else name]
