"""Zip files: the entries of the central directory one at a time, and the bytes of one file.

``zipfile`` keeps an object of half a kilobyte for each entry, however many a file declares; here they are streamed.
Format: APPNOTE.TXT 6.3.10 of PKWARE, with zip64. Files may be stored or deflated.
"""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import IO

from cnn_infer.archives.entries import Entry, damaged, safe_name
from cnn_infer.errors import PictureError

_END = struct.Struct("<4s4H2LH")  # end of central directory
_LOCATOR = struct.Struct("<4sLQL")  # of the zip64 end of central directory
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")  # a file in the central directory
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_METHODS = {1: "shrink", 6: "implode", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstandard", 95: "xz", 98: "PPMd"}
_LONGEST_COMMENT = 65_535
_BLOCK = 1 << 16  # bytes


def entries(stream: IO[bytes], path: str) -> Iterator[Entry]:
    """Yield the files of a zip file; folders are left out.

    Args:
        stream: The file.
        path: Its path, for messages.

    Raises:
        InputError: it is no zip file, or its central directory is damaged.
    """
    count, size, start, shift = _central_directory(stream, path)
    stream.seek(start)
    end = start + size
    for _ in range(count):
        head = stream.read(_ENTRY.size)
        if len(head) < _ENTRY.size or not head.startswith(b"PK\1\2"):
            raise damaged(path, "its central directory is damaged")
        _, made_by, _, flags, method, _, _, check, stored, length, *lengths, _, _, mode, local = _ENTRY.unpack(head)
        name_length, extra_length, comment_length = lengths[:3]
        name, extra = stream.read(name_length), stream.read(extra_length)
        stream.seek(comment_length, 1)
        if stream.tell() > end:
            raise damaged(path, "its central directory is damaged")
        length, stored, local = _zip64(extra, length, stored, local, path)
        if name.endswith((b"/", b"\\")):
            continue
        if not flags & 1 << 11 and not name.isascii():
            name = name.decode("cp437").encode()
        unix = mode >> 16 if made_by >> 8 in (3, 19) else 0  # Unix, macOS
        regular = stat.S_IFMT(unix) in (0, stat.S_IFREG)
        yield Entry(safe_name(name), regular, local + shift, stored, length, check, -1 if flags & 1 else method)
    if stream.tell() != end:
        raise damaged(path, "its central directory has more files than it declares")


def _central_directory(stream: IO[bytes], path: str) -> tuple[int, int, int, int]:
    """Number of files, bytes, start of the central directory, and bytes before the archive in the file."""
    bytes_in_file = stream.seek(0, 2)
    tail_start = max(0, bytes_in_file - _END.size - _LONGEST_COMMENT)
    stream.seek(tail_start)
    tail = stream.read()
    at = tail.rfind(b"PK\5\6")
    while at >= 0:
        if at + _END.size <= len(tail):
            _, disk, _, _, count, size, start, comment = _END.unpack_from(tail, at)
            if at + _END.size + comment == len(tail):
                break
        at = tail.rfind(b"PK\5\6", 0, at)
    else:
        raise damaged(path, "it is no zip file, or its end is missing")
    position = tail_start + at
    if disk and disk != 0xFFFF:
        raise damaged(path, "it is one part of several")
    if position >= _LOCATOR.size:
        stream.seek(position - _LOCATOR.size)
        magic, _, end64, _ = _LOCATOR.unpack(stream.read(_LOCATOR.size))
        if magic == b"PK\6\7":
            stream.seek(min(end64, bytes_in_file))
            head = stream.read(_END64.size)
            if len(head) < _END64.size or not head.startswith(b"PK\6\6"):
                raise damaged(path, "its central directory is damaged")
            *_, count, size, start = _END64.unpack(head)
            position = end64
    shift = position - size - start
    if shift < 0:
        raise damaged(path, "its central directory is damaged or cut off")
    return count, size, start + shift, shift


def _zip64(extra: bytes, size: int, stored: int, local: int, path: str) -> tuple[int, int, int]:
    """Sizes and position of a file; those that are too large for 32 bits are in the zip64 field."""
    if 0xFFFFFFFF not in (size, stored, local):
        return size, stored, local
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{min(length, len(extra) - 4) // 8}Q", extra, 4))
            try:
                size, stored, local = (next(values) if each == 0xFFFFFFFF else each for each in (size, stored, local))
            except (StopIteration, RuntimeError, ValueError) as error:
                raise damaged(path, "its central directory is damaged") from error
            return size, stored, local
        extra = extra[4 + length :]
    return size, stored, local


def read(at: Callable[[int, int], bytes], entry: Entry) -> bytes:
    """Return the bytes of a file in a zip file.

    Memory is bounded by the size that the archive declares, which the caller has limited.

    Args:
        at: Reads bytes: ``at(position, count)``.
        entry: The file.

    Raises:
        PictureError: it is encrypted, compressed in another way than deflate, damaged, or its size is not as declared.
    """
    if entry.method == -1:
        raise PictureError("it is encrypted in its archive: unpack it")
    if entry.method not in (_STORED, _DEFLATED):
        name = _METHODS.get(entry.method, f"method {entry.method}")
        raise PictureError(f"its compression in the archive is not supported ({name}): pack it with deflate")
    head = at(entry.start, _LOCAL.size)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        raise PictureError("it is damaged in its archive: no header")
    *_, name_length, extra_length = _LOCAL.unpack(head)
    position = entry.start + _LOCAL.size + name_length + extra_length
    end = position + entry.stored
    data = bytearray()
    inflate = zlib.decompressobj(-15) if entry.method == _DEFLATED else None
    try:
        while position < end and len(data) <= entry.size:
            block = at(position, min(_BLOCK, end - position))
            if not block:
                raise PictureError("it is damaged in its archive: cut off")
            position += len(block)
            data += inflate.decompress(block, entry.size + 1 - len(data)) if inflate else block
            while inflate and inflate.unconsumed_tail and len(data) <= entry.size:
                data += inflate.decompress(inflate.unconsumed_tail, entry.size + 1 - len(data))
    except zlib.error as error:
        raise PictureError(f"it is damaged in its archive: {error}") from error
    if len(data) != entry.size:
        larger = "larger" if len(data) > entry.size else "smaller"
        raise PictureError(f"it is {larger} than its archive declares ({entry.size:,} bytes)")
    if zlib.crc32(data) != entry.check:
        raise PictureError("it is damaged in its archive: the checksum differs")
    return bytes(data)
