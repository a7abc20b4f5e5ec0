"""The reference gives the outputs of ONNX Runtime to the bit, and saturates as the instruction of AVX2 does."""

import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from cnn_export import GraphError, export
from cnn_export.graph.float_graph import float_graph, keep_contract, with_metadata
from cnn_export.graph.passes import keep_float_layers
from cnn_export.graph.runtime_graph import optimised
from cnn_export.int8.kernels import Convolution, Levels, Window
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import Statistics, collect
from cnn_export.int8.reference import Reference
from cnn_export.int8.targets import kind_of_this_machine, target_of
from cnn_export.parity import Outputs, run_model
from cnn_infer import Spec, open_model
from cnn_train import Run
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

SPEC = Spec(("a", "b", "c"), 14, 11, "rgb", "squash", "bilinear", 124, 0.016)
QEMU = shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")


class Mixed(nn.Module):
    """Residual connections, a depthwise, a grouped and a dilated convolution, odd channels, both kinds of pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.same = nn.Conv2d(32, 32, 3, padding=1)
        self.depthwise = nn.Conv2d(32, 32, 3, padding=1, stride=2, groups=32)
        self.grouped = nn.Conv2d(32, 42, 3, padding=2, dilation=2, groups=2)
        self.odd = nn.Conv2d(42, 16, 3, padding=1)
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        features = functional.relu(self.stem(features))
        features = features + self.same(features)
        features = functional.relu6(self.depthwise(features))
        features = functional.max_pool2d(functional.relu(self.grouped(features)), 3, 2, 1)
        features = functional.relu(self.odd(features))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class Gated(nn.Module):
    """A sigmoid, which ONNX Runtime computes with a table in int8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.sigmoid(self.stem(features)).mean((2, 3)))
        return logits


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *SPEC.shape), dtype=np.uint8)


@cache
def float_model(network: type[nn.Module]) -> tuple[ModelProto, dict[str, Statistics]]:
    """The graph of a network with random weights, and the statistics of its tensors."""
    torch.manual_seed(0)
    graph = float_graph(network(), SPEC)
    return graph, collect(graph, normalised(pictures(32), SPEC))


@cache
def quantized(network: type[nn.Module], target: str, floats: int = 0) -> ModelProto:
    """The int8 form of a network, with this number of its inner convolutions in fp32."""
    graph, statistics = float_model(network)
    names = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    recipe, batches = Recipe("minmax", floats=tuple(names[1 : 1 + floats])), normalised(pictures(32), SPEC)
    model = keep_contract(quantize(graph, statistics, batches, SPEC, recipe, target_of(target)), SPEC)
    keep_float_layers(model)
    return model


def in_onnxruntime(model: ModelProto, images: np.ndarray) -> Outputs:
    return run_model(open_model(with_metadata(model, SPEC), device="cpu"), images)


def of_this_machine(model: ModelProto, images: np.ndarray) -> Outputs:
    return Reference(model, saturates=kind_of_this_machine() == "avx2").run(images)


@pytest.mark.parametrize(("target", "floats"), [("vnni", 0), ("vnni", 2), ("any", 0)])
def test_the_reference_equals_onnxruntime_to_the_bit(target: str, floats: int) -> None:
    model, images = quantized(Mixed, target, floats), pictures(130, seed=1)  # more than a batch
    expected, found = in_onnxruntime(model, images), of_this_machine(model, images)
    assert np.array_equal(found.logits, expected.logits)
    assert np.array_equal(found.probabilities, expected.probabilities)
    assert len(np.unique(expected.logits, axis=0)) > 100


def test_the_reference_equals_the_exported_file_of_a_training(run: Run) -> None:
    result = export(run, quantize=True, search_seconds=0, max_drop=100)
    assert result.int8 is not None
    model = onnx.load(run.path / result.int8.file)
    images = np.random.default_rng(0).integers(0, 256, (50, *run.spec.shape), dtype=np.uint8)
    expected = run_model(open_model(run.path / result.int8.file, device="cpu"), images)
    assert np.array_equal(of_this_machine(model, images).logits, expected.logits)
    # no pair of products of this file can overflow
    assert np.array_equal(Reference(model, saturates=True).run(images).logits, expected.logits)


def test_a_layer_kept_in_fp32_runs_in_fp32() -> None:
    """ONNX Runtime would quantize its weights again."""
    running = optimised(with_metadata(quantized(Mixed, "vnni", 2), SPEC))
    kinds = [node.op_type for node in running.graph.node if node.op_type in ("Conv", "QLinearConv")]
    assert kinds == ["QLinearConv", "Conv", "Conv", "QLinearConv", "QLinearConv"]


def test_an_unknown_int8_node_is_refused_by_name() -> None:
    with pytest.raises(GraphError, match=r"does not know how ONNX Runtime computes .* \(QLinearSigmoid\) in int8"):
        Reference(quantized(Gated, "vnni"))


def vpmaddubsw(activations: np.ndarray, weights: np.ndarray) -> int:
    """Sum of products, two at a time saturated to 16 bits; an odd one is alone."""
    total = 0
    for index in range(0, len(weights), 2):
        pair = sum(int(a) * int(w) for a, w in zip(activations[index : index + 2], weights[index : index + 2]))  # noqa: B905
        total += min(max(pair, -32768), 32767)
    return total


@pytest.mark.parametrize(
    ("channels", "groups", "kernel"), [(4, 1, (3, 3)), (3, 1, (2, 3)), (6, 2, (3, 1)), (5, 5, (3, 3))]
)
def test_saturation_equals_the_instruction(channels: int, groups: int, kernel: tuple[int, int]) -> None:
    """Each output is computed again product by product, in the order kernel row, kernel column, channel."""
    random = np.random.default_rng(0)
    filters, own = 5 if groups == 5 else 4, channels // groups
    weights = random.integers(-127, 128, (filters, own, *kernel), dtype=np.int8)
    values = random.choice(np.array([0, 3, 128, 250, 255], np.uint8), (2, channels, 5, 4))
    multiplier, zero_point = torch.tensor(1 / 900), 7
    convolution = Convolution(
        torch.from_numpy(weights),
        torch.zeros(filters, dtype=torch.int32),
        multiplier,
        Window(kernel, (1, 1), (1, 1), (0, 0, 0, 0)),
        groups,
        saturates=True,
    )
    found = convolution(torch.from_numpy(values), zero_point, Levels(torch.tensor(1.0), 128, torch.uint8)).numpy()
    exact = 0
    for index in np.ndindex(found.shape):
        picture, number, row, column = index
        first = number // (filters // groups) * own
        window = values[picture, first : first + own, row : row + kernel[0], column : column + kernel[1]]
        order = (1, 2, 0)
        products = window.transpose(order).ravel(), weights[number].transpose(order).ravel()
        plain = int(products[0].astype(int) @ products[1].astype(int))
        total = plain if groups == channels else vpmaddubsw(*products)
        total -= zero_point * int(weights[number].sum(dtype=int))
        exact += total == plain - zero_point * int(weights[number].sum(dtype=int))
        assert found[index] == np.clip(np.rint(np.float32(total) * multiplier.numpy()) + 128, 0, 255)
    assert (exact == found.size) is (groups == channels)


EMULATED = """
import sys
sys.path[:0] = [sys.argv[1]]
import numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(open(sys.argv[2], "rb").read(), options, providers=["CPUExecutionProvider"])
np.save(sys.argv[4], session.run(["logits"], {"image": np.load(sys.argv[3])})[0])
"""


@pytest.mark.skipif(QEMU is None, reason="qemu-x86_64-static is not installed (Debian: apt install qemu-user-static)")
def test_saturation_equals_onnxruntime_on_an_emulated_processor_without_vnni(tmp_path: Path) -> None:
    """Predicted before the run, for a file with weights of 8 bits."""
    model, images = quantized(Mixed, "vnni"), pictures(20, seed=1)
    predicted = Reference(model, saturates=True).run(images).logits
    assert not np.array_equal(predicted, Reference(model).run(images).logits)
    onnx.save(model, tmp_path / "model.onnx")
    np.save(tmp_path / "images.npy", images)
    site, python = sysconfig.get_path("purelib"), Path(sys.executable).resolve()
    files = [tmp_path / name for name in ("model.onnx", "images.npy", "logits.npy")]
    command = [QEMU, "-cpu", "max", python, "-c", EMULATED, site, *files]
    subprocess.run([str(part) for part in command], check=True, timeout=300)
    assert np.array_equal(np.load(files[-1]), predicted)
