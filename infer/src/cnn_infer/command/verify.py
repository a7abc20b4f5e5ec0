"""``cnn-infer --verify``: check that this machine gives the results of the machine that exported the model."""

from __future__ import annotations

from cnn_infer import console
from cnn_infer.classifier import Classifier
from cnn_infer.errors import CheckError
from cnn_infer.golden import verify
from cnn_infer.system import machine


def verify_model(classifier: Classifier) -> None:
    """Print how the golden pictures compare on this machine.

    Raises:
        CheckError: a golden picture differs.
    """
    parity = classifier.spec.details.get("parity")
    exported = parity.get("instruction_set") if isinstance(parity, dict) else None
    own = machine.instruction_set()
    if isinstance(exported, str) and exported != own:
        console.message(f"  exported on {exported}, this machine has {own}: results may differ")
    replays = verify(classifier)
    worst = max(replay.difference for replay in replays)
    failed = [replay for replay in replays if not replay.passed]
    for number, replay in enumerate(replays):
        state = "ok" if replay.passed else "DIFFERS"
        names = f"{replay.expected} -> {replay.found}"
        console.message(f"  golden picture {number}: {names}, difference {replay.difference:.2g}  {state}")
    if failed:
        advice = ""
        if classifier.spec.details.get("precision") == "int8" and own in ("avx2", "generic"):
            advice = ": int8 sums may overflow on this processor, export with --for avx2"
        raise CheckError(
            f"{len(failed)} of {len(replays)} golden pictures differ on this machine (worst {worst:.2g}){advice}"
        )
    agree = "1 golden picture agrees" if len(replays) == 1 else f"{len(replays)} golden pictures agree"
    console.message(f"verified: {agree} on this machine (worst difference {worst:.2g})")
