"""Single objects on a server that speaks S3 and on a web server, with faults."""

from __future__ import annotations

import errno
import random
import re
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
from cnn_infer.archives import remote_copy
from cnn_infer.errors import InputError
from cnn_infer.storage import filesystem, listing, objects, requests, urls
from cnn_infer.storage.failures import StorageError

from .conftest import S3, Web


def test_an_object_is_written_read_looked_up_and_deleted(s3: S3, tmp_path: Path) -> None:
    url = "s3://pictures/a folder/ü+%20.bin"
    assert objects.look_up(url) is None
    objects.write(url, b"first")
    (tmp_path / "second").write_bytes(b"second" * 3)
    objects.upload(tmp_path / "second", url)
    assert objects.read(url, max_bytes=18) == b"second" * 3
    found = objects.look_up(url)
    assert found is not None
    assert (found.folder, found.size) == (False, 18)
    assert found.version
    assert objects.look_up("s3://pictures/a folder") == (True, 0, "")
    with pytest.raises(StorageError, match=r"ü\+%20.bin: it has more than 17 bytes"):
        objects.read(url, max_bytes=17)
    objects.delete(url)
    objects.delete(url)
    assert not objects.exists(url)


def test_memory_and_web(web: Web, tmp_path: Path) -> None:
    objects.write("memory://box/1", b"data")
    assert objects.read("memory://box/1", 9) == b"data"
    (tmp_path / "web" / "1.bin").write_bytes(b"from the web")
    assert objects.read(web.url + "1.bin", 12) == b"from the web"
    with pytest.raises(StorageError, match="more than 11 bytes"):
        objects.read(web.url + "1.bin", 11)
    assert objects.look_up(web.url + "1.bin").size == 12  # type: ignore[union-attr]
    assert objects.look_up(web.url + "2.bin") is None
    with pytest.raises(InputError, match="a web server can only be read"):
        objects.write(web.url + "3.bin", b"")


def test_a_large_object_of_any_store_is_read_in_ranges(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    data = random.Random(0).randbytes(objects.RANGE * 2 + 5)
    objects.write("memory://box/large", data)
    steps: list[int] = []
    with (tmp_path / "copy").open("w+b") as stream:
        objects.download("memory://box/large", stream, steps.append)
    assert (tmp_path / "copy").read_bytes() == data
    assert steps == [objects.RANGE, 2 * objects.RANGE, len(data)]
    assert objects.read("memory://box/large", len(data)) == data
    objects.write("memory://box/large", data[: objects.RANGE])
    assert objects.read("memory://box/large", objects.RANGE) == data[: objects.RANGE]


def test_an_object_that_is_replaced_while_it_is_read_is_read_again(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    before, after = b"1" * (objects.RANGE + 1), b"2" * (objects.RANGE + 1)
    objects.write("memory://box/replaced", before)
    steps: list[int] = []

    def replace_once(done: int) -> None:
        if not steps:
            objects.connect("memory://box/replaced")[0].pipe_file("/box/replaced", after)
        steps.append(done)

    with (tmp_path / "copy").open("w+b") as stream:
        objects.download("memory://box/replaced", stream, replace_once)
    assert (tmp_path / "copy").read_bytes() == after
    assert len(steps) == 4


@pytest.mark.parametrize("fault", [503, 500, 429, "break", "wait"])
def test_a_passing_fault_is_tried_again(
    fault: int | str, s3: S3, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    if fault == "wait":
        monkeypatch.setattr(filesystem, "TIMEOUT", 0.3)
    url = s3.put("fault.bin", b"whole" * 100)
    (tmp_path / "web" / "fault.bin").write_bytes(b"whole" * 100)
    for server, place in ((s3, url), (web, web.url + "fault.bin")):
        server.faults.clear()
        server.faults.planned["/fault.bin?"] = [fault]
        assert objects.read(place, 500) == b"whole" * 100
        assert list(server.faults.requests.values()) == [2]
        server.faults.answer.set()


def test_a_proxy_of_the_environment_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", web.url)
    with pytest.raises(StorageError, match="there is no such object"):
        objects.read("http://host.invalid/1.bin", 1)
    assert web.faults.requests["http://host.invalid/1.bin"] == 1


@pytest.mark.parametrize("fault", ["header", "body"])
def test_an_answer_that_never_ends_is_tried_again(
    fault: str, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(objects, "TIMEOUT", 0.1)
    (tmp_path / "web" / "1.bin").write_bytes(b"whole")
    web.faults.planned["/1.bin?"] = [fault]
    assert objects.read(web.url + "1.bin", 100) == b"whole"
    assert web.faults.requests["/1.bin"] == 2
    assert caplog.messages == [f"{web.url[7:-1]}: the server did not answer in time; trying again"]
    web.faults.answer.set()


def test_the_page_of_a_folder_is_read_in_bounds(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "web" / "index.html"
    page.write_text('<A class=x HREF="a.png">a</a><a href=\'/b&amp;c/\'>b</a><a href="http://[">c</a><a href="//x/y">')
    assert list(listing.entries(web.url)) == [("a.png", False, None, "", "a.png"), ("b&c", True, None, "", "b&c")]
    monkeypatch.setattr(listing, "PAGE_BYTES", 60)
    with pytest.raises(StorageError, match="the page of the folder has more than 0 MB"):
        list(listing.entries(web.url))


def test_a_lasting_fault_is_tried_five_times_and_then_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    url = s3.put("slow.bin", b"")
    s3.faults.planned["/slow.bin?"] = [503] * 9
    s3.faults.requests.clear()
    with pytest.raises(
        StorageError, match=r"s3://pictures/slow.bin: the server answered HTTP 503 \(SlowDown\), after 5"
    ):
        objects.read(url, 1)
    assert s3.faults.requests["/pictures/slow.bin"] == 5


def test_errors_that_another_attempt_does_not_change(s3: S3) -> None:
    with pytest.raises(StorageError, match="there is no such object"):
        objects.read("s3://pictures/none", 1)
    with pytest.raises(StorageError, match="there is no such bucket"):
        objects.read("s3://nowhere/none", 1)
    s3.faults.planned["/none?"] = [403]
    with pytest.raises(StorageError, match=r"access is denied \(HTTP 403, InvalidAccessKeyId\): check") as caught:
        objects.write("s3://pictures/none", b"")
    assert "key-of-the-tests" not in str(caught.value)
    assert max(s3.faults.requests.values()) == 2


@pytest.mark.parametrize(
    ("fault", "requested", "expected"),
    [
        ("garbage", 1, "the answer is not HTTP"),
        ("to /1.bin", 10, "the server redirects in a circle"),
        ("to file:///etc/hostname", 1, "the server redirects to an address that is not valid or not of a web server"),
        ("to ftp://host/1.bin", 1, "the server redirects to an address"),
    ],
)
def test_a_server_that_is_none_for_pictures_is_asked_once(
    fault: str, requested: int, expected: str, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    web.faults.planned["/1.bin?"] = [fault] * 99
    with pytest.raises(StorageError, match=f"/1.bin: {expected}"):
        objects.read(web.url + "1.bin", 1)
    assert web.faults.requests["/1.bin"] == requested


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("AWS_ENDPOINT_URL", "garbage", "s3://pictures/1: AWS_ENDPOINT_URL is no address of a server"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:99999", "s3://pictures/1: AWS_ENDPOINT_URL is no address of a server"),
        ("AWS_PROFILE", "nope", "s3://pictures/1: the profile that AWS_PROFILE names is not in the configuration"),
    ],
)
def test_a_wrong_setting_is_named(
    variable: str, value: str, expected: str, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    monkeypatch.setenv(variable, value)
    try:
        with pytest.raises(StorageError, match=expected):
            objects.read("s3://pictures/1", 1)
    finally:
        S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file:///photos/a%20cat.jpg", "/photos/a cat.jpg"),
        ("zip://cat/1.jpg::s3://b/photos.ZIP", "s3://b/photos.ZIP/cat/1.jpg"),
        ("tar://::gs://b/photos.tar.gz", "gs://b/photos.tar.gz"),
        ("S3://Bucket/Key", "s3://Bucket/Key"),
        ("FILE://LocalHost/photos/1.jpg", "/photos/1.jpg"),
        ("abfs://box@account.dfs.core.windows.net/1.jpg", "abfs://box@account.dfs.core.windows.net/1.jpg"),
        ("photos/1.jpg", "photos/1.jpg"),
        ("http://[::1]:9911/1.jpg", "http://[::1]:9911/1.jpg"),
        ("s3://b/a::b.jpg", "s3://b/a::b.jpg"),
        ("C://photos", "C://photos"),
        ("./a://b", "./a://b"),
    ],
)
def test_forms_of_paths(path: str, expected: str) -> None:
    assert urls.resolved(path) == expected


@pytest.mark.parametrize(
    "path", ["reference://x", "ssh://host/x", "simplecache::s3://b/k", "zip://x", "zip://::s3://b/k"]
)
def test_protocols_that_are_refused(path: str) -> None:
    with pytest.raises(InputError):
        urls.resolved(path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("s3://", "names no host or bucket: s3://"),
        ("az:///1.jpg", "names no host or bucket"),
        ("memory:///", "names no host or bucket"),
        ("https://me:word@:80/1.jpg", "names no host or bucket: https://:80/1.jpg"),
        ("http://host:port/1.jpg", "not a valid URL: http://host:port/1.jpg"),
        ("http://[host/1.jpg", "not a valid URL"),
        ("file://photos/1.jpg", "not a file of this machine: file://photos/1.jpg"),
        ("file://localhost-data/1.jpg", "not a file of this machine"),
        ("file://", "not a file of this machine"),
    ],
)
def test_urls_that_are_not_valid(path: str, expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        urls.resolved(path)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(InputError, match="gs:// needs the package gcsfs: pip install gcsfs"):
        objects.read("gs://bucket/1.jpg", 1)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(InputError, match=r"need the package fsspec: pip install 'cnn-infer\[storage\]'"):
        objects.read("memory://1.jpg", 1)


def test_options_of_fsspec_are_kept(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fsspec.config import conf

    monkeypatch.setitem(conf, "http", {"client_kwargs": {"headers": {"X-Key": "word"}}})
    (tmp_path / "web" / "1.bin").touch()
    assert objects.read(web.url + "1.bin", 1) == b""
    assert web.faults.headers["X-Key"] == "word"


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("FSSPEC_HTTP_CLIENT_KWARGS", "abc", "option client_kwargs of http:// is no JSON object: correct FSSPEC_HTTP_"),
        ("FSSPEC_CONFIG_DIR", "folder", "fsspec cannot read its configuration (JSONDecodeError): correct the files in"),
    ],
)
def test_a_damaged_configuration_of_fsspec_is_one_line(
    variable: str,
    value: str,
    expected: str,
    tmp_path: Path,
    models: Path,
    environment: dict[str, str],
    refused: Callable[..., str],
) -> None:
    pytest.importorskip("s3fs")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "conf.json").write_text("{")
    environment[variable] = value
    assert expected in refused("http://127.0.0.1:1/1.jpg", "--model", str(models / "grey.onnx"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://[::1]/1@2x.jpg", "https://[::1]/1@2x.jpg"),
        ("https://me:SECRET@host/1@2x.jpg?X-Amz-Signature=SECRET", "https://host/1@2x.jpg"),
        ("https://me:SE@CR@host/1.jpg", "https://host/1.jpg"),
        ("https://me:SEC/RET@host/1.jpg", "https://host/1.jpg"),
        ("https://me:SEC?RET@host/1.jpg", "https://host/1.jpg"),
        ("https://host:8080/1@2x.jpg", "https://host:8080/1@2x.jpg"),
        ("s3://KEY:SEC/RET@bucket/1.jpg", "s3://bucket/1.jpg"),
        ("s3://bucket/what?.jpg", "s3://bucket/what?.jpg"),
        (
            "abfs://photos@account.dfs.core.windows.net/cat/1.jpg",
            "abfs://photos@account.dfs.core.windows.net/cat/1.jpg",
        ),
        ("simplecache::https://host/1.jpg?X-Amz-Signature=SECRET", "simplecache::https://host/1.jpg"),
        ("zip://in?.jpg::https://me:SECRET@host/a.zip?SECRET::s3://SECRET", "zip://in?.jpg::https://host/a.zip"),
        ("ftp://host/1.jpg?sig=SECRET", "ftp://host/1.jpg"),
    ],
)
def test_no_credential_is_shown(url: str, expected: str) -> None:
    assert urls.shown(url) == expected


@pytest.mark.parametrize("error", [MemoryError(), TypeError(), KeyError(), OSError(errno.ENOSPC, "No space left")])
def test_errors_that_are_not_of_the_store_are_not_hidden(error: Exception) -> None:
    pytest.importorskip("fsspec")
    calls = []

    async def attempt() -> None:
        calls.append(1)
        raise error

    with pytest.raises(type(error)) as caught:
        requests.wait_for(requests.with_retries("s3://bucket/1.jpg", attempt))
    assert caught.value is error
    assert len(calls) == 1


def test_a_name_that_no_bucket_can_have_is_not_a_valid_url(s3: S3) -> None:
    for call in (
        objects.look_up,
        objects.delete,
        lambda url: objects.read(url, 1),
        lambda url: objects.write(url, b""),
    ):
        with pytest.raises(StorageError, match=r"s3://a bucket\?/1\.jpg: not a valid URL"):
            call("s3://a bucket?/1.jpg")


def test_the_bar_of_a_copy_does_not_pass_its_end(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "FIRST_WAIT", 0.001)
    steps: list[int] = []
    monkeypatch.setattr(remote_copy, "progress", lambda *_, **__: nullcontext(steps.append))
    url = s3.put("large.zip", bytes(4 << 20))
    s3.faults.planned["/large.zip?"] = [0, "break"]
    with remote_copy.copied(url) as stream:
        assert len(stream.read()) == 4 << 20
    assert s3.faults.requests["/pictures/large.zip"] == 3 + 1  # those of this copy, and of put()
    assert sum(steps) == 4
