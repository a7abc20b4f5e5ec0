"""``cnn-export --triton``: the published protobuf reads what it writes, and it fits the model."""

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import tritonclient
import yaml
from click.testing import CliRunner
from cnn_export import ExportError, half, triton
from cnn_export.cli import command
from cnn_infer import Classifier, Spec, verify_all
from cnn_train import Run
from google.protobuf import text_format

COMMAND = Path(sys.executable).with_name("cnn-export")
MODELS = Path(__file__).parents[1] / "infer" / "models"


@pytest.fixture(scope="session")
def published() -> ModuleType:
    """NVIDIA's module of ``ModelConfig``. Its package also imports grpc, which this needs not."""
    path = Path(tritonclient.__path__[0]) / "grpc" / "model_config_pb2.py"
    specification = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def config_of(folder: Path, published: ModuleType) -> Any:
    return text_format.Parse((folder / "config.pbtxt").read_text(), published.ModelConfig())


def exported(folder: Path, name: str = "model.onnx", model: str = "rgb.onnx", **values: object) -> Path:
    """A folder with a model of the tests as its export, with other values in its specification."""
    proto = onnx.load(MODELS / model)
    (entry,) = [entry for entry in proto.metadata_props if entry.key == "cnn.spec"]
    entry.value = replace(Spec.from_json(entry.value), **values).to_json()  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    onnx.save(proto, folder / name)
    (folder / "export.json").write_text(json.dumps({"ship": name}))
    return folder


def test_one_command_exports_and_writes_what_the_config_says(run: Run, tmp_path: Path, published: ModuleType) -> None:
    done = CliRunner().invoke(command, [str(run.path), "--evidence", "--triton", str(tmp_path / "models")])
    assert done.exit_code == 0, done.output
    assert "triton         " in done.output
    folder = tmp_path / "models" / "photos"
    files = {path.relative_to(tmp_path / "models").as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"photos/1/model.onnx", "photos/config.pbtxt", "photos/labels.txt"}

    config = config_of(folder, published)
    assert (config.backend, config.name) == ("onnxruntime", "")  # without a name, the folder can be renamed
    session = ort.InferenceSession(folder / "1" / "model.onnx")
    types = {published.TYPE_UINT8: "tensor(uint8)", published.TYPE_FP32: "tensor(float)"}
    for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        found = [(tensor.name, types[tensor.data_type], [*tensor.dims]) for tensor in described]
        assert found == [(node.name, node.type, node.shape[1:]) for node in real]
        assert not any(isinstance(node.shape[0], int) for node in real)  # Triton puts the batch in front
    assert config.input[0].format == published.ModelInput.FORMAT_NHWC
    assert [*config.dynamic_batching.preferred_batch_size] == [16, 32, 64]
    assert config.dynamic_batching.max_queue_delay_microseconds == 1000
    assert config.version_policy.latest.num_versions == 1
    assert [group.kind for group in config.instance_group] == [published.ModelInstanceGroup.KIND_AUTO]

    classifier = Classifier(run.path / "model.onnx", device="cpu")
    labels = [output.label_filename for output in config.output]
    assert labels == ["", "labels.txt"]
    assert tuple((folder / labels[1]).read_text().splitlines()) == classifier.spec.classes
    batch = np.random.default_rng(0).integers(0, 256, (config.max_batch_size, *config.input[0].dims), np.uint8)
    for size in (1, 5, config.max_batch_size):
        _, probabilities = session.run(None, {"image": batch[:size]})
        np.testing.assert_allclose(probabilities, classifier.probabilities(batch[:size]), atol=1e-6)
    assert verify_all(Classifier(folder / "1" / "model.onnx", device="cpu")).passed

    written = (run.path / "model.onnx").stat().st_mtime_ns
    again = CliRunner().invoke(command, [str(run.path), "--triton", str(tmp_path / "again")])
    assert (again.exit_code, again.output.count("\n")) == (0, 2)
    assert (run.path / "model.onnx").stat().st_mtime_ns == written
    assert (tmp_path / "again" / "photos" / "1" / "model.onnx").read_bytes() == Path(
        folder, "1", "model.onnx"
    ).read_bytes()


def test_int8_is_served_if_it_ships_and_on_the_cpu(tmp_path: Path, published: ModuleType) -> None:
    exported(tmp_path / "run")
    details = {"data": {"name": "Été/photos 2"}, "precision": "int8"}
    exported(tmp_path / "run", "model.int8.onnx", details=details)
    found = triton.write_repository(tmp_path / "models", tmp_path / "run")
    assert (found.model, found.name) == ("model.int8.onnx", "Ete-photos-2")  # safe in paths and addresses
    config = config_of(tmp_path / "models" / found.name, published)
    assert [group.kind for group in config.instance_group] == [published.ModelInstanceGroup.KIND_CPU]
    assert {key: value.string_value for key, value in config.parameters.items()} == {"intra_op_thread_count": "1"}

    (tmp_path / "run" / "export.json").write_text('{"ship": "model.onnx"}')  # int8 is not faster, but its file is there
    found = triton.write_repository(tmp_path / "fp32", tmp_path / "run")
    assert found.model == "model.onnx"
    config = config_of(tmp_path / "fp32" / found.name, published)
    assert [group.kind for group in config.instance_group] == [published.ModelInstanceGroup.KIND_AUTO]
    assert not config.parameters


def test_half_is_served_on_a_gpu(run: Run, tmp_path: Path, published: ModuleType) -> None:
    done = CliRunner().invoke(command, [str(run.path), "--half", "--triton", str(tmp_path / "models")])
    assert done.exit_code == 0, done.output
    assert re.search(r"triton         .*: model photos, model\.half\.onnx, ", done.output)
    folder = tmp_path / "models" / "photos"
    served = Classifier(folder / "1" / "model.onnx", device="cpu")
    assert served.spec.details["precision"] == "fp16"
    config = config_of(folder, published)
    assert [group.kind for group in config.instance_group] == [published.ModelInstanceGroup.KIND_GPU]


def test_without_an_fp16_model_nothing_is_served(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "replayed_file", lambda *_: (b"", "the file does not replay its own pictures"))
    done = CliRunner().invoke(command, [str(run.path), "--half", "--triton", str(tmp_path / "models")])
    assert "model.half.onnx was not written" in str(done.exception)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(("pictures", "sizes"), [(6.5, [1, 3, 6]), (0.5, [1])])
def test_batches_of_large_pictures_are_small(
    pictures: float, sizes: list[int], tmp_path: Path, published: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = exported(tmp_path / "the run")
    height, width, _ = Classifier(run / "model.onnx", device="cpu").spec.shape
    monkeypatch.setattr(triton, "MAX_BATCH_PIXELS", int(height * width * pictures))
    found = triton.write_repository(tmp_path / "models", run)
    config = config_of(tmp_path / "models" / found.name, published)
    assert (config.max_batch_size, [*config.dynamic_batching.preferred_batch_size]) == (sizes[-1], sizes)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--web", "page"], "--web and --triton exclude each other: pass one of them"),
        (["--vectors", "vectors"], "--vectors and --triton exclude each other: pass one of them"),
        (["--data", "photos"], "no effect with --triton alone: --data"),
        (["--quantize"], "the folder is not empty: models: name a new one"),
        (["--triton", "s3://b/models"], "a folder of this machine is needed, not a URL: s3://b/models"),
    ],
)
def test_the_command_refuses(options: list[str], line: str, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other").touch()
    done = subprocess.run(
        [COMMAND, ".", "--triton", "models", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"cnn-export: {line}\n")
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "other"]


def test_what_cannot_be_served_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no model\.onnx: export it first, or name another run"):
        triton.write_repository(tmp_path / "models", tmp_path)
    run = exported(tmp_path / "run", classes=("red", "green\nish", "blue", "grey"))
    with pytest.raises(ExportError, match=r"the class 'green\\nish' has a line break"):
        triton.write_repository(tmp_path / "models", run)
    (run / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(ExportError, match="export again"):
        triton.write_repository(tmp_path / "models", run)
    (run / "export.json").write_text("damaged")
    with pytest.raises(ExportError, match=r"export\.json is damaged .*: run cnn-export again"):
        triton.write_repository(tmp_path / "models", run)
    (run / "export.json").unlink()
    with pytest.raises(ExportError, match=r"has no export\.json, which names the model to serve: export it first"):
        triton.write_repository(tmp_path / "models", run)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_page_names_a_service_that_kserve_reads() -> None:
    text = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (service,) = [yaml.safe_load(block) for block in re.findall(r"```text\n(apiVersion:.*?)```", text, re.S)]
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    model = service["spec"]["predictor"]["model"]
    assert (model["modelFormat"], model["protocolVersion"]) == ({"name": "triton"}, "v2")
    assert f"aws s3 sync models {model['storageUri']}`" in text  # what --triton writes lies at that place
