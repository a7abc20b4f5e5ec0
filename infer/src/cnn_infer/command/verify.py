"""``cnn-infer --verify``: check that this machine gives the results of the machine that exported the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cnn_infer import console
from cnn_infer.classifier import Classifier
from cnn_infer.console import quantity
from cnn_infer.details import under
from cnn_infer.errors import CheckError
from cnn_infer.paths.naming import printable
from cnn_infer.proof.golden import has_proven_integers, proves_integers
from cnn_infer.proof.verification import Deviation, Verification, verify_all
from cnn_infer.system import machine
from cnn_infer.system.atomic import write_text

MOST_LINES = 8
"""Largest number of deviations that are printed for each stage."""


def verify_model(classifier: Classifier, certificate: Path | None = None) -> None:
    """Replay what is inside the model, print a line for each stage and each deviation, and write the certificate.

    Args:
        classifier: The model.
        certificate: The file for the certificate; None for none. It is also written if this machine differs.

    Raises:
        CheckError: this machine gives something else.
        ModelError: the model has nothing to replay, or it is damaged.
    """
    exported = under(classifier.spec.details, "parity").get("instruction_set")
    own = machine.instruction_set()
    if isinstance(exported, str) and exported != own:
        console.message(f"  exported on {exported}, this machine has {own}: results may differ")
    if has_proven_integers(classifier.spec) and not proves_integers(classifier):
        provider = classifier.provider
        console.message(f"  not covered: the same integers on every picture are proven for the CPU, not for {provider}")
    found = verify_all(classifier)
    console.message(*_lines(found))
    if certificate is not None:
        from cnn_infer.proof.certificate import certificate_of, to_json

        write_text(certificate, to_json(certificate_of(classifier, found)))
        console.message(f"wrote {printable(certificate)}")
    if not found.passed:
        raise CheckError(_failure(found) + _advice(classifier, own))
    console.message(_success(found))


def _lines(found: Verification) -> Iterator[str]:
    if not found.covers_pixels:
        yield "  not covered: decode, orientation, colour, resize (the model has no conformance files: export it again)"
    for result in found.stages:
        pictures = "golden pictures" if result.stage == "graph" else "files"
        worst = "" if result.worst is None else f" (worst difference {result.worst:.2g})"
        agree = f"{result.agreed} of {result.compared} {pictures} agree{worst}"
        yield f"  {result.stage}: {agree if result.compared else 'not compared, every file differs before'}"
        deviations = [deviation for deviation in found.deviations if deviation.stage == result.stage]
        yield from (f"    {one.picture}: {_text(one, found)}" for one in deviations[:MOST_LINES])
        if len(deviations) > MOST_LINES:
            yield f"    and {len(deviations) - MOST_LINES} more: --certificate FILE writes all of them"
    if found.covers_pixels and all(result.stage != "graph" for result in found.stages):
        yield "  graph: covered by probabilities, because the model has no golden pictures"


def _text(deviation: Deviation, found: Verification) -> str:
    effect = "" if deviation.effect is None else f"; a probability then differs by {deviation.effect:.2g}"
    return f"{deviation.reason}{effect} ({_versions(deviation.libraries, found)})"


def _versions(libraries: tuple[str, ...], found: Verification) -> str:
    """The versions of the libraries that compute a stage: those that are not as at export, or else all of them."""
    names = [name for name in libraries if name in found.here or name in found.exported]
    changed = [name for name in names if found.exported and found.here.get(name) != found.exported.get(name)]
    if changed:
        return ", ".join(
            f"{name} {found.here.get(name, 'missing')}, at export {found.exported.get(name, 'missing')}"
            for name in changed
        )
    same = ", as at export" if found.exported else ""
    return ", ".join(f"{name} {found.here[name]}" for name in names) + same


def _failure(found: Verification) -> str:
    """The stages that differ, in one line."""
    parts = []
    for result in found.stages:
        differing = result.compared - result.agreed
        if differing and result.stage == "graph":
            parts.append(
                f"{differing} of {result.compared} golden pictures differ on this machine (worst {result.worst:.2g})"
            )
        elif differing:
            verb = "differ" if result.stage == "probabilities" else "differs"
            parts.append(f"{result.stage} {verb} for {differing} of {quantity(result.compared, 'file')}")
    return "; ".join(parts)


def _advice(classifier: Classifier, own: str) -> str:
    spec = classifier.spec
    int8 = spec.precision == "int8" and not has_proven_integers(spec)
    if int8 and own in ("avx2", "generic"):
        return ": int8 sums may overflow on this processor, export again with --for any"
    return ""


def _success(found: Verification) -> str:
    by_stage = {result.stage: result for result in found.stages}
    counts = [
        quantity(by_stage[stage].compared, noun)
        for stage, noun in (("graph", "golden picture"), ("probabilities", "file"))
        if stage in by_stage
    ]
    verb = "agrees" if counts == ["1 golden picture"] else "agree"
    return f"verified: {' and '.join(counts)} {verb} on this machine (worst difference {found.worst:.2g})"
