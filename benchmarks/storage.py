"""Pictures per second from object storage, with and without latency, against those from a folder of this machine.

    python benchmarks/storage.py MODEL PICTURES --output storage.json

PICTURES is a folder; its files are the objects, each under as many names as ``--pictures`` needs. A server in a
process of its own speaks as much of S3 as cnn-infer uses, and waits ``--delay`` milliseconds before each answer. It
shares the processors with cnn-infer. In each round cnn-infer classifies, in turn and from start to exit:

- ``folder``: links to the same files on this machine,
- ``no delay``: the server at once,
- ``delay``: the server after the delay, which a network has and a processor does not feel.

The rate is that which cnn-infer reports, counted from the first picture. ``delay_costs`` is the median over the rounds
of 1 - (rate with delay) / (rate without). With 32 requests in flight, no more than 32 / delay pictures per second can
arrive, 640 at 50 ms: a run that is faster without delay must lose more. Peak memory is the kernel's figure for the
command. All rows must be equal but for their paths.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from links import link_pictures, picture_files
from processes import measured
from report import conditions, parser, run_script, write

BUCKET = "pictures"
PAGE = 1000
"""Keys in one answer to a listing."""


class Server:
    """A server of the files of a folder that speaks ListObjectsV2 and GetObject of S3.

    Args:
        folder: The folder.
        delay: Seconds before each answer.
    """

    def __init__(self, folder: Path, delay: float) -> None:
        self._folder = folder
        self._delay = delay
        self._keys = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    async def run(self, port: Any) -> None:
        """Serve until the process ends; ``port`` is a queue that gets the number of the port."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        port.put(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).decode("latin-1"):
                method, target, _ = head.split(" ", 2)
                await asyncio.sleep(self._delay)
                status, data = self._answer(target)
                tag = hashlib.md5(data, usedforsecurity=False).hexdigest()
                lines = f'HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\nETag: "{tag}"\r\n\r\n'
                writer.write(lines.encode() + (b"" if method == "HEAD" else data))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, target: str) -> tuple[str, bytes]:
        parts = urlsplit(target)
        key = unquote(parts.path).removeprefix(f"/{BUCKET}").strip("/")
        query = parse_qs(parts.query)
        if "list-type" in query:
            return "200 OK", self._page(query)
        path = self._folder / key
        if not key:
            return "200 OK", b""  # the bucket exists
        return ("200 OK", path.read_bytes()) if path.is_file() else ("404 Not Found", b"")

    def _page(self, query: dict[str, list[str]]) -> bytes:
        prefix, start = query.get("prefix", [""])[0], int(query.get("continuation-token", ["0"])[0])
        names = [key.removeprefix(prefix) for key in self._keys if key.startswith(prefix)]
        found = list(dict.fromkeys(name.partition("/")[0] + "/" * ("/" in name) for name in names))
        items = "".join(
            f"<CommonPrefixes><Prefix>{prefix}{name}</Prefix></CommonPrefixes>"
            if name.endswith("/")
            else f"<Contents><Key>{prefix}{name}</Key><Size>{(self._folder / (prefix + name)).stat().st_size}</Size>"
            "<ETag>1</ETag></Contents>"
            for name in found[start : start + PAGE]
        )
        more = start + PAGE < len(found)
        token = f"<NextContinuationToken>{start + PAGE}</NextContinuationToken>" if more else ""
        head = f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}"
        return f"<ListBucketResult>{head}{items}</ListBucketResult>".encode()


def serve(folder: Path, delay: float, port: Any) -> None:
    """Run a server, as the work of a process."""
    asyncio.run(Server(folder, delay).run(port))


def classified(model: str, source: str, folder: Path, port: int | None) -> tuple[dict[str, float], list[str]]:
    """Run cnn-infer; return its rate and peak memory, and its rows without the start of their paths."""
    environment = dict(os.environ)
    if port is not None:
        environment |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
        environment |= {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    rows, report = folder / "rows.jsonl", folder / "report.json"
    command = [sys.executable, "-m", "cnn_infer", source, "--model", model, "--format", "jsonl"]
    command += ["--output", str(rows), "--report", str(report)]
    done = measured(command, env=environment)
    lines = [line.replace(source, "", 1) for line in rows.read_text().splitlines()]
    found = json.loads(report.read_text())
    if found["errors"]:
        raise SystemExit(f"{found['errors']} pictures of {source} could not be read")
    figures = {
        "pictures_per_second": found["images_per_second"],
        "seconds": done.seconds,
        "processor_seconds": done.processor_seconds,
        "peak_mb": done.peak_mb,
    }
    return figures, lines


def measure(model: str, pictures: Path, count: int, delay: float, rounds: int) -> dict[str, Any]:
    """Median rates and peaks of each source, and what the delay costs, as a share of the rate."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "photos")
        link_pictures(picture_files(pictures), pictures, count, folder)
        ports: Any = multiprocessing.Queue()
        servers, numbers = [], []
        for wait in (0.0, delay):
            servers.append(multiprocessing.Process(target=serve, args=(folder, wait, ports), daemon=True))
            servers[-1].start()
            numbers.append(ports.get())
        url = f"s3://{BUCKET}"
        sources = {"folder": (str(folder), None), "no delay": (url, numbers[0]), "delay": (url, numbers[1])}
        rows: dict[str, list[dict[str, float]]] = {key: [] for key in sources}
        expected: list[str] | None = None
        for _ in range(rounds):
            for key, (source, port) in sources.items():
                found, lines = classified(model, source, Path(name), port)
                expected = expected or lines
                if lines != expected:
                    raise SystemExit(f"the rows of {key} differ from those of the folder")
                rows[key].append(found)
                print(f"{key}: {found['pictures_per_second']:.0f} pictures/s, {found['peak_mb']:.0f} MB", flush=True)
        for server in servers:
            server.kill()
    costs = [
        1 - late["pictures_per_second"] / soon["pictures_per_second"]
        for soon, late in zip(rows["no delay"], rows["delay"], strict=True)
    ]
    medians = {
        key: {field: statistics.median(row[field] for row in found) for field in found[0]}
        for key, found in rows.items()
    }
    return {"pictures": count, "sources": medians, "delay_costs": statistics.median(costs), "delay_costs_rounds": costs}


def main() -> None:
    """Print a line for each run and the cost of the delay; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", help="an exported model")
    arguments.add_argument("pictures", type=Path, help="a folder of pictures")
    arguments.add_argument("--pictures", dest="count", type=int, default=4000, help="objects")
    arguments.add_argument("--delay", type=float, default=50, help="milliseconds before each answer")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds")
    options = arguments.parse_args()
    found = measure(options.model, options.pictures, options.count, options.delay / 1e3, options.rounds)
    print(f"{options.delay:g} ms a request cost {found['delay_costs']:.1%} of the rate")
    packages = ("cnn-infer", "onnxruntime", "numpy", "pillow", "simplejpeg", "fsspec", "s3fs", "aiohttp")
    given = {"pictures": options.count, "delay": options.delay, "rounds": options.rounds}
    head = conditions("storage.py MODEL PICTURES", packages, **given)
    write(options.output, {**head, **found})


if __name__ == "__main__":
    run_script(main)
