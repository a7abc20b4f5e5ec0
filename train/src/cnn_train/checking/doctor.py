"""The check of a data set: :func:`check`, which ``cnn-train --check`` calls."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cnn_infer.paths.naming import folder_name, printable
from cnn_infer.run_files import RUNS
from cnn_infer.spec import Resize

from cnn_train import distributed
from cnn_train.checking.classes import class_findings
from cnn_train.checking.copies import NEARLY_EQUAL, exact_copies, near_duplicates
from cnn_train.checking.files import file_findings, input_size, shape_findings
from cnn_train.checking.finding import KINDS, Finding
from cnn_train.checking.hashes import DISTANCE
from cnn_train.checking.labels import label_findings, runs_in
from cnn_train.checking.pictures import Pictures
from cnn_train.checking.report import CHECK_FILES, SHEET, as_text, counted, lines_of, write_files
from cnn_train.checking.sheet import write_sheet
from cnn_train.checking.survey import surveyed
from cnn_train.config import DEFAULTS, checked
from cnn_train.data.dataset import cache_folder
from cnn_train.data.group_split import grouped_by_path
from cnn_train.data.layouts import find_layout
from cnn_train.data.named_sets import check_data_dir
from cnn_train.data.output_guard import check_outside
from cnn_train.data.source import Source, open_source
from cnn_train.device import pick_device
from cnn_train.errors import ConfigError, RunError
from cnn_train.run.folder import Run, check_out, create

log = logging.getLogger(__name__)

OF_DATA = ("columns", "size", "resize")
"""Options that have an effect without a run; a run stores them."""

OF_RUN = ("cache", "device")
"""Options that have an effect with a run only."""


@dataclass(frozen=True)
class Check:
    """The result of a check.

    Attributes:
        path: Its folder, with ``findings.csv``, ``check.json`` and, if there are pictures to show, ``sheet.png``.
        findings: All findings, by kind in the order of :data:`cnn_train.checking.finding.KINDS`, the worst ones first.
        report: The content of ``check.json``: ``data``, number of ``classes``, number of ``pictures`` of each split,
            ``kinds`` (count, title, problem, advice of each kind that was found), ``problems`` (number of findings that
            are problems), ``near_duplicates`` (how they were counted) and ``run``.
    """

    path: Path
    findings: Sequence[Finding]
    report: Mapping[str, Any]

    @property
    def problems(self) -> int:
        """Number of findings that are problems, not notes."""
        return int(self.report["problems"])

    def text(self, form: str = "table") -> str:
        """Return the result as ``table`` (counts and advice), ``jsonl`` or ``csv`` (one row per finding)."""
        return as_text(self.findings, self.report, form)


def check(
    data: str | os.PathLike[str] | None = None,
    *,
    run: str | os.PathLike[str] | None = None,
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Check:
    """Check a data set: files, classes, copies, and, with a run, labels.

    Each picture is read once. Memory grows by some hundred bytes for each.

    Args:
        data: As for :func:`cnn_train.train`. Default: that of ``run``, else ``digits``.
        run: Folder of a finished run, or of a cross-validation: its networks judge the labels, and its splits are used.
            Otherwise only the splits that are given are told apart.
        out: Folder of the results. Default: ``runs/TIMESTAMP-DATA-check``.
        overwrite: Replace an earlier check in ``out``.
        **options: ``data_dir``; without a run also ``columns``, ``size`` and ``resize``; with a run ``cache`` and
            ``device``. As for :func:`cnn_train.train`.

    Raises:
        ConfigError: an option is not accepted, or has no effect.
        DataError: the data set is missing or has an unknown layout, or ``out`` lies in it.
        RunError: the run is missing or unfinished or has other classes, or ``out`` is not empty.
        OSError: a file cannot be written.
    """
    if distributed.launched_by_torchrun():
        raise ConfigError("--check does not run under torchrun: run it in one process")
    given = checked({**({} if data is None else {"data": os.fspath(data)}), **options})
    allowed = ("data", "data_dir", *(OF_DATA if run is None else OF_RUN))
    useless = [name for name in given if name not in allowed]
    if useless:
        mode = "--check" if run is None or useless[0] not in OF_DATA else "--run"
        raise ConfigError(f"no effect with {mode}: --{useless[0].replace('_', '-')}")
    runs = [] if run is None else runs_in(Path(run))
    check_data_dir(given.get("data", runs[0].config.data if runs else DEFAULTS["data"]), given.get("data_dir"))
    if runs:
        source = _of_run(runs, given)
    else:
        source = _as_given(given.get("data", DEFAULTS["data"]), given.get("data_dir"), given.get("columns"))
    settings = runs[0].config if runs else None
    device = pick_device(given.get("device", "auto"))[0] if runs else None
    folder = _folder(source, out, overwrite)
    pictures = Pictures(source)
    size = (settings.height, settings.width) if settings else _size(given.get("size"))
    resize = settings.resize if settings else given.get("resize", DEFAULTS["resize"])
    found: list[Finding] = []
    with surveyed(pictures, folder) as survey:
        found += file_findings(pictures, survey)
        found += class_findings({name: part.labels for name, part in source.splits.items()}, source.classes)
        copies, single = exact_copies(pictures, survey)
        near, least, share = near_duplicates(pictures, survey, single)
        found += [*copies, *near]
        found += shape_findings(pictures, survey, input_size(survey, size), cast(Resize, resize))
        if device is not None:
            found += label_findings(runs, pictures, survey, cache_folder(given.get("cache")), device)
    findings = {kind: sorted((one for one in found if one.kind == kind), key=lambda one: -one.rank) for kind in KINDS}
    ordered = [one for kind in KINDS for one in findings[kind]]
    report = {
        "data": printable(source.path or source.name),
        "run": None if run is None else printable(run),
        "classes": len(source.classes),
        "pictures": {name: len(part.labels) for name, part in source.splits.items()},
        "kinds": counted(findings),
        "problems": sum(KINDS[one.kind].problem for one in ordered),
        "near_duplicates": {
            "hash": "pHash, 64 bits, of the picture and of its mirror image",
            "always_found_up_to_distance": DISTANCE,
            "least_similarity": least,
            "look_alikes": least == NEARLY_EQUAL,
            "share_with_close_hash": share,
        },
    }
    for name in CHECK_FILES:  # not all are written again
        (folder / name).unlink(missing_ok=True)
    write_files(folder, ordered, report)
    drawn = write_sheet(folder / SHEET, findings, pictures)
    for line in lines_of(report):
        log.info(line)
    log.info(f"wrote {printable(folder)}/{' with ' + SHEET if drawn else ''}")
    return Check(folder, ordered, report)


def _as_given(
    data: str, data_dir: str | None, columns: Sequence[str] | None, group: str | None = None, order: Sequence[str] = ()
) -> Source:
    """The data set with the splits that it has, without drawing others: a class may have a single picture."""
    layout = find_layout(data, data_dir, order, columns)
    tree, location = layout.tree, None if layout.folder is None else os.fspath(layout.folder)
    splits = {name: tree.splits[name] for name in ("train", "val", "test") if name in tree.splits}
    return Source(
        name=layout.name,
        location=location,
        classes=tuple(map(folder_name, tree.classes)),
        splits=splits if group is None else grouped_by_path(splits, location, group),
        notes=(*([f"left out: {tree.missing}"] if tree.missing else []), *tree.notes),
        labels_file=None if layout.labels_file is None else os.fspath(layout.labels_file),
    )


def _of_run(runs: Sequence[Run], given: Mapping[str, Any]) -> Source:
    """The data set of a run, with its splits; of a cross-validation, without splits."""
    config, classes = runs[0].config, runs[0].spec.classes
    data, data_dir = given.get("data", config.data), given.get("data_dir", config.data_dir)
    if len(runs) > 1:
        source = _as_given(data, data_dir, config.columns, config.group, classes)
    else:
        source = open_source(
            data,
            data_dir=data_dir,
            seed=config.seed,
            classes=classes,
            columns=config.columns,
            group=config.group,
            fold=config.fold,
        )
    if source.classes != classes:
        raise RunError(f"{runs[0].path} has other classes than the data: name its data set, or leave out --run")
    return source


def _size(size: int | Sequence[int] | None) -> tuple[int, int] | None:
    return None if size is None else (size, size) if isinstance(size, int) else (size[0], size[1])


def _folder(source: Source, out: str | os.PathLike[str] | None, overwrite: bool) -> Path:
    """Create the folder of the results."""
    check_outside(source, RUNS if out is None else out, "--out")
    try:
        check_out(out, overwrite=overwrite, what="check")
        return create(out, f"{source.name}-check")
    except OSError as error:
        raise RunError(f"cannot write to the folder {printable(out or RUNS)}: {error.strerror}") from error
