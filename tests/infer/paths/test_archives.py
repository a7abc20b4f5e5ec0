"""Archives in the place of folders: the rows of a folder, and archives that lie, hide or harm."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from cnn_infer import Classifier, InputError, evaluate, find_pictures
from cnn_infer.archives import entries
from cnn_infer.archives.access import folders_in, names_in
from cnn_infer.errors import PictureError
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.skipped import Skipped
from cnn_infer.pixels.read import read_file
from PIL import Image

Cli = Callable[..., "subprocess.CompletedProcess[bytes]"]
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220)}
NAMES = ["red/1.png", "red/2.png", "red/more/3.png", "red.png", "green/1.png", "blue/1.png"]


def png(colour: tuple[int, int, int] = (220, 10, 10)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(stream, "PNG")
    return stream.getvalue()


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        archive.comment = comment
    return path


def write_tar(path: Path, files: dict[str, bytes], kinds: dict[str, bytes] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, kind in (kinds or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    return path


def write(path: Path, files: dict[str, bytes]) -> Path:
    return write_zip(path, files) if path.suffix == ".zip" else write_tar(path, files)


def patched(path: Path, magic: bytes, offset: int, form: str, value: int) -> Path:
    """Overwrite a field behind the last occurrence of a magic number."""
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, data.rindex(magic) + offset, value)
    path.write_bytes(data)
    return path


def found(path: Path, skipped: Skipped | None = None) -> list[str]:
    return list(find_pictures([path], skipped=skipped))


def reason(path: Path, member: str = "a.png") -> str:
    with pytest.raises(PictureError) as caught:
        read_file(path / member)
    return str(caught.value)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        found(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def pictures() -> dict[str, bytes]:
    files = {name: png(COLOURS[name.split("/")[0].removesuffix(".png")]) for name in NAMES}
    return {**files, "notes.txt": b"notes", "__MACOSX/red/1.png": b"", "red/.hidden.png": b"", "inner.zip": b"PK"}


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar", "photos.tar.gz", "photos.TGZ"])
def test_rows_are_those_of_the_unpacked_folder(
    rgb: Classifier, pictures: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    if name.endswith("TGZ"):
        write_tar(tmp_path / "photos.tgz", pictures).rename(tmp_path / name)
    else:
        write(tmp_path / name, pictures)
    for inside, data in pictures.items():
        (tmp_path / "photos" / inside).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / inside).write_bytes(data)
    rows: list[str] = []
    unpacked: list[str] = []
    report = evaluate(rgb, [tmp_path / name], on_row=lambda row: rows.append(repr(row)))
    folder = evaluate(rgb, [tmp_path / "photos"], on_row=lambda row: unpacked.append(repr(row)))
    assert rows == [row.replace("/photos/", f"/{name}/") for row in unpacked]
    assert (report.accuracy, report.labelled, report.skipped) == (1, 5, folder.skipped)
    assert found(tmp_path / name / "red") == [str(tmp_path / name / inside) for inside in NAMES[:3]]
    assert found(tmp_path / name / "red/1.png") == [str(tmp_path / name / "red/1.png")]
    with pytest.raises(InputError, match="no such file or folder"):
        found(tmp_path / name / "pink")


def test_the_command_resumes_and_never_overwrites_an_archive(
    cli: Cli, refused: Callable[..., str], models: Path, pictures: dict[str, bytes], tmp_path: Path
) -> None:
    write_zip(tmp_path / "photos.zip", pictures)
    (tmp_path / "temporary").mkdir()
    run = ("photos.zip", "--model", models / "rgb.onnx", "--format", "csv")
    done = cli(*run, "--report", "report.json")
    assert done.stdout.decode().splitlines()[1].startswith("photos.zip/blue/1.png,blue,")
    assert json.loads((tmp_path / "report.json").read_text())["accuracy"] == 1
    before = (tmp_path / "photos.zip").read_bytes()
    assert "photos.zip is also an input" in refused(*run, "--output", "photos.zip")
    assert (tmp_path / "photos.zip").read_bytes() == before
    (tmp_path / "list.txt").write_text("photos.zip/red/1.png\nbroken.zip\nphotos.zip/blue\n")
    (tmp_path / "broken.zip").write_bytes(before[:-9])
    with (tmp_path / "list.txt").open() as listed:
        rows = cli("-", *run[1:], stdin=listed).stdout.decode().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["photos.zip/red/1.png", "broken.zip", "photos.zip/blue/1.png"]
    assert "not a picture" in rows[1]
    assert "broken.zip cannot be read as an archive: it is no zip file, or its end" in refused("broken.zip", *run[1:])


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_names_that_leave_the_archive_are_left_out_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "data").mkdir()
    bad = ["/abs.png", "../up.png", "a/../../up.png", "C:\\x.png", "..\\up.png", "a//b.png", "a/./b.png"]
    path = write(tmp_path / "data" / name, {"a.png": png(), **{each: png() for each in bad}})
    skipped = Skipped()
    assert found(path, skipped) == [str(path / "a.png")]
    assert skipped.counts == {"unsafe name": len(bad)}
    assert read_file(path / "a.png") == png()
    assert reason(path, "../up.png").startswith("cannot read it")
    assert sorted(each.name for each in tmp_path.rglob("*")) == [name, "data", "temporary"]


def test_links_and_devices_are_left_out(tmp_path: Path) -> None:
    kinds = {
        f"{number}.png": kind
        for number, kind in enumerate(
            [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
        )
    }
    path = write_tar(tmp_path / "a.tar", {"a.png": png()}, kinds)
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", png())
        archive.writestr(link, "/etc/passwd")
    for each, count in ((path, 5), (tmp_path / "a.zip", 1)):
        skipped = Skipped()
        assert found(each, skipped) == [str(each / "a.png")]
        assert skipped.counts == {"link or device": count}


def test_a_file_that_is_not_as_declared_has_an_error_of_its_own(tmp_path: Path) -> None:
    """Fields of the central directory: flags at 8, method at 10, check at 16, stored size at 20, size at 24."""
    good = {"b.png": png(), "a.png": png() * 3}
    declared = len(good["a.png"])
    for offset, form, value, text in (
        (24, "<L", declared - 1, f"it is larger than its archive declares ({declared - 1:,} bytes)"),
        (24, "<L", declared + 1, f"it is smaller than its archive declares ({declared + 1:,} bytes)"),
        (24, "<L", 500_000_000, "the file has more than 400,000,000 bytes"),
        (16, "<L", 7, "it is damaged in its archive: the checksum differs"),
        (20, "<L", 4, "it is smaller than its archive declares"),
        (8, "<H", 1, "it is encrypted in its archive: unpack it"),
        (10, "<H", 12, "its compression in the archive is not supported (bzip2): pack it with deflate"),
        (10, "<H", 77, "its compression in the archive is not supported (method 77)"),
        (10, "<H", 0, "it is smaller than its archive declares"),
        (42, "<L", 3, "it is damaged in its archive: no header"),
    ):
        path = patched(write_zip(tmp_path / f"{offset}-{value}.zip", good), b"PK\1\2", offset, form, value)
        assert reason(path).startswith(text), (offset, value)
        assert read_file(path / "b.png") == png()
    middle = write_zip(tmp_path / "middle.zip", good)
    data = bytearray(middle.read_bytes())
    data[data.rindex(b"PK\3\4") + 50] ^= 255
    middle.write_bytes(data)
    assert reason(middle).startswith("it is damaged in its archive: ")


@pytest.mark.parametrize("name", ["photos.zip", "photos.tar"])
def test_doubled_and_trailing_slashes_change_nothing(
    rgb: Classifier, pictures: dict[str, bytes], tmp_path: Path, name: str
) -> None:
    write(tmp_path / name, pictures)
    for wanted, given in (
        ("", "/"),
        ("", "//"),
        ("/red", "//red"),
        ("/red", "//red//"),
        ("/red/more", "/red//more"),
        ("/red/more", "//red///more//"),
    ):
        plain, other = f"{tmp_path / name}{wanted}", f"{tmp_path / name}{given}"
        for each in (other, Listed(io.BytesIO(other.encode()))):
            assert list(find_pictures([each])) == list(find_pictures([plain]))
        assert evaluate(rgb, [other]).per_class == evaluate(rgb, [plain]).per_class
        assert (folders_in(other), names_in(other)) == (folders_in(plain), names_in(plain))
    file = f"{tmp_path / name}//red//more//3.png"
    assert list(find_pictures([file])) == [file]  # as one on a disk
    assert read_file(file) == pictures["red/more/3.png"]
    assert evaluate(rgb, [file]).unknown_folders == {"more": 1}


def test_more_archives_than_files_that_may_be_open(tmp_path: Path) -> None:
    """Python also says nothing about files that were never closed."""
    for number in range(60):
        write_tar(tmp_path / f"{number:02}.{'tar' if number % 2 else 'tgz'}", {"a.png": png(), f"{number}.png": png()})
    (tmp_path / "bad.zip").write_bytes(b"no archive")
    code = f"""
import resource
from glob import glob
from concurrent.futures import ThreadPoolExecutor
from cnn_infer import InputError, find_pictures
from cnn_infer.pixels.read import read_file
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
paths = list(find_pictures(sorted(glob("{tmp_path}/*.t*"))))
with ThreadPoolExecutor(4) as threads:
    assert set(threads.map(read_file, [*paths, *paths[::-1]])) == {{{png()!r}}}
try:
    list(find_pictures(["{tmp_path}/bad.zip"]))
except InputError as error:
    print(len(paths), error)
"""
    done = subprocess.run([sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("120 ")
    assert "ResourceWarning" not in done.stderr


def test_tar_files_with_impossible_numbers_are_refused(tmp_path: Path) -> None:
    for number, (name, kind, size) in enumerate(
        [("../x", tarfile.REGTYPE, 2**80), ("../x", tarfile.REGTYPE, 2**63 - 1), ("x", b"Z", 2**80)]
    ):
        member = tarfile.TarInfo(name)
        member.type, member.size = kind, size
        (tmp_path / f"{number}.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
        assert "cannot be read as an archive" in refusal(tmp_path / f"{number}.tar")
    back = tarfile.TarInfo("2.png")
    back.size = -1024  # its content would end at its own header, and again
    whole = write_tar(tmp_path / "back.tar", {f"{number}.png": png() for number in range(2)}).read_bytes()
    (tmp_path / "back.tar").write_bytes(whole[:2048] + back.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    assert "its members overlap" in refusal(tmp_path / "back.tar")
    sparse = tarfile.TarInfo("x")
    sparse.pax_headers = {"GNU.sparse.map": "abc", "GNU.sparse.size": "1"}
    (tmp_path / "sparse.tar").write_bytes(sparse.tobuf(tarfile.PAX_FORMAT) + bytes(1024))
    assert "cannot be read as an archive" in refusal(tmp_path / "sparse.tar")


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = write_zip(tmp_path / "whole.zip", {f"{number}.png": png() for number in range(3)}).read_bytes()
    end = whole.rindex(b"PK\5\6")
    directory = whole.index(b"PK\1\2")
    for number, data in enumerate(
        [
            b"",
            b"no archive",
            whole[:-1],
            whole[: end + 4],
            whole[:directory] + whole[directory + 40 :],
            whole[:directory] + b"XX" + whole[directory + 2 :],
            whole[: end + 10] + struct.pack("<H", 2) + whole[end + 12 :],
            whole[: end + 10] + struct.pack("<H", 4) + whole[end + 12 :],
            whole[: end + 12] + struct.pack("<L", 2**31) + whole[end + 16 :],
        ]
    ):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        assert "cannot be read as an archive: it" in refusal(path)
    names = io.BytesIO()
    with zipfile.ZipFile(names, "w") as archive:
        archive.writestr("a.png", png())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.png", png())
    (tmp_path / "twice.zip").write_bytes(names.getvalue())
    assert "it has two files a.png" in refusal(tmp_path / "twice.zip")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.zip", b"no archive"),
        ("a.tar", b"no archive"),
        ("a.tgz", gzip.compress(b"no archive")),
        ("a.tgz", gzip.compress(b"no archive")[:-4]),
        ("a.tgz", None),
    ],
    ids=["zip", "tar", "tgz", "cut", "full"],
)
def test_a_refused_archive_is_closed_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: bytes | None
) -> None:
    """Not only when nobody keeps the error. Without data there is no space for the unpacked copy."""

    def full(**_: object) -> None:
        raise OSError("full")

    (tmp_path / name).write_bytes(data or b"")
    if data is None:
        monkeypatch.setattr(tempfile, "TemporaryFile", full)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError) as caught:
        found(tmp_path / name)
    assert len(os.listdir("/proc/self/fd")) == before, caught.value


def test_every_cut_of_a_tar_file_is_noticed(tmp_path: Path) -> None:
    files = {f"{number}.png": os.urandom(700) for number in range(4)}
    whole = write_tar(tmp_path / "whole.tar", files).read_bytes()
    packed = write_tar(tmp_path / "whole.tar.gz", files).read_bytes()
    for at in (0, 1, 511, 512, 600, 1536, 1537, 3000, 6144):
        (tmp_path / f"{at}.tar").write_bytes(whole[:at])
        assert "cannot be read as an archive" in refusal(tmp_path / f"{at}.tar")
    for at in range(0, len(packed), len(packed) // 9):
        (tmp_path / f"{at}.tar.gz").write_bytes(packed[:at])
        assert "cannot be read as an archive" in refusal(tmp_path / f"{at}.tar.gz")
    (tmp_path / "header.tar").write_bytes(whole[:1536] + b"\1" * 512 + whole[2048:])
    assert "its end mark is missing" in refusal(tmp_path / "header.tar")
    (tmp_path / "checksum.tar.gz").write_bytes(packed[:-8] + b"\0" * 8)
    assert "CRC check failed" in refusal(tmp_path / "checksum.tar.gz")


def test_bombs_are_refused_before_they_fill_memory_or_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write_zip(tmp_path / "one.zip", {"0000.bmp": b"BM" + bytes(1 << 20)}).read_bytes()
    start, end = whole.index(b"PK\1\2"), whole.rindex(b"PK\5\6")
    entry = whole[start:end]  # two thousand names for one file: 2 GB from 100 kB
    many = b"".join(entry.replace(b"0000.bmp", b"%04d.bmp" % number) for number in range(2000))
    tail = whole[end : end + 8] + struct.pack("<HHLLH", 2000, 2000, len(many), start, 0)
    (tmp_path / "overlap.zip").write_bytes(whole[:start] + many + tail)
    assert "unpacks to more than 100 times its size, as a decompression bomb does" in refusal(tmp_path / "overlap.zip")

    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 64 << 20
    with gzip.open(tmp_path / "header.tar.gz", "wb", 1) as stream:
        stream.write(header.tobuf() + bytes(8 << 20))
    assert "it has a header of more than 1,048,576 bytes" in refusal(tmp_path / "header.tar.gz")

    monkeypatch.setattr(entries, "BOMB_BYTES", 4 << 20)
    with gzip.open(tmp_path / "zeros.tgz", "wb", 1) as stream:
        stream.write(bytes(32 << 20))
    assert "as a decompression bomb does" in refusal(tmp_path / "zeros.tgz")


def test_zip64_comments_and_a_program_in_front(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open(zipfile.ZipInfo("B\xe4r/1.png"), "w", force_zip64=True) as member:
            member.write(png())
        archive.comment = b"PK\5\6 " * 9
    path.write_bytes(b"#!/bin/sh\n" * 100 + path.read_bytes())
    assert found(path) == [str(path / "B\xe4r/1.png")]
    assert read_file(path / "B\xe4r/1.png") == png()


MANY = """
import re, sys
from cnn_infer.archives import archive, tar_file, zip_file
most = lambda: int(re.search("VmHWM:\\s*([0-9]+)", open("/proc/self/status").read())[1])  # kilobytes
before = most()
many = archive.Archive(sys.argv[1])
inside = list(many.below("00007"))
print(len(many), len(inside), inside[0], most() - before)
"""


def test_a_hundred_thousand_files_take_little_memory(tmp_path: Path) -> None:
    count = 100_000
    directory, position = bytearray(), 0
    with (tmp_path / "many.zip").open("wb") as stream:
        for number in range(count):
            name = b"%05d/picture %07d.jpg" % (number % 100, number)
            sizes = (20, 0, 0, 0, 0, 0, 0, 0, len(name), 0)
            stream.write(struct.pack("<4s5H3L2H", b"PK\3\4", *sizes) + name)
            directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *sizes, 0, 0, 0, 0, position) + name
            position += 30 + len(name)
        stream.write(directory)
        end64 = stream.tell()
        stream.write(struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), position))
        stream.write(struct.pack("<4sLQL", b"PK\6\7", 0, end64, 1))
        stream.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))
    done = subprocess.run(
        [sys.executable, "-c", MANY, tmp_path / "many.zip"], capture_output=True, text=True, check=True
    )
    *rest, kilobytes = done.stdout.rsplit(maxsplit=1)
    assert rest == ["100000 1000 00007/picture 0000007.jpg"]
    assert int(kilobytes) < 36_000  # zipfile takes 53,000
