"""For which processors an int8 model is made: what their instructions multiply without overflow, and fast."""

from __future__ import annotations

from dataclasses import dataclass

from cnn_infer.system import machine


@dataclass(frozen=True)
class Target:
    """A kind of processor.

    Attributes:
        name: ``vnni``, ``avx2``, ``arm`` or ``generic``.
        reduce_range: Whether weights take 7 bits: where two neighbouring products are summed in 16 bits, full ones
            of 8 overflow and saturate.
        signed: Whether activations are int8, not uint8.
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
"""The target for each of the instruction sets that :func:`cnn_infer.system.machine.instruction_set` names."""


def target_of(name: str | None = None) -> Target:
    """The named target; None is for this machine."""
    return TARGETS[RUNS_ON[machine.instruction_set()] if name is None else name]
