"""One small network, trained once for all tests of export, and a fresh copy of its run folder for each.

No test depends on how fast this machine runs int8: exports measure int8 as twice as fast as fp32, unless a test sets
another speed with ``int8_speed``. PyTorch exports each network to a float graph once: later exports of the same
network, specification and opset get a copy.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from cnn_export import Timing, exporting
from cnn_export.graph.float_graph import float_graph
from cnn_export.int8.search import Search
from cnn_export.options import OPSET
from cnn_infer import Spec
from cnn_train import Run, train
from jsonschema import Draft202012Validator
from onnx import ModelProto
from PIL import Image
from safetensors.torch import save
from torch import nn


@pytest.fixture(scope="session")
def int8_speed() -> Callable[[float], AbstractContextManager[None]]:
    """``with int8_speed(0.95):`` makes exports measure int8 as 0.95 times as fast as fp32."""

    @contextmanager
    def set_speed(speedup: float) -> Iterator[None]:
        timings = [Timing(size, 1.0, 1 / speedup, speedup, 50) for size in (1, 32)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(exporting, "Search", partial(Search, measure_latency=lambda *_: timings))
            yield

    return set_speed


@pytest.fixture(autouse=True, scope="module")
def int8_is_twice_as_fast(int8_speed: Callable[[float], AbstractContextManager[None]]) -> Iterator[None]:
    with int8_speed(2.0):
        yield


@pytest.fixture(autouse=True, scope="session")
def float_graphs() -> Iterator[None]:
    """Exports of runs, and ``exporting.float_graph``, ask PyTorch once for each float graph, which takes a second."""
    known: dict[tuple[object, ...], bytes] = {}

    def remembered(network: nn.Module, spec: Spec, opset: int = OPSET) -> ModelProto:
        weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
        key = (repr(network), hashlib.sha256(weights).digest(), spec.to_json(), opset)
        if key not in known:
            known[key] = float_graph(network, spec, opset).SerializeToString()
        return ModelProto.FromString(known[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exporting, "float_graph", remembered)
        yield


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of three made-up classes, larger than the network's input: 20 a class, 40 x 30, JPEG."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for name, colour in (("blue", (30, 40, 200)), ("green", (40, 180, 50)), ("red", (200, 40, 30))):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            noise = random.integers(-40, 40, (30, 40, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.jpg", quality=90)
    return folder


@pytest.fixture(scope="session")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "run"
    cache = tmp_path_factory.mktemp("cache")
    return train(photos, out=out, model="nano", size=16, epochs=20, cache=str(cache)).path


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Run:
    return Run.open(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture(scope="session")
def spec_problems() -> Callable[..., list[str]]:
    """Returns where a specification, with some details replaced, is not valid by the schema of ``cnn.spec``."""
    text = (files("cnn_infer") / "schema" / "spec.schema.json").read_text(encoding="utf-8")
    validator = Draft202012Validator(json.loads(text))

    def found(spec: Spec, **details: object) -> list[str]:
        document = json.loads(replace(spec, details={**spec.details, **details}).to_json())
        return [error.json_path for error in validator.iter_errors(document)]

    return found
