"""Servers on this machine: one that speaks S3 (moto's), and a web server, both with faults on demand."""

from __future__ import annotations

import http.server
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

BUCKET = "pictures"


class Faults:
    """What a server does wrong, by a part of the address, each until its list is used up.

    A fault is a status (0 for none), ``break`` (half of the answer), or ``wait`` until :attr:`answer` is set. Web
    servers also send a ``header`` or a ``body`` slowly: a line, or a byte, from time to time. They send
    ``garbage``, and redirect ``to ...``.

    Attributes:
        planned: Faults of the next requests whose path and query have such a part.
        delay: Seconds before each answer.
        requests: Number of requests by path.
        most: The largest number of requests at one time.
        waiting: Set while a request waits.
        headers: Those of the last request to a web server.
    """

    def __init__(self) -> None:
        self.planned: dict[str, list[int | str]] = defaultdict(list)
        self.delay = 0.0
        self.requests: Counter[str] = Counter()
        self.most = self._now = 0
        self.headers: dict[str, str] = {}
        self.waiting = threading.Event()
        self.answer = threading.Event()
        self._changed = threading.Condition()

    def clear(self) -> None:
        self.planned.clear()
        self.requests.clear()
        self.delay, self.most = 0.0, 0
        self.waiting.clear()
        self.answer.clear()

    def begin(self, path: str, query: str = "") -> int | str | None:
        address = f"{path}?{query}"
        with self._changed:
            self.requests[path] += 1
            self._now += 1
            self.most = max(self.most, self._now)
            self._changed.notify_all()
            fault = next((left.pop(0) for part, left in self.planned.items() if part in address and left), None)
        time.sleep(self.delay)
        if fault == "wait":
            self.waiting.set()
            self.answer.wait(100)
        return fault

    def end(self) -> None:
        with self._changed:
            self._now -= 1

    def reached(self, requests: int) -> None:
        """Wait until there were so many requests at one time, for at most 20 seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self.most >= requests, 20)


class S3:
    """A server that speaks S3.

    Attributes:
        environment: The variables with which clients find it and its credentials.
        faults: What it does wrong.
        page: Most keys in an answer to a listing; 0 for the 1,000 of S3.
    """

    def __init__(self) -> None:
        self.page = 0
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import WSGIRequestHandler, make_server

        class Quiet(WSGIRequestHandler):
            def log(self, *_: object) -> None:
                pass

        self.faults = Faults()
        self._answer = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._application, threaded=True, request_handler=Quiet)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self._server.port}",
            "AWS_ACCESS_KEY_ID": "key-of-the-tests",
            "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def _application(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        query = environ["QUERY_STRING"]
        if "list-type" in query and self.page:
            environ["QUERY_STRING"] = f"{query}&max-keys={self.page}"
        fault = self.faults.begin(environ["PATH_INFO"], unquote(query))
        try:
            if isinstance(fault, int) and fault:
                code = {503: "SlowDown", 403: "InvalidAccessKeyId", 500: "InternalError"}.get(fault, "Fault")
                body = f"<Error><Code>{code}</Code><Message>key-of-the-tests</Message></Error>".encode()
                body = b"" if environ["REQUEST_METHOD"] == "HEAD" else body
                start_response(f"{fault} Fault", [("Content-Type", "text/xml"), ("Content-Length", str(len(body)))])
                return [body]
            if fault == "break":  # half of the body that the header declares
                sent: list[Any] = []
                whole = b"".join(self._answer(environ, lambda *given: sent.extend(given)))
                start_response(*sent[:2])
                return [whole[: len(whole) // 2]]
            return list(self._answer(environ, start_response))
        finally:
            self.faults.end()

    @cached_property
    def _client(self) -> Any:
        import boto3

        names = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        names |= {"endpoint_url": "AWS_ENDPOINT_URL", "region_name": "AWS_DEFAULT_REGION"}
        return boto3.client("s3", **{name: self.environment[key] for name, key in names.items()})

    def call(self, method: str, **arguments: Any) -> Any:
        return getattr(self._client, method)(**arguments)

    def put(self, key: str, data: bytes, bucket: str = BUCKET) -> str:
        """Store an object; returns its URL."""
        self.call("put_object", Bucket=bucket, Key=key, Body=data)
        return f"s3://{bucket}/{key}"

    def put_folder(self, folder: Path, prefix: str) -> str:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(folder).as_posix()}", file.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def get(self, key: str) -> bytes:
        data: bytes = self.call("get_object", Bucket=BUCKET, Key=key)["Body"].read()
        return data

    def keys(self, prefix: str) -> list[str]:
        return [
            found["Key"] for found in self.call("list_objects_v2", Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """One server for all tests; skipped where the packages are not installed."""
    pytest.importorskip("moto", reason="needs moto[s3], flask and flask-cors")
    pytest.importorskip("s3fs", reason="needs the extra cnn-infer[storage]")
    server = S3()
    server.call("create_bucket", Bucket=BUCKET)
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> S3:
    """The server without faults; this process and its commands have its credentials."""
    s3_server.faults.clear()
    s3_server.page = 0
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
        environment[name] = value
    return s3_server


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, faults: Faults, **keywords: Any) -> None:
        self._faults = faults
        super().__init__(*arguments, **keywords)

    def do_GET(self) -> None:
        self._faults.headers = dict(self.headers)
        fault = self._faults.begin(self.path)
        try:
            if isinstance(fault, int):
                self.send_error(fault)
            elif fault == "break":
                data = Path(self.translate_path(self.path)).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
            elif fault == "garbage":
                self.close_connection = True
                self.wfile.write(b"no HTTP\r\n\r\n")
            elif fault is not None and fault.startswith("to "):
                self.send_response(302)
                self.send_header("Location", fault[3:])
                self.send_header("Content-Length", "0")
                self.end_headers()
            elif fault in ("header", "body"):
                self._send_slowly(fault)
            else:
                super().do_GET()
        finally:
            self._faults.end()

    def _send_slowly(self, fault: str) -> None:
        self.close_connection = True
        data = [b"HTTP/1.1 200 OK\r\n", *[b"X-Line: 1\r\n"] * 100]
        if fault == "body":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            data = [b"."] * 100
        for line in data:
            if self._faults.answer.wait(0.05):
                break
            self.wfile.write(line)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class _Quiet(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client has closed its connection."""


class Web:
    """A web server of a folder.

    Attributes:
        url: Its address, with a slash at the end.
        faults: What it does wrong.
    """

    def __init__(self, folder: Path) -> None:
        self.faults = Faults()
        handler = partial(_Handler, directory=str(folder), faults=self.faults)
        self._server = _Quiet(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A web server of the folder ``web`` in ``tmp_path``, which no proxy of this machine stands before."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp", reason="needs the extra cnn-infer[storage]")
    folder = tmp_path / "web"
    folder.mkdir()
    server = Web(folder)
    yield server
    server.close()
