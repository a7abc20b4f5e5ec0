"""The page of an exported run: static files for any web server, which classify pictures in the browser."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from cnn_infer import Spec, open_model
from cnn_infer.errors import ModelError
from cnn_infer.paths.naming import printable
from cnn_infer.run_files import FP32_MODEL, INT8_MODEL

from cnn_export.errors import ExportError
from cnn_export.exported_run import exported_folder
from cnn_export.new_folder import check_new_folder, new_folder

SOURCES = Path(__file__).parent
PAGE, ASSETS = SOURCES / "page", SOURCES / "assets"
INDEX = "site.json"


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        folder: The folder.
        models: Names of the model files.
        bytes: Size of all files.
    """

    folder: Path
    models: tuple[str, ...]
    bytes: int


def check_site(out: str | os.PathLike[str]) -> None:
    """Check that a page can be written to a folder.

    Raises:
        ExportError: the folder is not empty, or the files of the page are not installed.
    """
    check_new_folder(out)
    if not (ASSETS / "vendor").is_dir():
        raise ExportError("the files of the page are missing: run make web in the source folder, which needs npm")


def write_site(out: str | os.PathLike[str], run: str | os.PathLike[str] | None = None) -> Site:
    """Write the page of an exported run into a new folder.

    The page has the fp32 model, the int8 model if it was not rejected, the reader in JavaScript and ONNX Runtime for
    the web. It fetches nothing from elsewhere.

    Args:
        out: The folder; it must be empty or not exist.
        run: A folder with ``model.onnx``, and ``model.int8.onnx`` if there is one; None for the newest run under
            ``runs/``.

    Raises:
        ExportError: nothing was exported in ``run``, a model is damaged, ``out`` is not empty, or the files of the page
            are not installed.
        DeviceError: ONNX Runtime is not installed.
        OSError: the disk is full, or writing is not permitted.
    """
    check_site(out)
    place = exported_folder(run)
    names = [name for name in (INT8_MODEL, FP32_MODEL) if (place / name).is_file()]
    try:
        specs = [open_model(place / name, device="cpu").spec for name in names]
    except ModelError as error:
        raise ExportError(f"{error}: export again") from error
    with new_folder(out) as folder:
        for source in (PAGE, ASSETS):
            shutil.copytree(source, folder, dirs_exist_ok=True)
        (folder / "models").mkdir()
        for name in names:
            shutil.copyfile(place / name, folder / "models" / name)
        files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        digest = hashlib.sha256()
        for name in files:
            digest.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
        document = {
            "title": _title(specs[0], place),
            "models": [f"models/{name}" for name in names],
            "version": digest.hexdigest(),
            "files": files,
        }
        (folder / INDEX).write_text(json.dumps(document, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Site(Path(out), tuple(names), written)


def site_line(site: Site) -> str:
    """Where the page is, and how to open it."""
    return (
        f"page           {printable(site.folder)}: {' and '.join(site.models)}, {site.bytes / 2**20:.1f} MiB\n"
        f"next step      python -m http.server -d {printable(site.folder)} --bind 127.0.0.1, "
        "then open http://localhost:8000"
    )


def _title(spec: Spec, place: Path) -> str:
    data = spec.details.get("data")
    return str(data.get("name") or place.name) if isinstance(data, dict) else place.name
