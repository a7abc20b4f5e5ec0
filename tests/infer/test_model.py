"""open_model: a file that keeps the contract opens, any other is refused in one line."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier, DeviceError, InferError, InputError, ModelError, newest_export, open_model

Edit = Callable[[str, str, str], bytes]
Refused = Callable[..., str]


def refusal(source: Any, **options: Any) -> str:
    with pytest.raises(ModelError) as found:
        open_model(source, **options)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_an_open_model_has_its_specification_and_provider(models: Path) -> None:
    model = open_model(models / "rgb.onnx")
    assert model.name == str(models / "rgb.onnx")
    assert model.bytes == (models / "rgb.onnx").stat().st_size
    assert model.spec.shape == (8, 8, 3)
    assert (model.provider, model.session.get_providers()[0]) == ("CPUExecutionProvider",) * 2
    assert json.loads(model.metadata["cnn.spec"])["classes"] == list(model.spec.classes)


def test_files_that_are_not_models_are_refused(models: Path, tmp_path: Path) -> None:
    whole = (models / "grey.onnx").read_bytes()
    for data in (
        b"",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        bytes(1000),
        os.urandom(1000),
        whole[:100],
        whole[: len(whole) // 2],
    ):
        assert "not an ONNX model, or damaged" in refusal(data)
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        assert str(path) in refusal(path)


def test_a_truncated_model_is_refused_wherever_it_ends(models: Path) -> None:
    whole = (models / "grey.onnx").read_bytes()
    for length in range(0, len(whole), 37):
        refusal(whole[:length])


def test_files_that_cannot_be_read_are_refused_with_the_reason(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "absent.onnx")
    assert "Is a directory" in refusal(tmp_path)
    assert "null byte" in refusal("a\0b.onnx")


@pytest.mark.parametrize("name", ["metadata_not_utf8", "output_name_not_utf8", "text_not_utf8"])
def test_a_model_with_invalid_utf_8_is_refused(name: str, refused: Refused) -> None:
    model = Path(__file__).parent / "corpus" / "models" / f"{name}.onnx"
    assert "not an ONNX model, or damaged: " in refused("--info", "--model", model)


def test_a_model_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.onnx").open("wb") as stream:
        stream.truncate(3 << 30)  # a sparse file
    tracemalloc.start()
    assert "the model is larger than 2 GiB" in refusal(tmp_path / "huge.onnx")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_model_without_our_specification_is_refused(models: Path) -> None:
    assert "not one that cnn-export wrote" in refusal(models / "foreign.onnx")


def test_external_weights_are_never_read(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside.data").write_bytes(np.zeros((3, 4), np.float32).tobytes())
    (tmp_path / "outside.onnx").write_bytes((models / "outside.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    refusal("outside.onnx")
    refusal(tmp_path / "outside.onnx")


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ["dark", "bright"]},
        {"classes": ["a", "b", "c", "d"]},
        {"height": 9},
        {"width": 7},
        {"colour": "rgb"},
    ],
    ids=str,
)
def test_a_specification_that_contradicts_the_graph_is_refused(
    models: Path, with_metadata: Edit, change: dict[str, Any]
) -> None:
    document = json.loads(open_model(models / "grey.onnx").spec.to_json())
    open_model(with_metadata("grey.onnx", "cnn.spec", json.dumps(document)))
    changed = with_metadata("grey.onnx", "cnn.spec", json.dumps({**document, **change}))
    assert "does not keep its own contract" in refusal(changed)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', "[" * 100_000, '{"format": 1, "classes": ["a", "b"]}']
)
def test_a_damaged_specification_is_refused(with_metadata: Edit, text: str) -> None:
    assert "cnn.spec" in refusal(with_metadata("grey.onnx", "cnn.spec", text))


def test_a_fixed_batch_size_is_refused(models: Path) -> None:
    assert "batch" in refusal(models / "one_at_a_time.onnx")


def test_an_error_of_the_running_model_is_one_line(models: Path) -> None:
    classifier = Classifier(models / "fails_in_batches.onnx")
    pictures = [np.zeros((8, 8), np.uint8)] * 2
    assert classifier.predict(pictures[0]).label == "dark"
    with pytest.raises(InferError, match="Reshape") as found:
        list(classifier.predict_many(pictures))
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("use", ["Classifier({0!r})", "_import_ms()"])
def test_the_telemetry_of_onnx_runtime_is_off(tmp_path: Path, models: Path, use: str) -> None:
    """It would write an identifier of the machine and a queue of reports into these folders."""
    for name in ("home", "temporary"):
        (tmp_path / name).mkdir()
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary")}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    imports = "from cnn_infer import Classifier\nfrom cnn_infer.latency import _import_ms\n"
    code = imports + use.format(str(models / "rgb.onnx"))
    subprocess.run([sys.executable, "-B", "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / "home", tmp_path / "temporary"]


@pytest.mark.parametrize("setting", [None, "0", "1"])
def test_the_environment_variables_stay_as_they_are(models: Path, setting: str | None) -> None:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": setting or ""}
    if setting is None:
        del environment["ORT_DISABLE_TELEMETRY"]
    code = f"""
import os
before = dict(os.environ)
import cnn_infer
for name in cnn_infer.__all__:
    getattr(cnn_infer, name)
assert dict(os.environ) == before, "importing changed the environment"
cnn_infer.open_model({str(models / "rgb.onnx")!r})
assert dict(os.environ) == before, "opening a model changed the environment"
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_device_names(models: Path) -> None:
    with pytest.raises(InputError, match="unknown device 'gpu': one of auto, cpu, cuda"):
        open_model(models / "grey.onnx", device="gpu")
    assert open_model(models / "grey.onnx", device="cpu").chosen == "asked for"
    assert "CUDA" in open_model(models / "grey.onnx").chosen


@pytest.mark.parametrize("threads", [0, -1, 2.5, "2", None, np.array([1, 2])], ids=repr)
def test_a_number_of_threads_that_is_none_is_refused(models: Path, threads: object) -> None:
    message = f"threads must be a whole number of at least 1, not {threads!r}"
    for create in (open_model, Classifier):
        with pytest.raises(InputError, match=re.escape(message)):
            create(models / "grey.onnx", device="cpu", threads=threads)  # type: ignore[operator]
    session = open_model(models / "grey.onnx", device="cpu", threads=np.int64(2)).session  # type: ignore[arg-type]
    assert session.get_session_options().intra_op_num_threads == 2


def test_two_builds_of_onnx_runtime_are_refused(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "onnxruntime-1.20.0.dist-info").mkdir()
    open_model(models / "grey.onnx")
    (tmp_path / "onnxruntime_gpu-1.20.0.dist-info").mkdir()
    with pytest.raises(DeviceError, match="both installed and overwrite each other: pip uninstall -y"):
        open_model(models / "grey.onnx")


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_an_absent_device_is_an_error_and_not_the_cpu(models: Path) -> None:
    import onnxruntime

    absent = {"cuda": "CUDAExecutionProvider", "coreml": "CoreMLExecutionProvider", "directml": "DmlExecutionProvider"}
    tried = [name for name, provider in absent.items() if provider not in onnxruntime.get_available_providers()]
    assert tried
    for device in tried:
        with pytest.raises(DeviceError, match=f"has no {absent[device]}.*it has .*cpu") as found:
            open_model(models / "grey.onnx", device=device)
        assert "\n" not in str(found.value)


def test_the_newest_export_is_the_last_finished_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run cnn-train and cnn-export first, or pass --model"):
        newest_export(tmp_path)
    for number, (name, ship) in enumerate({"b": "model.onnx", "c": "model.onnx", "a": "model.int8.onnx"}.items()):
        (tmp_path / name).mkdir()
        (tmp_path / name / "export.json").write_text(json.dumps({"ship": ship}))
        os.utime(tmp_path / name / "export.json", (1000 + number, 1000 + number))
    (tmp_path / "z").mkdir()  # trained, not exported
    assert newest_export(tmp_path) == tmp_path / "a" / "model.int8.onnx"
    os.utime(tmp_path / "c" / "export.json", (2000, 2000))
    assert newest_export(tmp_path) == tmp_path / "c" / "model.onnx"
    for damaged in ("", "{}", "[]", "null"):
        (tmp_path / "c" / "export.json").write_text(damaged)
        os.utime(tmp_path / "c" / "export.json", (2000, 2000))
        with pytest.raises(InputError, match=r"export\.json is damaged"):
            newest_export(tmp_path)


class Watched:
    """A session that counts, for each batch size, the runs at a time: before the end of the first run, and after it."""

    def __init__(self) -> None:
        self.running: Counter[int] = Counter()
        self.most: dict[bool, int] = {True: 0, False: 0}
        self.known: set[int] = set()
        self.later = {size: threading.Barrier(2) for size in (2, 5)}

    def run(self, outputs: object, feed: dict[str, np.ndarray]) -> list[int]:
        size = len(feed["image"])
        first = size not in self.known
        self.running[size] += 1
        self.most[first] = max(self.most[first], self.running[size])
        if first:
            time.sleep(0.02)
        else:
            self.later[size].wait(10)  # two later runs of a size at a time, or it fails
        self.running[size] -= 1
        self.known.add(size)
        return [size]


def test_the_first_run_of_a_batch_size_is_alone(models: Path) -> None:
    session = Watched()
    model = replace(open_model(models / "rgb.onnx"), session=session)
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda size: model.run([], np.zeros((size, 8, 8, 3), np.uint8)), [2] * 3 + [5] * 3))
    assert found == [[2]] * 3 + [[5]] * 3
    assert session.most == {True: 1, False: 2}
