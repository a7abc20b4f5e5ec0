"""A load test of examples/server.py on this machine: latency, throughput, and what it does when full and at SIGTERM.

    python benchmarks/server.py MODEL PICTURES --output server.json

Clients in this process send pictures to ``POST /classify`` over loopback and wait for each answer, one connection for
each. Beside it: as many threads call ``Classifier.predict`` in this process. Processor time is that of the server, and
of this process for the API; the server's includes HTTP. The server counts the pictures it begins to classify. The exit
code is 1 if it began one whose answer did not arrive, or if a connection that had served before broke.
"""

from __future__ import annotations

import http.client
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnn_infer import Classifier
from links import picture_files
from report import conditions, parser, run_script, short, write

SERVER = Path(__file__).parents[1] / "examples" / "server.py"
PLACES = 32
"""Requests that the server takes at once."""

MOST_PICTURES = 200

COUNTING = """
import os, runpy, sys
from cnn_infer import Classifier
began, predict_many = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND), Classifier.predict_many
def counted(self, pictures, **options):
    os.write(began, b"." * len(pictures))
    return predict_many(self, pictures, **options)
Classifier.predict_many = counted
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs the server and appends a byte to a file for each picture that it begins to classify."""


@dataclass(frozen=True)
class Running:
    """A server: its process, its port, and the file that counts."""

    process: subprocess.Popen[bytes]
    port: int
    began: Path

    def connect(self) -> http.client.HTTPConnection:
        """A new connection, which opens at its first request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def processor_seconds(self) -> float:
        """Processor time until now, of all threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(model: Path) -> Iterator[Running]:
    """Start the server on a free port, and end it after the block if it still runs."""
    with tempfile.TemporaryDirectory() as folder:
        began, log = Path(folder, "began"), Path(folder, "log")
        began.touch()
        command = [sys.executable, "-c", COUNTING, str(began), str(SERVER), str(model), "--port", "0"]
        with open(log, "wb") as errors:
            process = subprocess.Popen(command, stderr=errors)
        try:
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
                if process.poll() is not None:
                    sys.exit(f"the server does not start: {log.read_text()}")
                time.sleep(0.02)
            yield Running(process, int(found[1]), began)
        finally:
            process.kill()
            process.wait()
        if "Traceback" in log.read_text():
            sys.exit(log.read_text())


def post(connection: http.client.HTTPConnection, picture: bytes) -> tuple[int, str | None]:
    """The status of the answer, and its Retry-After."""
    connection.request("POST", "/classify", picture)
    with connection.getresponse() as response:
        response.read()
        return response.status, response.getheader("Retry-After")


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Call ``work`` with each number in a thread of its own, and wait."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def timed(count: int, seconds: float, call: Callable[[int], Callable[[bytes], None]], pictures: list[bytes]) -> Any:
    """Latencies of ``count`` threads that work for ``seconds``; ``call`` makes what a thread does with a picture."""
    times: list[float] = []

    def work(number: int) -> None:
        one, own, place = call(number), [], number
        while time.perf_counter() < end or not own:
            start = time.perf_counter()
            one(pictures[place % len(pictures)])
            own.append(1e3 * (time.perf_counter() - start))
            place += count
        times.extend(own)

    start = time.perf_counter()
    end = start + seconds
    in_threads(count, work)
    spent = time.perf_counter() - start
    cuts = statistics.quantiles(times, n=100, method="inclusive") if len(times) > 1 else times * 99
    return {"requests": len(times), "p50_ms": cuts[49], "p99_ms": cuts[98], "per_second": len(times) / spent}


def load(server: Running, classifier: Classifier, pictures: list[bytes], count: int, seconds: float) -> dict[str, Any]:
    """A row of the report: the server and the API with ``count`` requests at once."""

    def over_http(_: int) -> Callable[[bytes], None]:
        connection = server.connect()

        def one(picture: bytes) -> None:
            status, _ = post(connection, picture)
            if status != 200:
                raise RuntimeError(f"status {status}")

        return one

    before = server.processor_seconds()
    http_row = timed(count, seconds, over_http, pictures)
    http_row["processor_ms"] = 1e3 * (server.processor_seconds() - before) / http_row["requests"]
    before = time.process_time()
    api_row = timed(count, seconds, lambda _: lambda picture: void(classifier.predict(picture)), pictures)
    api_row["processor_ms"] = 1e3 * (time.process_time() - before) / api_row["requests"]
    return {"concurrency": count, "server": http_row, "api": api_row}


def void(_: object) -> None:
    """Drop a result."""


def full(server: Running, picture: bytes) -> dict[str, Any]:
    """Take all places with requests whose last byte is missing, ask for more, then send the last bytes."""
    held = [server.connect() for _ in range(PLACES)]
    for connection in held:
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Length", str(len(picture)))
        connection.endheaders(picture[:-1])
    more, refused, start = server.connect(), [], time.perf_counter()
    while (answer := post(more, picture))[0] == 200 and time.perf_counter() - start < 10:
        time.sleep(0.01)  # the requests above have not all arrived
    for _ in range(50):
        start = time.perf_counter()
        answer = post(more, picture)
        refused.append(1e3 * (time.perf_counter() - start))
        if answer != (503, "1"):
            break
    for connection in held:
        connection.send(picture[-1:])
    statuses = Counter(connection.getresponse().status for connection in held)
    return {
        "status": answer[0],
        "retry_after": answer[1],
        "refused": len(refused),
        "refused_p50_ms": statistics.median(refused),
        "held": PLACES,
        "held_answered": statuses[200],
        "afterwards": post(server.connect(), picture)[0],
    }


def terminated(server: Running, pictures: list[bytes], count: int, seconds: float) -> dict[str, Any]:
    """Send SIGTERM in mid-load; ``count`` clients go on, each with a new connection where the server closed the last.

    A client ends when a new connection is refused, or ends before an answer came: then the server did not take it.
    """
    before = server.began.stat().st_size
    outcomes: Counter[str] = Counter()
    lock = threading.Lock()

    def client(number: int) -> None:
        connection, place, outcome = server.connect(), number, "answered"
        while outcome == "answered":
            is_kept = connection.sock is not None
            try:
                status, _ = post(connection, pictures[place % len(pictures)])
                outcome = "answered" if status == 200 else f"status {status}"
            except ConnectionRefusedError:
                outcome = "refused"
            except (OSError, http.client.HTTPException):
                outcome = "broken, kept connection" if is_kept else "not taken"
            with lock:
                outcomes[outcome] += 1
            place += count

    sent: list[float] = []
    timer = threading.Timer(seconds, lambda: (sent.append(time.perf_counter()), server.process.terminate()))
    timer.start()
    in_threads(count, client)
    code = server.process.wait()
    began = server.began.stat().st_size - before
    return {
        "concurrency": count,
        "exit_code": code,
        "seconds_to_end": time.perf_counter() - sent[0],
        "began": began,
        "lost": began - outcomes["answered"],
        "outcomes": dict(outcomes),
    }


def main() -> None:
    """Print the figures; with --output also write the JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", type=Path, help="an .onnx file that cnn-export wrote")
    arguments.add_argument("pictures", type=Path, help=f"a folder of pictures; {MOST_PICTURES} of them are sent")
    arguments.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16], help="requests at once")
    arguments.add_argument("--seconds", type=float, default=10, help="length of each measurement")
    options = arguments.parse_args()
    pictures = [Path(path).read_bytes() for path in picture_files(options.pictures)[:MOST_PICTURES]]
    classifier = Classifier(options.model, device="cpu")
    with served(options.model) as server:
        rows = [load(server, classifier, pictures, count, options.seconds) for count in options.concurrency]
        at_full = full(server, pictures[0])
        at_end = terminated(server, pictures, max(options.concurrency), min(1.0, options.seconds))
    for row in rows:
        for name in ("server", "api"):
            found = row[name]
            print(
                f"{row['concurrency']:3} at once, {name:6}: p50 {found['p50_ms']:.2f} ms, "
                f"p99 {found['p99_ms']:.2f} ms, {found['per_second']:,.0f} a second, "
                f"{found['processor_ms']:.2f} ms of processor time each"
            )
    print(
        f"full: {at_full['refused']} answers of {at_full['status']} after {at_full['refused_p50_ms']:.1f} ms, "
        f"{at_full['held_answered']} of the {at_full['held']} requests inside were answered"
    )
    print(f"SIGTERM: {at_end['began']} began, {at_end['lost']} lost, {at_end['outcomes']}, exit {at_end['exit_code']}")
    packages = ("cnn-infer", "onnxruntime", "pillow", "numpy", "fastapi", "starlette", "uvicorn", "h11")
    head = conditions("server.py MODEL PICTURES", packages, concurrency=options.concurrency, seconds=options.seconds)
    result = {"model": short(options.model), "pictures": len(pictures), "rows": rows, "full": at_full}
    write(options.output, {**head, **result, "terminated": at_end})
    if at_end["lost"] or at_end["outcomes"].get("broken, kept connection"):
        sys.exit("a request that the server had taken got no answer")


if __name__ == "__main__":
    run_script(main)
