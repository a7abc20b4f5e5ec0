"""Finding pictures at URLs: objects, folders and patterns, in the order of a search on this machine."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from itertools import groupby

from cnn_infer.errors import InputError
from cnn_infer.paths.external_sort import in_sorted_order
from cnn_infer.paths.find import Found, is_picture
from cnn_infer.paths.naming import printable
from cnn_infer.paths.skipped import Skipped, is_system_name
from cnn_infer.storage.failures import reason_of
from cnn_infer.storage.listing import Entry, entries, is_in_order
from cnn_infer.storage.objects import look_up
from cnn_infer.storage.pending import ObjectURL
from cnn_infer.storage.urls import is_web, joined

_END = b"\0"  # ends a name and sorts before all others; a folder's is followed by _FOLDER
_FOLDER = b"\1"
_STEM = re.compile(rb"[^\0-/]*")

UNSAFE = "unsafe name"
"""Why an object is left out whose key has an empty part, the part ``.`` or ``..``, or a line break."""


def check(url: str) -> None:
    """Check a given URL before any picture is read.

    Raises:
        InputError: nothing is there, or it cannot be reached or listed.
    """
    if (pattern := _pattern(url)) is not None:
        next(entries(pattern[0]), None)
        return
    if _must_be_folder(url) and next(entries(url), None) is not None:
        return
    found = look_up(url)
    if found is None or (_must_be_folder(url) and not found.folder):
        kind = "folder" if _must_be_folder(url) else "object or folder"
        raise InputError(f"no such {kind}: {printable(url)}")
    if found.folder:
        next(entries(url), None)


def _must_be_folder(url: str) -> bool:
    """Whether a URL has a final slash: a store may have an object and a folder of one name."""
    return url.endswith("/") and not is_web(url)


def below(url: str, skipped: Skipped, *, listed: bool) -> Iterator[Found]:
    """Yield the pictures at a URL. The order in a folder is that of files on this machine.

    Args:
        url: An object, a folder or a pattern.
        skipped: Counts the other objects.
        listed: Whether the URL is from a list of paths: then only a URL that ends with a slash is a folder.

    Raises:
        InputError: a pattern matches nothing, or its folder cannot be listed.
    """
    if listed:
        if not url.endswith("/"):
            yield Found(url, url)
            return
    elif (pattern := _pattern(url)) is not None:
        yield from _matching(url, *pattern, skipped)
        return
    elif not _must_be_folder(url):
        found = look_up(url)
        if found is None or not found.folder:
            size, version = (None, "") if found is None else (found.size, found.version)
            yield Found(ObjectURL(url, size, version), url)
            return
    yield from (Found(path, url) for path in _walk(url, skipped))


def _walk(folder: str, skipped: Skipped) -> Iterator[ObjectURL]:
    """Yield the pictures of a folder and its subfolders; one that cannot be listed is yielded with the reason."""
    open_folders = [(folder, _sorted_entries(folder, skipped))]  # from the top down
    while open_folders:
        above, listing = open_folders[-1]
        try:
            entry = next(listing, None)
        except InputError as error:
            open_folders.pop()
            yield ObjectURL(above, failure=f"the folder cannot be listed: {reason_of(error)}")
            continue
        if entry is None:
            open_folders.pop()
            continue
        url = joined(above, entry.link or entry.name)
        if entry.folder:
            open_folders.append((url, _sorted_entries(url, skipped)))
        elif is_picture(entry.name):
            yield ObjectURL(url, entry.size, entry.version)
        else:
            skipped.add_file(entry.name)


def _sorted_entries(folder: str, skipped: Skipped) -> Iterator[Entry]:
    """Yield the objects and folders that are directly in a folder, in the order of a search on this machine.

    A listing in the order of keys is sorted in groups: only names with the same characters up to one below the slash
    can change places, as ``a-b`` and ``a/``. So the first pictures come before the whole folder is listed.
    """
    items = map(_packed, _named(folder, skipped))
    if is_in_order(folder):
        for _, group in groupby(items, key=lambda item: _STEM.match(item)[0]):  # type: ignore[index]
            yield from map(_unpacked, in_sorted_order(group, separator=b"/"))
    else:
        yield from map(_unpacked, in_sorted_order(items, separator=b"/"))


def _named(folder: str, skipped: Skipped) -> Iterator[Entry]:
    """Yield the entries of a folder whose names are not hidden, those of systems, or unsafe."""
    for entry in entries(folder):
        if not entry.name and not entry.folder:
            continue  # the marker of the folder itself
        if entry.name in ("", ".", "..") or not {"\0", "\n", "/"}.isdisjoint(entry.name):
            skipped.counts[UNSAFE] += 1
        elif not is_system_name(entry.name):
            yield entry


def _packed(entry: Entry) -> bytes:
    """An entry as bytes without a slash, which sort as the names do."""
    fields = [_FOLDER.decode()] if entry.folder else ["", "" if entry.size is None else str(entry.size), entry.version]
    tail = "\0".join([*fields, *([] if entry.link is None else ["\2" + entry.link])])
    return entry.name.encode("utf-8", "surrogateescape") + _END + tail.replace("/", "_").encode()


def _unpacked(item: bytes) -> Entry:
    name, kind, *rest = item.split(_END)
    link = rest.pop()[1:].decode() if rest and rest[-1].startswith(b"\2") else None
    text = name.decode("utf-8", "surrogateescape")
    if kind == _FOLDER:
        return Entry(text, True, link=link)
    return Entry(text, False, int(rest[0]) if rest[0] else None, rest[1].decode(), link)


def _pattern(url: str) -> tuple[str, list[str]] | None:
    """The folder in which a pattern starts, and its parts; None for a URL that is no pattern.

    An address of a web server is one only with ``*``: in it, ``?`` starts the query.
    """
    start, slashes, rest = url.partition("://")
    head, *parts = rest.split("/")
    if not ("*" in rest if is_web(url) else glob.has_magic(rest)):
        return None
    first = next((at for at, part in enumerate(parts) if glob.has_magic(part)), None)
    if first is None or (not is_web(url) and "*" not in rest and look_up(url) is not None):
        return None
    return "/".join([start + slashes + head, *parts[:first]]), parts[first:]


def _matching(url: str, folder: str, parts: list[str], skipped: Skipped) -> Iterator[Found]:
    """Yield the pictures that match a pattern, and those in folders that do, in the order of their URLs.

    As in the patterns of this machine: ``**`` stands for any number of folders, and with it, folders do not match.
    """
    found = in_sorted_order(_expanded(folder, parts, {0}), separator=b"\n")
    empty = True
    for item in found:
        empty = False
        name, _, facts = item.partition(_END)
        path = name.decode("utf-8", "surrogateescape")
        if facts == _FOLDER:
            yield from (Found(inner, path) for inner in _walk(path, skipped))
        else:
            size, _, version = facts.decode().partition(" ")
            yield Found(ObjectURL(path, int(size) if size else None, version), path)
    if empty:
        raise InputError(f"no picture and no folder matches {printable(url)}")


def _expanded(folder: str, parts: list[str], active: set[int]) -> Iterator[bytes]:
    """Yield what matches a pattern below a folder, as bytes: the URL, NUL, and size and version.

    Each folder is listed once, with the parts of the pattern that its entries may match: ``**`` stays active below.

    Args:
        folder: The folder.
        parts: The parts of the pattern.
        active: The indices of the parts that the entries of this folder may match.
    """
    last = len(parts) - 1
    for at in range(last):
        if at in active and parts[at] == "**":
            active = active | {at + 1}  # it may stand for no folder
    for entry in _named(folder, Skipped()):
        matching = [at for at in active if parts[at] == "**" or fnmatchcase(entry.name, parts[at])]
        url = joined(folder, entry.link or entry.name)
        if last in matching and (is_picture(entry.name) if not entry.folder else "**" not in parts):
            yield _match(url, entry)
        if entry.folder and (deeper := {at + (parts[at] != "**") for at in matching} - {last + 1}):
            yield from _expanded(url, parts, deeper)


def _match(url: str, entry: Entry) -> bytes:
    facts = _FOLDER if entry.folder else f"{'' if entry.size is None else entry.size} {entry.version}".encode()
    return url.encode("utf-8", "surrogateescape") + _END + facts
