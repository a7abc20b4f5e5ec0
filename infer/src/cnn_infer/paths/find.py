"""Finding picture files by path, folder and pattern."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from cnn_infer.archives.access import files_below, is_archive, is_member, left_out, normal
from cnn_infer.errors import InputError
from cnn_infer.paths.external_sort import in_sorted_order
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.naming import parent_name, printable
from cnn_infer.paths.skipped import SYSTEM_NAMES, Skipped, is_system_name
from cnn_infer.pixels.convert import EXTENSIONS
from cnn_infer.storage.urls import is_url, is_web, joined, resolved

_FOLDER = b"\0"  # marks a folder; no name contains this byte, and it sorts before all others


class Found(NamedTuple):
    """A picture file.

    Attributes:
        path: Its path.
        given: The path under which it was found: the file itself, or a folder above it.
    """

    path: str
    given: str


def find_pictures(
    paths: Iterable[str | os.PathLike[str] | Listed], *, follow_symlinks: bool = False, skipped: Skipped | None = None
) -> Iterator[str]:
    """Return the picture files under ``paths``, in the order of ``paths`` and, in folders, in sorted order.

    An archive, or a folder in one (``photos.zip/test``), is searched like a folder. Any other file in ``paths`` is
    taken whatever its name. In folders, files are taken by extension
    (:data:`cnn_infer.pixels.convert.EXTENSIONS`), and hidden files and folders are skipped, as are those of systems
    and tools (:data:`cnn_infer.paths.skipped.SYSTEM_NAMES`, such as ``__MACOSX``). A subfolder, or a folder in a list
    of paths, that cannot be listed is returned in place of its pictures: its row then shows the error.

    Args:
        paths: Files, folders, archives (zip, tar, tar.gz), patterns (``photos/**/*.jpg``), URLs of all of these, and
            lists of paths. A URL in a list is that of a picture, unless it ends with a slash or is that of an archive.
        follow_symlinks: Whether symbolic links to folders are followed. A link to a folder above itself is skipped.
        skipped: Counts the other files and the links in folders, while the pictures are returned.

    Raises:
        InputError: a path does not exist, is neither a file nor a folder, is a folder that cannot be listed, a damaged
            archive, or a pattern that matches nothing. All paths but those in lists are checked before the first
            picture is returned.
    """
    return (found.path for found in find_below(paths, follow_symlinks=follow_symlinks, skipped=skipped))


def find_local(paths: Iterable[str | os.PathLike[str] | Listed], *, follow_symlinks: bool = False) -> Iterator[str]:
    """Return the picture files like :func:`find_pictures`, without those at URLs, for which no request is sent."""
    return (found.path for found in find_below(paths, follow_symlinks=follow_symlinks, with_urls=False))


def find_below(
    paths: Iterable[str | os.PathLike[str] | Listed],
    *,
    follow_symlinks: bool = False,
    skipped: Skipped | None = None,
    with_urls: bool = True,
) -> Iterator[Found]:
    """Return picture files like :func:`find_pictures`, each with the path under which it was found.

    Without ``with_urls`` all URLs are left out.
    """
    skipped = Skipped() if skipped is None else skipped
    given = [path if isinstance(path, Listed) else _matching(resolved(os.fspath(path))) for path in paths]
    for name in chain.from_iterable(names for names in given if not isinstance(names, Listed)):
        if is_url(name) and not with_urls:
            continue
        if is_archive(name):
            next(files_below(name), None)  # opens it
            continue
        if is_member(name):
            continue
        if is_url(name):
            from cnn_infer.paths import remote  # most runs have no URL

            remote.check(name)
            continue
        if not os.path.lexists(name):
            raise InputError(f"no such file or folder: {printable(name)}")
        if not os.path.isdir(name) and not os.path.isfile(name):
            raise InputError(f"neither a file nor a folder: {printable(name)}")
        if os.path.isdir(name):
            _check_can_be_listed(name)
    for names in given:
        for name in names:
            if isinstance(names, Listed):
                try:
                    name = resolved(name)
                except InputError:
                    yield Found(name, name)  # its row shows the error
                    continue
            if is_url(name) and not with_urls:
                continue
            if not is_url(name) and os.path.isdir(name):
                yield from (Found(path, name) for path in _walk(name, follow_symlinks, skipped))
            elif _can_be_searched(name):
                archive = normal(name)
                yield from (Found(path, archive) for path in _in_archive(archive, skipped))
            elif is_url(name) and (isinstance(names, Listed) or not is_member(name)):
                from cnn_infer.paths import remote

                yield from remote.below(name, skipped, listed=isinstance(names, Listed))
            else:
                yield Found(name, name)


def _matching(path: str) -> list[str]:
    """Return the path itself if it exists or is no pattern; otherwise the pictures and folders that match.

    Leading folders that exist are no part of the pattern: brackets in ``photos [2024]/*.jpg`` match themselves.
    Folders that match a pattern with ``**`` are left out, because the pattern matches the pictures in them as well.
    """
    if is_url(path) or os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    existing, above = path, os.path.dirname(path)
    while existing != above and not os.path.lexists(existing):  # no folder is above a drive, or above a relative path
        existing, above = above, os.path.dirname(above)
    pattern = glob.escape(existing) + path[len(existing) :]
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - keeps names that are not UTF-8
    names = [name for name in names if not _is_in_system_folder(name[len(existing) :])]
    found = [name for name in names if is_picture(name) or (os.path.isdir(name) and "**" not in pattern)]
    if not found:
        raise InputError(f"no picture and no folder matches {printable(path)}")
    return sorted(found, key=os.fsencode)


def _is_in_system_folder(path: str) -> bool:
    return any(part.lower() in SYSTEM_NAMES for part in Path(path).parts)


def is_picture(name: str) -> bool:
    """Whether a file is a picture by its extension."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def _can_be_searched(name: str) -> bool:
    """Whether a path is an archive; a damaged one in a list of paths is not, so that its row shows an error."""
    try:
        if not is_archive(name):
            return False
        next(files_below(name), None)
    except InputError:
        return False
    return True


def _in_archive(name: str, skipped: Skipped) -> Iterator[str]:
    """Yield the pictures of an archive, or of a folder in one."""
    start = len(os.path.join(name, ""))
    for path in files_below(name):
        *above, last = path[start:].split("/")
        if any(map(is_system_name, (*above, last))):
            continue
        if is_picture(last):
            yield path
        else:
            skipped.add_file(last)
    skipped.counts.update(left_out(name))


def _check_can_be_listed(folder: str) -> None:
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise InputError(f"cannot list the folder {printable(folder)}: {error.strerror}") from error


def _walk(folder: str, follow: bool, skipped: Skipped) -> Iterator[str]:
    """Yield the pictures of a folder and its subfolders; a folder that cannot be listed is yielded itself."""
    try:
        open_folders = [(folder, _identity(folder), _entries(folder, follow, skipped))]  # from the top down
    except OSError:
        yield folder  # from a list of paths, or removed since the check
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
                open_folders.append((path, identity, _entries(path, follow, skipped)))
            else:
                skipped.add_link()
        except OSError:
            yield path


def _entries(folder: str, follow: bool, skipped: Skipped) -> Iterator[bytes]:
    """Return the names of pictures and folders in sorted order; folder names end with :data:`_FOLDER`."""
    with os.scandir(folder) as listing:
        return in_sorted_order(_names(listing, follow, skipped), separator=b"/")


def _names(listing: Iterable[os.DirEntry[str]], follow: bool, skipped: Skipped) -> Iterator[bytes]:
    for entry in listing:
        if is_system_name(entry.name):
            continue
        if _is_folder(entry, follow):
            yield os.fsencode(entry.name) + _FOLDER
        elif is_picture(entry.name) and _is_file(entry):
            yield os.fsencode(entry.name)
        elif _is_folder(entry, follow=True):
            skipped.add_link()
        else:
            skipped.add_file(entry.name)


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str], follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:  # a symbolic link to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether this is a file or a broken symbolic link, whose row shows the error."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def folders_holding(name: str, root: str | os.PathLike[str]) -> list[Path]:
    """Return the subfolders of ``root`` that contain a file ``name``, ordered by the file's modification time."""
    found = sorted(Path(root).glob(f"*/{name}"), key=lambda path: (path.stat().st_mtime_ns, path))
    return [path.parent for path in found]


def folders_of(found: Found) -> list[str]:
    """Return the names of folders that may name a picture's class; the first that names a class decides.

    For a picture in a given folder: the folders below it from the top down, as in training, where
    ``cat/kitchen/1.jpg`` is a cat, and then the given folder itself. For a given file: its folder.
    """
    if found.path == found.given:
        name = parent_name(found.path)
        return [name] if name else []
    below = os.path.dirname(found.path[len(os.path.join(found.given, "")) :])
    if not is_url(found.path):
        return [*Path(below).parts, os.path.basename(os.path.abspath(found.given))]
    names = list(filter(None, [*below.split("/"), parent_name(joined(found.given, ""))]))
    return list(map(unquote, names)) if is_web(found.path) else names
