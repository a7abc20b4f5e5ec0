"""examples/server.py over a real port: pictures, the Open Inference Protocol, limits, and its end."""

import http.client
import io
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as triton
from cnn_infer import Classifier
from PIL import Image
from tritonclient.utils import InferenceServerException

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "examples" / "server.py"
MODEL = ROOT / "tests" / "infer" / "models" / "rgb.onnx"
INFER = "/v2/models/model/infer"
LIMIT = 16 << 20

FAILING = """
import runpy, sys
import uvicorn
from cnn_infer import Classifier, ModelError
class Config(uvicorn.Config):
    def __init__(self, *arguments, timeout_graceful_shutdown, **options):
        super().__init__(*arguments, timeout_graceful_shutdown=timeout_graceful_shutdown - 5, **options)
uvicorn.Config = Config
predict_many = Classifier.predict_many
def failing(self, pictures, **options):
    if pictures == [b"fail"]:
        raise ModelError("ONNX Runtime failed")
    return predict_many(self, pictures, **options)
Classifier.predict_many = failing
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs the server, which fails at a picture of these bytes, and waits five seconds less for the last requests."""


def encoded(colour: tuple[int, int, int], form: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, form)
    return stream.getvalue()


PICTURES = [encoded((200, 10, 10), "JPEG"), encoded((10, 20, 220), "PNG")]


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[], tuple[subprocess.Popen[str], int]]]:
    """Start a server and return its process and its port. No server may print a traceback."""
    with ExitStack() as stack:

        def begin() -> tuple[subprocess.Popen[str], int]:
            process = subprocess.Popen(
                [sys.executable, str(SERVER), str(MODEL), "--port", "0"], stderr=subprocess.PIPE, text=True
            )
            stack.callback(check_end, process)
            assert process.stderr is not None
            line = next(line for line in process.stderr if "http://" in line)
            return process, int(line.split("http://127.0.0.1:")[1].split()[0])

        def check_end(process: subprocess.Popen[str]) -> None:
            process.kill()
            assert "Traceback" not in process.communicate()[1]

        yield begin


@pytest.fixture(scope="module")
def port(start: Callable[[], tuple[subprocess.Popen[str], int]]) -> int:
    return start()[1]


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier(MODEL, device="cpu")


def asked(port: int, path: str, body: bytes | tuple[bytes, ...] | None = None, **headers: str) -> tuple[int, object]:
    """The status and the JSON of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET" if body is None else "POST", path, body, headers)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_the_program_is_short() -> None:
    assert len(SERVER.read_text().splitlines()) < 80


def test_pictures_get_the_answers_of_the_classifier(port: int, classifier: Classifier) -> None:
    expected = [json.loads(json.dumps(asdict(classifier.predict(picture)))) for picture in PICTURES]
    for picture, answer in zip(PICTURES, expected, strict=True):
        assert asked(port, "/classify", picture) == (200, {"predictions": [answer]})
        # as curl --data-binary sends it
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert asked(port, "/classify", picture, **kind) == (200, {"predictions": [answer]})
    form = b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\ntwo\r\n'
    for picture in PICTURES:
        form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + picture + b"\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    assert asked(port, "/classify", form + b"--x--\r\n", **kind) == (200, {"predictions": expected})
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="b"\r\n\r\ntext\r\n'
    status, answer = asked(port, "/classify", form + b"--x--\r\n", **kind)
    assert isinstance(answer, dict)
    *predictions, bad = answer["predictions"]
    assert (status, predictions) == (200, expected)
    assert bad["error"].startswith("PictureError: not a picture")


@pytest.mark.parametrize("binary", [True, False])
def test_nvidias_client_gets_the_probabilities(port: int, classifier: Classifier, binary: bool) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("model")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata()["name"] == "edgecnn"
        about = client.get_model_metadata("model")
        assert about["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, *classifier.spec.shape]}]
        classes = len(classifier.spec.classes)
        assert about["outputs"] == [{"name": "probabilities", "datatype": "FP32", "shape": [-1, classes]}]

        batch = np.random.default_rng(0).integers(0, 256, (3, *classifier.spec.shape), np.uint8)
        image = triton.InferInput("image", [*batch.shape], "UINT8")
        image.set_data_from_numpy(batch, binary_data=binary)
        expected = classifier.probabilities(batch)
        for outputs in (None, [triton.InferRequestedOutput("probabilities", binary_data=binary)]):
            result = client.infer("model", [image], outputs=outputs, request_id="seven")
            np.testing.assert_array_equal(result.as_numpy("probabilities"), expected)
            assert result.get_response()["id"] == "seven"
        assert client.is_model_ready("model", "1")
        assert client.get_model_metadata("model", "1") == about
        result = client.infer("model", [image], model_version="1")
        np.testing.assert_array_equal(result.as_numpy("probabilities"), expected)
        with pytest.raises(InferenceServerException, match="KeyError: 'logits'"):
            client.infer("model", [image], outputs=[triton.InferRequestedOutput("logits")])
        with pytest.raises(InferenceServerException, match="Not Found"):
            client.infer("other", [image])


def tensor(data: object, shape: tuple[int, ...] = (1, 8, 8, 3), datatype: str = "UINT8") -> bytes:
    one = {"name": "image", "datatype": datatype, "shape": shape, "data": data}
    return json.dumps({"inputs": [one]}).encode()


@pytest.mark.parametrize("outputs", [[], [{"name": "probabilities"}] * 1000], ids=["none", "a thousand times"])
def test_each_output_is_sent_once(port: int, outputs: list[dict[str, str]]) -> None:
    query = {**json.loads(tensor([0] * 192)), "outputs": outputs}
    status, answer = asked(port, INFER, json.dumps(query).encode())
    assert isinstance(answer, dict)
    assert (status, [output["name"] for output in answer["outputs"]]) == (200, ["probabilities"])


def test_chunks_beside_a_content_length_are_refused(port: int) -> None:
    # the chunks count, not the length: RFC 9112, section 6.3
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", "5")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders(b"5\r\nhello\r\n0\r\n\r\n")
    answer = connection.getresponse()
    reason = f"more than {LIMIT} bytes, or no Content-Length"
    assert (answer.status, json.loads(answer.read())) == (413, {"error": reason})


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/classify", b"text", 400, "PictureError: not a picture"),
        ("/classify", b"", 400, "PictureError: the file is empty"),
        ("/classify", bytes(LIMIT + 1), 413, f"more than {LIMIT} bytes, or no Content-Length"),
        ("/classify", (b"in", b"chunks"), 413, f"more than {LIMIT} bytes, or no Content-Length"),
        ("/elsewhere", b"", 404, "Not Found"),
        ("/docs", None, 404, "Not Found"),
        ("/openapi.json", None, 404, "Not Found"),
        (INFER, b"text", 400, "JSONDecodeError: "),
        (INFER, b"[" * 100_000, 400, "RecursionError: "),
        (INFER, b"[]", 400, "TypeError: "),
        (INFER, b"{}", 400, "KeyError: 'inputs'"),
        (INFER, tensor([0] * 192, datatype="INT8"), 400, "KeyError: ('image', 'UINT8')"),
        (INFER, tensor([256] * 192), 400, "ValueError: bytes must be in range(0, 256)"),
        (INFER, tensor([0.5] * 192), 400, "TypeError: 'float' object"),
        (INFER, tensor([0] * 191), 400, "ValueError: cannot reshape array of size 191 into shape (1,8,8,3)"),
        (INFER, tensor([0] * 48, (1, 4, 4, 3)), 400, "InputError: expected uint8 of shape (n, 8, 8, 3)"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_wrong_is_one_line(
    port: int, path: str, body: bytes | tuple[bytes, ...] | None, status: int, reason: str
) -> None:
    found, answer = asked(port, path, body)
    assert isinstance(answer, dict)
    assert found == status
    assert answer["error"].startswith(reason)
    assert "\n" not in answer["error"]


def test_at_sigterm_it_is_not_ready_and_answers_what_still_comes(
    start: Callable[[], tuple[subprocess.Popen[str], int]],
) -> None:
    process, port = start()
    kept, held, gone = (http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(3))
    kept.request("GET", "/v2/health/ready")
    assert kept.getresponse().read() == b""
    for connection in (held, gone):
        connection.putrequest("POST", "/classify")
        connection.putheader("Content-Length", str(len(PICTURES[0])))
        connection.endheaders(PICTURES[0][:-1])
    gone.close()  # a client that leaves in the middle of its request is no error of the server
    process.terminate()
    answer = None
    while answer is None or (answer.status, answer.getheader("Connection")) != (503, "close"):
        status = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        status.request("GET", "/v2/health/ready")
        answer = status.getresponse()
        answer.read()
    kept.request("POST", "/classify", PICTURES[1])
    answer = kept.getresponse()
    assert (answer.status, answer.getheader("Connection")) == (200, "close")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=2.5)  # the held request has a place
    held.send(PICTURES[0][-1:])
    assert held.getresponse().status == 200
    process.wait(timeout=10)
    with pytest.raises(ConnectionRefusedError):
        asked(port, "/v2/health/live")


def test_slow_clients_and_failures_of_the_server() -> None:
    command = [sys.executable, "-c", FAILING, str(SERVER), str(MODEL), "--port", "0", "--timeout", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, ExitStack() as stack:
        stack.callback(process.kill)
        assert process.stderr is not None
        line = next(line for line in process.stderr if "http://" in line)
        port = int(line.split("http://127.0.0.1:")[1].split()[0])

        slow = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        slow.putrequest("POST", "/classify")
        slow.putheader("Content-Length", "5")
        slow.endheaders(b"four")
        answer = slow.getresponse()
        assert (answer.status, json.loads(answer.read())) == (408, {"error": "the body did not arrive in time"})

        failed = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        failed.request("POST", "/classify", b"fail")
        assert failed.getresponse().status == 500

        pixels = np.zeros((60_000, 8, 8, 3), np.uint8)
        head = json.dumps({"inputs": [{"name": "image", "datatype": "UINT8", "shape": pixels.shape}]}).encode()
        length = f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + pixels.nbytes}\r\n"
        with socket.create_connection(("127.0.0.1", port)) as deaf:
            deaf.sendall(f"POST {INFER} HTTP/1.1\r\nHost: here\r\n{length}\r\n".encode() + head + pixels.tobytes())
            assert deaf.recv(12) == b"HTTP/1.1 200"  # and the rest, some megabytes, is never read
            process.send_signal(signal.SIGINT)
            log = process.communicate(timeout=20)[1]
        assert process.returncode == 130
        assert "ModelError: ONNX Runtime failed" in log
        assert "timeout graceful shutdown exceeded" in log


def test_nothing_taken_is_lost_and_a_full_server_says_when_to_come_again(tmp_path: Path) -> None:
    for number, picture in enumerate(PICTURES):
        (tmp_path / f"{number}.{'jpg' if number == 0 else 'png'}").write_bytes(picture)
    command = [sys.executable, str(ROOT / "benchmarks" / "server.py"), str(MODEL), str(tmp_path)]
    command += ["--concurrency", "4", "--seconds", "0.2", "--output", str(tmp_path / "server.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "server.json").read_text())
    assert found["full"] == {
        "status": 503,
        "retry_after": "1",
        "refused": 50,
        "refused_p50_ms": found["full"]["refused_p50_ms"],
        "held": 32,
        "held_answered": 32,
        "afterwards": 200,
    }
    end = found["terminated"]
    assert end["outcomes"]["answered"] == end["began"] > 4
    assert {*end["outcomes"]} <= {"answered", "refused", "not taken"}
    assert found["rows"][0]["server"]["requests"] >= 4


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SERVER), str(tmp_path / "absent.onnx")], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "absent.onnx" in done.stderr
