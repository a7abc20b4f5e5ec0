"""The cache of decoded pictures: one folder a split, whole or absent, keyed by all that its bytes depend on."""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import re
import shutil
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import PIL
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import write_text

from cnn_train.errors import DataError

if TYPE_CHECKING:
    from cnn_infer.spec import Spec
    from numpy.typing import NDArray

    from cnn_train.data.decode import Outcome

_FORMAT = 1

_INDEX, _PICTURES = "index.json", "pictures.npy"

UNUSED_DAYS = 30
"""What no training used for so long is removed: after each change of the pictures the earlier ones stay behind."""

_OWN = re.compile(r"[0-9a-f]{32}|headers-[0-9a-f]{32}\.json|\.[0-9a-f]{32}\..*\.partial")


@dataclass(frozen=True)
class Decoded:
    """One split's readable pictures.

    Attributes:
        images: uint8 (k, h, w, c), perhaps memory-mapped and read-only.
        kept: Positions of these k among the n pictures of the split, ascending.
        unreadable: The other n - k: position and reason.
        fingerprint: SHA-256, hexadecimal, over name, label and digest of the k pictures.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.int64]
    unreadable: Sequence[tuple[int, str]]
    fingerprint: str


def user_cache() -> Path:
    """EdgeCNN's folder among this user's caches, as the system has it; it may not exist yet."""
    try:
        home = Path.home()
    except RuntimeError as error:
        raise DataError("there is no home folder for the cache: set HOME, or name a folder with --cache") from error
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        # The XDG specification says to ignore a relative path
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        base = named if named.is_absolute() else home / ".cache"
    return base / "edgecnn"


def key(paths: Iterable[str], labels: NDArray[np.int64], spec: Spec) -> str:
    """What the pixels depend on, as 32 hexadecimal digits: files (name, size, time), labels, the way to pixels."""
    digest = hashlib.sha256(json.dumps({**_code(), "spec": [spec.shape, spec.resize, spec.filter]}).encode())
    for path in paths:
        digest.update(_state(path))
    digest.update(labels.astype("<i8").tobytes())
    return digest.hexdigest()[:32]


def key_of_set(paths: Iterable[str]) -> str:
    """The same of what depends on files alone, in whatever order they come: nothing is sorted, so none is kept."""
    total = sum(int.from_bytes(hashlib.sha256(_state(path)).digest()) for path in paths)
    return hashlib.sha256(json.dumps({**_code(), "files": total}).encode()).hexdigest()[:32]


def _state(path: str) -> bytes:
    try:
        status = os.stat(path)
    except OSError:
        return os.fsencode(path) + b"\0gone\0"
    return os.fsencode(path) + b"\0%d %d\0" % (status.st_size, status.st_mtime_ns)


def _code() -> dict[str, Any]:
    return {"format": _FORMAT, "pillow": PIL.__version__, "simplejpeg": version("simplejpeg"), "pixels": _decoder()}


def _decoder() -> str:
    """A digest of the code that turns pictures into pixels: a changed decoder must not find old entries."""
    room = importlib.resources.files("cnn_infer").joinpath("pixels")
    code = [entry.read_bytes() for entry in sorted(room.iterdir(), key=lambda entry: entry.name) if entry.is_file()]
    return hashlib.sha256(b"".join(code)).hexdigest()


def collect(
    outcomes: Iterable[Outcome],
    name_of: Callable[[int], str],
    labels: NDArray[np.int64],
    take: Callable[[NDArray[np.uint8]], object],
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], list[tuple[int, str]], str]:
    """Hand each readable picture's pixels to ``take``; what is known of all of them afterwards.

    Returns:
        ``kept``, ``unreadable`` and ``fingerprint`` as :class:`Decoded` has them.
    """
    kept = array("q")
    unreadable: list[tuple[int, str]] = []
    digest = hashlib.sha256()
    for at, outcome in enumerate(outcomes):
        if outcome.pixels is None:
            unreadable.append((at, outcome.reason))
        else:
            take(outcome.pixels)
            kept.append(at)
            digest.update(b"%s\0%d\0%s" % (os.fsencode(name_of(at)), labels[at], outcome.digest))
        advance(1)
    return np.asarray(kept, np.int64), unreadable, digest.hexdigest()


def load(folder: Path, count: int, spec: Spec) -> Decoded | None:
    """A split of ``count`` pictures from the cache, or None where it is absent or damaged."""
    try:
        index = json.loads((folder / _INDEX).read_text("utf-8"))
        unreadable = [(int(at), str(reason)) for at, reason in index["unreadable"]]
        fingerprint = str(index["fingerprint"])
        kept = np.setdiff1d(np.arange(count), [at for at, _ in unreadable])
        images = np.load(folder / _PICTURES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, RecursionError):
        return None
    if images.shape != (len(kept), *spec.shape) or images.dtype != np.uint8:
        return None
    _mark_used(folder)
    return Decoded(images, kept, unreadable, fingerprint)


def store(
    folder: Path,
    outcomes: Iterable[Outcome],
    name_of: Callable[[int], str],
    labels: NDArray[np.int64],
    spec: Spec,
    advance: Callable[[int], None],
) -> None:
    """Write a split as it is decoded, beside ``folder``, and rename it into place once it is on the disk.

    Raises:
        DataError: the disk is full or writing is not permitted. Nothing half-written is left.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial")
        with open(os.path.join(temporary, _PICTURES), "wb") as stream:
            # Plain writes instead of a writable memory map: there, a full disk kills the process.
            _write_header(stream, (len(labels), *spec.shape))
            kept, unreadable, fingerprint = collect(
                outcomes, name_of, labels, lambda pixels: stream.write(np.ascontiguousarray(pixels).data), advance
            )
            start = stream.tell() - len(kept) * int(np.prod(spec.shape))
            stream.seek(0)
            _write_header(stream, (len(kept), *spec.shape))
            if stream.tell() != start:
                raise AssertionError("the header of a .npy file must not depend on the number of rows")
            stream.flush()
            os.fsync(stream.fileno())
        write_text(os.path.join(temporary, _INDEX), json.dumps({"unreadable": unreadable, "fingerprint": fingerprint}))
        _put_in_place(temporary, folder)
    except OSError as error:
        raise _cannot_write(folder, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _write_header(stream: IO[bytes], shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _put_in_place(temporary: str, folder: Path) -> None:
    os.chmod(temporary, 0o755)  # mkdtemp makes folders that only their owner can read
    if folder.exists():  # damaged, or another process was faster: the content is the same
        shutil.rmtree(folder, ignore_errors=True)
    try:
        Path(temporary).rename(folder)
    except OSError:
        if not folder.exists():
            raise


def load_summary(path: Path) -> Mapping[str, Any] | None:
    """A small document from the cache, or None where it is absent or damaged."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    _mark_used(path)
    return document if isinstance(document, dict) else None


def store_summary(path: Path, document: Mapping[str, Any]) -> None:
    """Write a small document into the cache, whole or not at all.

    Raises:
        DataError: the disk is full or writing is not permitted.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(document))
    except OSError as error:
        raise _cannot_write(path, error) from error


def remove_unused(folder: Path, days: float = UNUSED_DAYS) -> None:
    """Remove the entries that nobody used for ``days``, and nothing else that may lie in the folder.

    A training that reads one at this moment keeps its pictures: on Linux and macOS a file lives as long as it is
    open, and Windows refuses to remove it.
    """
    oldest = time.time() - days * 86_400
    with suppress(OSError), os.scandir(folder) as listing:
        for entry in listing:
            if not _OWN.fullmatch(entry.name) or entry.stat(follow_symlinks=False).st_mtime >= oldest:
                continue
            if entry.is_file(follow_symlinks=False):
                Path(entry.path).unlink()
            elif set(os.listdir(entry.path)) <= {_INDEX, _PICTURES}:  # a folder may have such a name by chance
                shutil.rmtree(entry.path, ignore_errors=True)


def _mark_used(path: Path) -> None:
    with suppress(OSError):  # of another user, or on a disk that may only be read
        os.utime(path)


def _cannot_write(path: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot write the picture cache {printable(path)}: {error.strerror or error}: "
        "make room, or name another place with --cache"
    )
