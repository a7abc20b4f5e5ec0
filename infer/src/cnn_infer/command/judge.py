"""``cnn-infer --judge``: which of several files of one export to ship on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cnn_infer.classifier import Classifier
from cnn_infer.command.printing import print_text
from cnn_infer.console import quantity
from cnn_infer.errors import CheckError, ModelError
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import printable
from cnn_infer.proof.certificate import certificate_of, to_json
from cnn_infer.proof.judge import Judged, Judgement, judge
from cnn_infer.proof.side_by_side import Speedup, Spread
from cnn_infer.proof.verification import verify_all
from cnn_infer.system.atomic import write_text


def judge_models(
    models: Sequence[str], pictures: Sequence[str | Listed], device: str, form: str, certificate: Path | None
) -> None:
    """Print which file to ship, and write the certificate of this machine for it.

    Args:
        models: The files to compare.
        pictures: Pictures to time them on; none for those inside the model.
        device: As for :class:`cnn_infer.Classifier`.
        form: ``table`` or ``jsonl``.
        certificate: Where the certificate goes; None for no file.

    Raises:
        CheckError: no file can be shipped.
    """
    found = judge(models, pictures, device=device)
    print_text(for_people(found) if form == "table" else found.to_json())
    if certificate is not None:
        best = next((place for place, file in enumerate(found.files) if file.file == found.ship), 0)
        classifier = Classifier(models[best], device=device)
        try:
            replays = verify_all(classifier)
        except ModelError as error:  # nothing can be replayed
            raise CheckError(f"{found.reason}; no certificate: {error}") from error
        write_text(certificate, to_json(certificate_of(classifier, replays, judgement=asdict(found.without_folders()))))
    if found.ship is None:
        raise CheckError(found.reason)


def for_people(found: Judgement) -> str:
    """Return the judgement as a text of several lines."""
    width = max(len("file"), *(len(printable(file.file)) for file in found.files))
    lines = [
        f"{'file':<{width}}  precision  accuracy  {'batch 1, ms (p10-p90)':>23}  {'folder, 1/s (p10-p90)':>24}  replay",
        *(_row(file, width) for file in found.files),
    ]
    for comparison in found.comparisons:
        lines.append(f"{printable(comparison.file)} against {printable(comparison.against)}:")
        lines.append(f"  batch 1  {_speedup(comparison.batch_1)}")
        lines.append(f"  folder   {_speedup(comparison.folder)}")
    if found.rounds:
        threads, pictures = quantity(found.threads, "thread"), quantity(found.pictures, "picture")
        lines += [
            f"{quantity(found.rounds, 'round')} in turn on {found.machine}",
            f"batch 1: the model alone, one thread; folder: {threads}, batch size {found.batch_size}",
            f"{pictures}: {found.source}",
        ]
    if found.ship is not None:
        lines.append(f"ship {printable(found.ship)}: {found.reason}")
    return "\n".join(lines)


def _row(file: Judged, width: int) -> str:
    accuracy = "" if file.accuracy is None else f"{file.accuracy:.2%}"
    times = "" if file.batch_1_ms is None else _spread(file.batch_1_ms, 3)
    rates = "" if file.folder_per_second is None else _spread(file.folder_per_second, 0)
    result = f"{file.replay}; not shipped: {file.obstacle}" if file.obstacle else file.replay
    return f"{printable(file.file):<{width}}  {file.precision:<9}  {accuracy:>8}  {times:>23}  {rates:>24}  {result}"


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:,.{digits}f} ({spread.p10:,.{digits}f}-{spread.p90:,.{digits}f})"


def _speedup(speedup: Speedup) -> str:
    answer = "no difference that counts" if speedup.answer == "equal" else speedup.answer
    return f"{speedup.median:.2f}x as fast, 95% interval {speedup.low:.2f} to {speedup.high:.2f}: {answer}"
