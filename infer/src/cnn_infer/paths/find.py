"""Finding the pictures among files and folders."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from cnn_infer.errors import InputError
from cnn_infer.paths.external_sort import in_sorted_order
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import parent_name, printable
from cnn_infer.pixels.convert import EXTENSIONS

_FOLDER = b"\0"  # in no name, and before all that is in names, so that it does not change their order


class Found(NamedTuple):
    """A picture file, and the path that was given: the file itself, or a folder above it."""

    path: str
    given: str


def find_pictures(paths: Iterable[str | os.PathLike[str] | Listed], *, follow_symlinks: bool = False) -> Iterator[str]:
    """The picture files under ``paths``, in the order given, folders walked in sorted order.

    A file that is named is taken whatever its name; in a folder, files count by extension
    (:data:`cnn_infer.pixels.convert.EXTENSIONS`) and hidden ones do not. Symbolic links to folders are followed
    only on request; a link that leads back to a folder above itself is then passed over. A folder further down, or in
    a list, that cannot be listed stands for its pictures, so that it gets a row that says so.

    Raises:
        InputError: a path does not exist, is neither a file nor a folder, or is a folder that cannot be listed. All
            are looked at before the first picture comes.
    """
    return (found.path for found in find_below(paths, follow_symlinks=follow_symlinks))


def find_below(paths: Iterable[str | os.PathLike[str] | Listed], *, follow_symlinks: bool = False) -> Iterator[Found]:
    """As :func:`find_pictures`, with the path that each was found under. What is listed is not looked at before."""
    given = [path if isinstance(path, Listed) else _matching(os.fspath(path)) for path in paths]
    for name in chain.from_iterable(names for names in given if not isinstance(names, Listed)):
        if not os.path.lexists(name):
            raise InputError(f"no such file or folder: {printable(name)}")
        if not os.path.isdir(name) and not os.path.isfile(name):
            raise InputError(f"neither a file nor a folder: {printable(name)}")
        if os.path.isdir(name):
            _check_can_be_listed(name)
    for name in chain.from_iterable(given):
        if os.path.isdir(name):
            yield from (Found(path, name) for path in _walk(name, follow_symlinks))
        else:
            yield Found(name, name)


def _matching(path: str) -> list[str]:
    """The path itself where it exists or is no pattern; else what matches it: pictures and, without **, folders."""
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    names = glob.glob(path, recursive=True)  # noqa: PTH207 - names that are not UTF-8 stay as they are
    found = [name for name in names if _is_picture(name) or (os.path.isdir(name) and "**" not in path)]
    if not found:
        raise InputError(f"no picture and no folder matches {printable(path)}")
    return sorted(found, key=os.fsencode)


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _check_can_be_listed(folder: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise InputError(f"cannot list the folder {printable(folder)}: {error.strerror}") from error


def _walk(folder: str, follow: bool) -> Iterator[str]:
    try:
        open_folders = [(folder, _identity(folder), _entries(folder, follow))]  # from the top down to where the walk is
    except OSError:
        yield folder  # named in a list, or it was there when all paths were looked at
        return
    while open_folders:
        above, _, entries = open_folders[-1]
        entry = next(entries, None)
        if entry is None:
            open_folders.pop()
            continue
        path = os.path.join(above, os.fsdecode(entry.removesuffix(_FOLDER)))
        if not entry.endswith(_FOLDER):
            yield path
            continue
        try:
            identity = _identity(path)
            if all(identity != known for _, known, _ in open_folders):
                open_folders.append((path, identity, _entries(path, follow)))
        except OSError:
            yield path


def _entries(folder: str, follow: bool) -> Iterator[bytes]:
    """Names of pictures, and of folders with :data:`_FOLDER` behind them, sorted by name."""
    with os.scandir(folder) as listing:
        return in_sorted_order(_named(listing, follow), separator=b"/")


def _named(listing: Iterable[os.DirEntry[str]], follow: bool) -> Iterator[bytes]:
    for entry in listing:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry, follow):
            yield os.fsencode(entry.name) + _FOLDER
        elif _is_picture(entry.name) and _is_file(entry):
            yield os.fsencode(entry.name)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str], follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Also a link that leads nowhere: it gets a row that says so."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def folders_holding(name: str, root: str | os.PathLike[str]) -> list[Path]:
    """The folders right under ``root`` that hold a file ``name``; the one whose file was written last is the last."""
    found = sorted(Path(root).glob(f"*/{name}"), key=lambda path: (path.stat().st_mtime_ns, path))
    return [path.parent for path in found]


def folders_of(found: Found) -> list[str]:
    """The names of the folders that may say what a picture shows, the one that counts first.

    Of a picture in a folder that was given: those below it from the top down, as in training, where
    ``cat/kitchen/1.jpg`` is a cat; then the given folder itself. Of a file that was given: the folder it lies in.
    """
    if found.path == found.given:
        return [parent_name(found.path)]
    below = os.path.dirname(found.path[len(os.path.join(found.given, "")) :])
    return [*Path(below).parts, os.path.basename(os.path.abspath(found.given))]
