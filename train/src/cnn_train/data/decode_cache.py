"""The cache of decoded pictures: one folder per split, complete or absent, named by a key of all that its bytes
depend on.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import shutil
import tempfile
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import PIL
from cnn_infer.archives.access import stat_of
from cnn_infer.paths.naming import printable
from cnn_infer.system.atomic import flush_to_disk, write_bytes, write_text

from cnn_train.errors import DataError

if TYPE_CHECKING:
    from cnn_infer.spec import Spec
    from numpy.typing import NDArray

    from cnn_train.data.decode import Outcome

INDEX, PICTURES = "index.json", "pictures.npy"
"""The two files of an entry: what could not be read, and the pixels of all other pictures."""

_FORMAT = 1


@dataclass(frozen=True)
class DecodedSplit:
    """The readable pictures of one split.

    Attributes:
        images: uint8 (k, h, w, c), possibly memory-mapped and read-only.
        kept: int64 (k,), ascending: the positions of these pictures among the n pictures of the split.
        unreadable: Position and reason of each of the other n - k pictures.
        fingerprint: SHA-256, hexadecimal, of the name, label and digest of each of the k pictures.
    """

    images: NDArray[np.uint8]
    kept: NDArray[np.int64]
    unreadable: Sequence[tuple[int, str]]
    fingerprint: str


def key(paths: Iterable[str], labels: NDArray[np.int64], spec: Spec, name_form: str | None = None) -> str:
    """The key of a split, 32 hexadecimal digits.

    It depends on the name, size and modification time of each file, on the labels, on the target size and the way of
    resizing, on the Unicode form of names in the fingerprint, and on the code that decodes.
    """
    digest = hashlib.sha256(json.dumps({**_decoder(), "spec": [spec.shape, spec.resize, spec.filter]}).encode())
    for path in paths:
        digest.update(_state(path))
    digest.update(labels.astype("<i8").tobytes() + (name_form or "").encode())
    return digest.hexdigest()[:32]


def key_of_set(paths: Iterable[str]) -> str:
    """The key of a set of files in any order, 32 hexadecimal digits.

    It depends on the name, size and modification time of each file and on the code that decodes. The digests are
    added up rather than sorted, so that memory does not grow with the number of files.
    """
    total = sum(int.from_bytes(hashlib.sha256(_state(path)).digest()) for path in paths)
    return hashlib.sha256(json.dumps({**_decoder(), "files": total}).encode()).hexdigest()[:32]


def _state(path: str) -> bytes:
    try:
        status = stat_of(path)
    except OSError:
        return os.fsencode(path) + b"\0gone\0"
    return os.fsencode(path) + b"\0%d %d\0" % (status.st_size, status.st_mtime_ns)


def _decoder() -> dict[str, Any]:
    """What decodes: the versions of the libraries and a digest of our own code."""
    package = importlib.resources.files("cnn_infer").joinpath("pixels")
    files = sorted((entry for entry in package.iterdir() if entry.is_file()), key=lambda entry: entry.name)
    code = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    return {"format": _FORMAT, "pillow": PIL.__version__, "simplejpeg": version("simplejpeg"), "pixels": code}


def collect(
    outcomes: Iterable[Outcome],
    name_of: Callable[[int], str],
    labels: NDArray[np.int64],
    take: Callable[[NDArray[np.uint8]], object],
    advance: Callable[[int], None],
) -> tuple[NDArray[np.int64], list[tuple[int, str]], str]:
    """Pass the pixels of each readable picture to ``take``, and record which pictures are readable.

    Args:
        outcomes: One per picture, in order.
        name_of: The name that goes into the fingerprint, by position.
        labels: int64 (n,).
        take: Called with uint8 (h, w, c) for each readable picture, in order.
        advance: Called with 1 after each picture.

    Returns:
        ``kept``, ``unreadable`` and ``fingerprint`` of :class:`DecodedSplit`.
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


def load(folder: Path, count: int, spec: Spec) -> DecodedSplit | None:
    """Return a split of ``count`` pictures from its entry, or None if the entry is missing or damaged."""
    try:
        index = json.loads((folder / INDEX).read_text("utf-8"))
        unreadable = [(int(at), str(reason)) for at, reason in index["unreadable"]]
        fingerprint = str(index["fingerprint"])
        kept = np.setdiff1d(np.arange(count), [at for at, _ in unreadable])
        images = np.load(folder / PICTURES, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, RecursionError):
        return None
    if images.shape != (len(kept), *spec.shape) or images.dtype != np.uint8:
        return None
    mark_used(folder)
    return DecodedSplit(images, kept, unreadable, fingerprint)


def store(
    folder: Path,
    outcomes: Iterable[Outcome],
    name_of: Callable[[int], str],
    labels: NDArray[np.int64],
    spec: Spec,
    advance: Callable[[int], None],
) -> None:
    """Write an entry while its pictures are decoded: beside ``folder``, then renamed once it is on the disk.

    Args:
        folder: The entry.
        outcomes: As for :func:`collect`, and so are ``name_of``, ``labels`` and ``advance``.
        name_of: The name that goes into the fingerprint, by position.
        labels: int64 (n,).
        spec: Gives the shape of the pictures.
        advance: Called with 1 after each picture.

    Raises:
        DataError: the disk is full or writing is not permitted. No partial entry is left behind.
    """
    temporary = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".partial")
        with open(os.path.join(temporary, PICTURES), "wb") as stream:
            # Plain writes, because a full disk kills a process that writes to a memory map.
            _write_header(stream, (len(labels), *spec.shape))
            kept, unreadable, fingerprint = collect(
                outcomes, name_of, labels, lambda pixels: stream.write(np.ascontiguousarray(pixels).data), advance
            )
            start = stream.tell() - len(kept) * int(np.prod(spec.shape))
            stream.seek(0)
            _write_header(stream, (len(kept), *spec.shape))
            if stream.tell() != start:
                raise AssertionError("the header of a .npy file must not depend on the number of rows")
            flush_to_disk(stream)
        write_text(os.path.join(temporary, INDEX), json.dumps({"unreadable": unreadable, "fingerprint": fingerprint}))
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
    if folder.exists():  # damaged, or written by another process in the meantime, with the same content
        shutil.rmtree(folder, ignore_errors=True)
    try:
        Path(temporary).rename(folder)
    except OSError:
        if not folder.exists():
            raise


def write_document(path: Path, document: Mapping[str, Any]) -> None:
    """Write a small JSON document into the cache, complete or not at all.

    Raises:
        DataError: the disk is full or writing is not permitted.
    """
    write_file(path, json.dumps(document).encode())


def write_file(path: Path, content: bytes, what: str = "picture cache") -> None:
    """Write a file into the cache, complete or not at all.

    Args:
        path: The file; its folder is created if it is missing.
        content: What to write.
        what: What the file is, for the message.

    Raises:
        DataError: the disk is full or writing is not permitted.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    except OSError as error:
        raise _cannot_write(path, error, what) from error


def mark_used(path: Path) -> None:
    """Set the modification time of an entry to now: unused entries are removed by age."""
    with suppress(OSError):  # another user's file, or a read-only disk
        os.utime(path)


def _cannot_write(path: Path, error: OSError, what: str = "picture cache") -> DataError:
    return DataError(
        f"cannot write the {what} {printable(path)}: {error.strerror or error}: "
        "free some space, or name another folder with --cache"
    )
