"""``cnn-infer --doctor``: what is installed and what this machine has, each with a line of advice."""

from __future__ import annotations

from collections.abc import Mapping

from cnn_infer.command.printing import print_text
from cnn_infer.doctor import fit, host, packages
from cnn_infer.doctor.findings import for_people, to_json, usable
from cnn_infer.errors import CheckError

NEEDED = ("builds", "onnxruntime")
"""The findings without which no model opens."""


def examine(model: str | None, device: str, device_options: Mapping[str, str], form: str) -> None:
    """Print the findings.

    Args:
        model: A model file, to examine whether it fits this machine; None for the machine alone.
        device: The device for the model, as for :class:`cnn_infer.Classifier`.
        device_options: Its options.
        form: ``table`` or ``jsonl``.

    Raises:
        CheckError: there is an error, for example in the model file.
    """
    findings = [*packages.findings(), *host.findings()]
    if model is not None:
        broken = [found.name for found in findings if found.status == "error" and found.name in NEEDED]
        findings += fit.findings(model, device, device_options, broken=broken)
    print_text(to_json(findings) if form == "jsonl" else for_people(findings))
    if not usable(findings):
        names = ", ".join(finding.name for finding in findings if finding.status == "error")
        raise CheckError(f"--doctor found errors: {names}")
