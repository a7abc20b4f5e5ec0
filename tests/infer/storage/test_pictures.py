"""Pictures at URLs: the same order, rows and reports as from a folder of this machine."""

from __future__ import annotations

import gc
import gzip
import io
import re
import shutil
import sys
import tempfile
import time
import weakref
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import IO, Any

import pytest
from cnn_infer import Classifier, EdgeCNNError, InputError, PictureError, Row, evaluate, find_pictures, open_model
from cnn_infer.archives import access, entries, remote
from cnn_infer.paths.digest import digest_of
from cnn_infer.paths.listed import Listed
from cnn_infer.paths.skipped import Skipped
from cnn_infer.storage import objects, read_ahead, requests, urls
from hypothesis import HealthCheck, given, settings, strategies as st

from .conftest import S3, Web

NAMES = (
    "bright/a-1.png",
    "bright/a.png",
    "bright/a/1.png",
    "bright/a/z/2.png",
    "dark-2/1.png",
    "dark/ü 3.png",
    "dark/1.PNG",
    "dark/deep/er/1.png",
    "middle/z.png",
    "top.png",
)
LEFT_OUT = ("middle/.hidden.png", "middle/notes.txt", "__MACOSX/1.png", ".git/1.png", "middle/Thumbs.db")


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose names sort in another order than keys of a store do."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("photos")
    for number, name in enumerate((*NAMES, *LEFT_OUT)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 20 * number).save(path, "PNG")
    (folder / "damaged.png").write_bytes(b"no picture")
    (folder / "empty.png").touch()
    return folder


@pytest.fixture
def stored(s3: S3, photos: Path) -> str:
    """The same folder in the store."""
    if not s3.keys("all/"):
        s3.put_folder(photos, "all")
        s3.put("all/", b"")  # the marker that consoles of stores write for a folder
    return "s3://pictures/all"


def rows_of(classifier: Classifier, *paths: str | Path | Listed) -> list[Row]:
    rows: list[Row] = []
    evaluate(classifier, paths, on_row=rows.append)
    return rows


def relative(paths: list[str], start: str | Path) -> list[str]:
    return [path.removeprefix(str(start)) for path in paths]


@pytest.mark.parametrize("page", [0, 2])
def test_a_folder_is_listed_in_the_order_of_this_machine(page: int, stored: str, photos: Path, s3: S3) -> None:
    s3.page = page
    here, there = Skipped(), Skipped()
    expected = relative(list(find_pictures([photos], skipped=here)), photos)
    assert len(expected) == len(NAMES) + 2
    assert relative(list(find_pictures([stored + "/"], skipped=there)), stored) == expected
    assert there.counts == here.counts == {".txt": 1}


@pytest.mark.parametrize("pattern", ["**/*.png", "*/*.png", "dark*", "b*/a*", "bright/**/z/*", "dark/*.PNG", "**"])
def test_patterns_match_what_they_match_on_this_machine(pattern: str, stored: str, photos: Path) -> None:
    expected = relative(list(find_pictures([f"{photos}/{pattern}"])), photos)
    assert expected
    assert relative(list(find_pictures([f"{stored}/{pattern}"])), stored) == expected


def test_a_pattern_is_looked_up_by_the_check_and_by_the_search_alone(stored: str, s3: S3) -> None:
    s3.faults.clear()
    assert relative(list(find_pictures([f"{stored}/dark/[0-9].PNG"])), stored) == ["/dark/1.PNG"]
    asked = [count for path, count in s3.faults.requests.items() if path.endswith(".PNG")]
    assert asked == [2]  # whether there is an object with brackets in its name


def test_a_pattern_or_a_folder_without_pictures_is_refused(stored: str) -> None:
    with pytest.raises(InputError, match=r"no picture and no folder matches s3://pictures/all/\*\.gif"):
        list(find_pictures([f"{stored}/*.gif"]))
    with pytest.raises(InputError, match="no such object or folder: s3://pictures/none"):
        list(find_pictures(["s3://pictures/none"]))


def test_a_final_slash_means_the_folder(s3: S3) -> None:
    first, second = s3.put("both", b"1"), s3.put("both/1.png", b"2")
    assert list(find_pictures([first])) == [first]
    assert list(find_pictures([f"{first}/"])) == [second]
    objects.write("memory://box/both.png", b"")
    for alone in (second, "memory://box/both.png"):
        with pytest.raises(InputError, match=f"no such folder: {alone}/"):
            list(find_pictures([f"{alone}/"]))


def test_rows_and_report_are_those_of_a_folder(stored: str, photos: Path, grey: Classifier) -> None:
    there: list[Row] = []
    report = evaluate(grey, [stored], on_row=there.append)
    here: list[Row] = []
    expected = evaluate(grey, [photos], on_row=here.append)
    assert [row._replace(path=row.path.removeprefix(stored)) for row in there] == [
        row._replace(path=row.path.removeprefix(str(photos))) for row in here
    ]
    names = ("images", "errors", "labelled", "accuracy", "confusion", "skipped")
    assert [getattr(report, name) for name in names] == [getattr(expected, name) for name in names]
    assert expected.labelled == 8
    assert expected.errors == 2


def test_a_replaced_object_changes_the_digest(s3: S3, photos: Path) -> None:
    s3.put("digest/1.png", (photos / "top.png").read_bytes())
    first = digest_of(find_pictures(["s3://pictures/digest"]))
    assert digest_of(find_pictures(["s3://pictures/digest"])) == first
    s3.put("digest/1.png", bytes((photos / "top.png").stat().st_size))
    assert digest_of(find_pictures(["s3://pictures/digest"])) != first


def test_the_api_takes_urls(stored: str, photos: Path, s3: S3, models: Path) -> None:
    classifier = Classifier(s3.put("grey.onnx", (models / "grey.onnx").read_bytes()))
    assert classifier.model.name == "s3://pictures/grey.onnx"
    assert classifier.predict(f"{stored}/top.png") == classifier.predict(photos / "top.png")
    with pytest.raises(PictureError, match=r"^s3://pictures/none\.png: cannot read it: there is no such object"):
        classifier.predict("s3://pictures/none.png")


def test_archives_and_lists(stored: str, photos: Path, s3: S3, grey: Classifier, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name in NAMES:
            file.write(photos / name, f"in/{name}")
    archive = s3.put("a.zip", packed.getvalue())
    shutil.make_archive(str(tmp_path / "b"), "gztar", photos, "dark")
    (tmp_path / "b.tar.gz").rename(tmp_path / "b.tgz")
    other = s3.put("b.tgz", (tmp_path / "b.tgz").read_bytes())
    expected = [row.prediction for row in rows_of(grey, photos) if row.error is None]
    found = rows_of(grey, archive)
    assert [row.prediction for row in found] == expected
    assert found[0].path == f"{archive}/in/bright/a/1.png"
    assert rows_of(grey, "zip://in/bright::s3://pictures/a.zip") == found[:4]
    for name in (f"{archive}/in/top.png", "zip://in/top.png::s3://pictures/a.zip"):
        assert rows_of(grey, name) == found[-1:]
    folder = rows_of(grey, photos / "dark")
    assert [row.prediction for row in rows_of(grey, other)] == [row.prediction for row in folder]
    names = [f"{stored}/top.png", f"{stored}/gone.png", "ssh://host/1.png", f"{archive}/in/top.png", f"{stored}/dark/"]
    names.append((photos / "top.png").as_uri())
    listed = rows_of(grey, Listed(io.BytesIO("\n".join(names).encode())))
    assert [row.path for row in listed[:3]] == names[:3]
    errors = [row.error and row.error[:24] for row in listed[:4]]
    assert errors == [None, "cannot read it: there is", "unsupported protocol in ", None]
    assert [row.path.removeprefix(f"{stored}/dark/") for row in listed[4:7]] == ["1.PNG", "deep/er/1.png", "ü 3.png"]
    assert listed[7] == listed[0]._replace(path=str(photos / "top.png"))


def test_a_missing_package_is_an_error_of_the_row(
    stored: str, grey: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    names = ["gs://bucket/1.png", "gs://bucket/photos/", "gs://bucket/a.zip/1.png", f"{stored}/top.png"]
    listed = Listed(io.BytesIO("\n".join(names).encode()))
    rows = rows_of(grey, listed)
    assert [row.path.rstrip("/") for row in rows] == [name.rstrip("/") for name in names]
    missing = "gs:// needs the package gcsfs: pip install gcsfs"
    assert [row.error and row.error.endswith(missing) for row in rows] == [True, True, True, None]
    assert digest_of(find_pictures([listed]))
    with pytest.raises(InputError, match=missing):
        rows_of(grey, "gs://bucket/1.png")


def test_without_fsspec_a_url_in_a_list_is_an_error_of_its_row(
    grey: Classifier, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("fsspec", "fsspec.asyn"):
        monkeypatch.setitem(sys.modules, name, None)
    names = ["s3://bucket/1.png", str(photos / "top.png")]
    first, second = rows_of(grey, Listed(io.BytesIO("\n".join(names).encode())))
    assert first.error is not None
    assert first.error.endswith("need the package fsspec: pip install 'cnn-infer[storage]'")
    assert second.prediction
    with pytest.raises(InputError, match="need the package fsspec"):
        open_model("s3://bucket/model.onnx")


PARTS = (
    "",
    "/",
    ":",
    "@",
    "127.0.0.1:1",
    "[",
    "::",
    "?",
    "#",
    "a.zip",
    "1.png",
    "x:y",
    "ü",
    " ",
    "%",
    "%00",
    "..",
    "*",
    "\0",
)
PROTOCOLS = ("s3", "http", "https", "memory", "az", "gs", "file", "ssh", "ftp", "zip", "tar", "zip://a::s3", "s3::http")


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strange_urls_are_errors_of_their_own(
    data: st.DataObject, grey: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    monkeypatch.setattr(requests, "ATTEMPTS", 1)
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    rests = st.lists(st.sampled_from(PARTS), max_size=5).map("".join)
    url = data.draw(st.builds("{}://{}".format, st.sampled_from(PROTOCOLS), rests))
    for call in (grey.predict, lambda url: list(find_pictures([url])), urls.shown):
        with suppress(EdgeCNNError):
            call(url)
    listed = Listed(io.BytesIO(url.encode()))
    digest_of(find_pictures([listed]))
    for row in rows_of(grey, listed):
        assert row.error


NOWHERE = {
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "key",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.mark.parametrize(
    "url", ["s3://", "http://", "s3:///", "az:///", "ssh://h/a.zip/1.png", "zip://a::ftp://x/y.zip"]
)
def test_a_line_of_a_list_that_is_no_url_is_a_row(url: str, grey: Classifier) -> None:
    assert [row.path for row in rows_of(grey, Listed(io.BytesIO(url.encode()))) if row.error] == [url]


def packed(s3: S3, name: str, *pictures: Path) -> str:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        for picture in pictures:
            file.write(picture, picture.name)
    return s3.put(name, data.getvalue())


def test_a_failing_archive_is_asked_for_once(s3: S3, photos: Path, grey: Classifier) -> None:
    archive = packed(s3, "denied.zip", photos / "top.png")
    names = [f"{archive}/{number}.png" for number in range(5)]
    s3.faults.clear()
    s3.faults.planned["/denied.zip?"] = [403] * 99
    rows = rows_of(grey, Listed(io.BytesIO("\n".join(names).encode())))
    assert all("denied.zip: access is denied" in str(row.error) for row in rows)
    assert s3.faults.requests["/pictures/denied.zip"] == 1


@pytest.mark.parametrize("fault", [0, 403])
def test_the_copy_of_an_archive_that_fails_is_closed_at_once(
    s3: S3, monkeypatch: pytest.MonkeyPatch, fault: int
) -> None:
    copies: list[IO[bytes]] = []
    create = tempfile.TemporaryFile

    def noted(**options: Any) -> IO[bytes]:
        copies.append(create(**options))
        return copies[-1]

    archive = s3.put(f"no-archive-{fault}.zip", b"no archive")
    s3.faults.planned[f"/no-archive-{fault}.zip?"] = [0, fault]  # of the look-up and of the copy
    monkeypatch.setattr(tempfile, "TemporaryFile", noted)
    with pytest.raises(EdgeCNNError) as caught:
        access.opened(archive)
    assert [copy.closed for copy in copies] == [True]
    error = weakref.ref(caught.value)
    del caught
    gc.collect()
    assert error() is None  # though the failure is remembered
    with pytest.raises(EdgeCNNError, match=f"no-archive-{fault}.zip"):
        access.opened(archive)
    assert len(copies) == 1


def test_an_archive_does_not_wait_for_the_copy_of_another(s3: S3, photos: Path) -> None:
    slow, other = packed(s3, "slow.zip", photos / "top.png"), packed(s3, "other.zip", photos / "top.png")
    s3.faults.planned["/slow.zip?"] = [0, "wait"]
    first, second = (Thread(target=access.opened, args=[url], daemon=True) for url in (slow, other))
    first.start()
    assert s3.faults.waiting.wait(10)
    second.start()
    second.join(10)
    assert first.is_alive()
    assert not second.is_alive()
    s3.faults.answer.set()
    first.join(10)


def test_the_copies_of_earlier_archives_are_released(s3: S3, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [packed(s3, f"kept-{number}.zip", photos / "top.png") for number in range(3)]
    monkeypatch.setattr(remote, "KEPT", 2)
    opened = [weakref.ref(access.opened(name)) for name in names]
    assert [archive() is None for archive in opened] == [True, False, False]
    assert access.is_member(f"{names[0]}/top.png")  # it is copied again


def test_a_web_server(web: Web, tmp_path: Path, grey: Classifier, picture: Callable[..., Path]) -> None:
    pytest.importorskip("s3fs")
    for name in ("bright/a 1.png", "bright/a%20.png", "dark/1.png", "dark/#.png"):
        picture(tmp_path / "web" / "dir" / name, 9)
    (tmp_path / "web" / "dir" / "notes.txt").touch()
    found = rows_of(grey, web.url + "dir/")
    expected = ["bright/a%201.png", "bright/a%2520.png", "dark/%23.png", "dark/1.png"]
    assert [row.path for row in found] == [f"{web.url}dir/{name}" for name in expected]
    assert all(row.prediction for row in found)
    assert evaluate(grey, [web.url + "dir/%64ark/"]).labelled == 2
    presigned = web.url.replace("//", "//user:word@") + "dir/dark/1.png?X-Amz-Signature=secret"
    assert [row.path for row in rows_of(grey, presigned)] == [f"{web.url}dir/dark/1.png"]


def test_a_host_is_no_folder(web: Web, tmp_path: Path, grey: Classifier, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "web" / "1.png", 9)
    picture(tmp_path / "web" / "other" / "dark" / "1.png", 9)
    secret = web.url.replace("//", "//user:SECRET@")
    for source, folders in (
        ("1.png", {}),
        ("1.png?X-Amz-Signature=a/SECRET/b", {}),
        ("other/dark/1.png?a/SECRET/b", None),
        ("", {}),
        ("other/", None),
    ):
        report = evaluate(grey, [secret + source])
        assert "SECRET" not in report.to_json()
        assert report.labelled == (folders is None or not source)
        assert report.unknown_folders == (folders or {})


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_an_error_of_an_archive_has_no_password(web: Web, tmp_path: Path, grey: Classifier, name: str) -> None:
    (tmp_path / "web" / name).write_bytes(b"no archive")
    address = web.url.replace("//", "//user:SECRET@") + name
    shown = rf"{re.escape(web.url + name)} cannot be read as an archive"
    with pytest.raises(InputError, match=shown) as caught:
        list(find_pictures([address]))
    assert "SECRET" not in str(caught.value)
    [row] = rows_of(grey, Listed(io.BytesIO(f"{address}/1.png".encode())))
    assert "cannot be read as an archive" in str(row.error)
    assert "SECRET" not in repr(row)


def test_a_decompression_bomb_at_a_url_is_named_without_a_password(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entries, "BOMB_BYTES", 1 << 20)
    for name in ("a.zip", "a.tar.gz"):
        path = tmp_path / "web" / name
        if name == "a.zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("1.png", bytes(2 << 20))
        else:
            path.write_bytes(gzip.compress(bytes(2 << 20)))
        with pytest.raises(InputError, match="decompression bomb") as caught:
            access.opened(web.url.replace("//", "//user:SECRET@") + name)
        assert str(caught.value).startswith(f"{web.url}{name} unpacks")


def test_what_fails_becomes_a_row(stored: str, s3: S3, grey: Classifier) -> None:
    s3.faults.planned["/bright/a.png?"] = [404]  # gone since it was listed
    s3.faults.planned["/top.png?"] = [503, "break"]  # passes
    s3.faults.planned["prefix=all/dark-2/"] = [403]
    errors = {row.path.removeprefix(stored): row.error for row in rows_of(grey, stored) if row.error}
    assert errors.pop("/damaged.png").startswith("not a picture")
    assert errors.pop("/empty.png") == "the file is empty"
    assert errors == {
        "/bright/a.png": "cannot read it: there is no such object or folder",
        "/dark-2": "cannot read it: the folder cannot be listed: access is denied (HTTP 403, InvalidAccessKeyId): "
        "check the credentials and their rights",
    }


def test_reads_go_ahead_in_bounds(s3: S3, grey: Classifier, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (photos / "top.png").read_bytes()
    names = [s3.put(f"many/{number:02}.png", data + bytes(number)) for number in range(80)]
    s3.faults.clear()
    s3.faults.planned["/many/"] = ["wait"] * 80  # none is answered before all that go ahead have arrived
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(rows_of, grey, "s3://pictures/many")
        s3.faults.reached(32)
        time.sleep(0.2)  # in which a further one would arrive
        s3.faults.answer.set()
        rows = found.result()
    assert s3.faults.most == 32
    assert [row.path for row in rows] == names
    assert {row.error for row in rows} == {None}
    s3.faults.clear()
    for budget in (4 * len(data) + 300, 1):  # some of them fit, or none
        monkeypatch.setattr(read_ahead, "BUDGET", budget)
        assert rows_of(grey, "s3://pictures/many") == rows


def test_a_large_object_is_not_read(s3: S3, photos: Path, models: Path) -> None:
    size = (photos / "top.png").stat().st_size
    s3.put("sizes/1.png", (photos / "top.png").read_bytes())
    s3.put("sizes/2.png", bytes(size + 1))
    s3.faults.clear()
    rows = rows_of(Classifier(models / "grey.onnx", max_bytes=size), "s3://pictures/sizes")
    assert [row.error for row in rows] == [None, f"the file has more than {size:,} bytes"]
    assert s3.faults.requests["/pictures/sizes/1.png"] == 1
    assert not s3.faults.requests["/pictures/sizes/2.png"]
