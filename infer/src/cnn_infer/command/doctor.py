"""``cnn-infer --doctor``: what is installed and what this machine has, each with a line of advice."""

from __future__ import annotations

from collections.abc import Mapping

from cnn_infer.command.printing import print_text
from cnn_infer.doctor import fit, host, packages
from cnn_infer.doctor.findings import for_people, to_json, usable
from cnn_infer.errors import CheckError


def examine(model: str | None, device: str, device_options: Mapping[str, str], form: str) -> None:
    """Print the findings.

    Args:
        model: A model file, to examine whether it fits this machine; None for the machine alone.
        device: The device for the model, as for :class:`cnn_infer.Classifier`.
        device_options: Its options.
        form: ``table`` or ``jsonl``.

    Raises:
        ModelError: the model cannot be read.
        CheckError: something must be mended.
    """
    fitting = [] if model is None else [*fit.findings(model, device, device_options)]
    findings = [*packages.findings(), *host.findings(), *fitting]
    print_text(to_json(findings) if form == "jsonl" else for_people(findings))
    if not usable(findings):
        names = ", ".join(finding.name for finding in findings if finding.status == "mend")
        raise CheckError(f"to be mended: {names}")
