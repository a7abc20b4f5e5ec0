"""Processors round int8 additions differently; a file for ``any`` has scales for which all of them agree."""

import json
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cnn_export.graph.float_graph import float_graph, keep_contract
from cnn_export.graph.lookup import attribute_of, constants_of, makers_of
from cnn_export.int8 import kernels, rounding
from cnn_export.int8.additions import additions, let_additions_agree
from cnn_export.int8.overflow import prove
from cnn_export.int8.quantize import Recipe, normalised, quantize
from cnn_export.int8.ranges import Statistics, collect
from cnn_export.int8.rounding import STEP, STEPS, Unsigned, agreeing, disagreements, forms
from cnn_export.int8.targets import TARGETS
from cnn_infer import Spec
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
SPEC = Spec(("a", "b", "c"), 12, 12, "rgb", "squash", "bilinear", 124, 0.016)
A, B = np.indices((256, 256), np.uint8).reshape(2, -1)

DIFFERENT = Unsigned(np.float32(0.044), 97), Unsigned(np.float32(0.015), 26), Unsigned(np.float32(0.05), 129)
"""An addition with sums near the middle between two levels: all forms compute it differently."""

scales = st.floats(2**-10, 0.25, width=32).map(np.float32)
tensors = st.builds(Unsigned, scales, st.integers(0, 255))


class Residual(nn.Module):
    """Additions one after the other, with ReLU and without, read by a depthwise and a usual convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.first, self.second, self.third = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.depthwise = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        features = functional.relu(self.stem(features))
        features = features + self.first(features)
        features = functional.relu(features + self.second(features))
        features = features + self.third(functional.relu6(self.depthwise(features)))
        logits: Tensor = self.head((features + features).mean((2, 3)))
        return logits


class Gated(nn.Module):
    """A sigmoid, a product and an addition with one number for each channel: ONNX Runtime computes them in fp32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.last = nn.Conv2d(16, 16, 1)
        self.shift = nn.Parameter(torch.ones(1, 16, 1, 1))
        self.head = nn.Linear(16, 3)

    def forward(self, features: Tensor) -> Tensor:
        features = self.stem(features)
        features = self.last(features * torch.sigmoid(features)) + self.shift
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


@cache
def float_model(network: type[nn.Module]) -> tuple[ModelProto, dict[str, Statistics]]:
    """The graph of a network with random weights, and the statistics of its tensors."""
    torch.manual_seed(1)
    graph = float_graph(network(), SPEC)
    return graph, collect(graph, pictures())


def pictures() -> object:
    return normalised(np.random.default_rng(0).integers(0, 256, (32, *SPEC.shape), dtype=np.uint8), SPEC)


def quantized(network: type[nn.Module], recipe: Recipe | None = None, target: str = "any") -> ModelProto:
    graph, statistics = float_model(network)
    return quantize(graph, statistics, pictures(), SPEC, recipe or Recipe("minmax"), TARGETS[target])


def levels_of(trio: tuple[Unsigned, ...]) -> dict[str, NDArray[np.uint8]]:
    return dict(forms(*trio, A, B))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on this machine and on the processors that can be emulated."""
    output = tmp_path_factory.mktemp("roundings") / "roundings.json"
    names = [name for name in ("avx2", "sse4.2", "cortex-a72") if not why_not_emulated(name)]
    command = [sys.executable, BENCHMARKS / "roundings.py", "--additions", 20, "--output", output]
    command += ["--processors", *names]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(output.read_text())
    return found


@cache
def why_not_emulated(processor: str) -> str:
    """Why a processor cannot be emulated; empty if it can."""
    architecture = "aarch64" if processor == "cortex-a72" else "x86_64"
    if not (shutil.which(f"qemu-{architecture}-static") or shutil.which(f"qemu-{architecture}")):
        return "QEMU is not installed; on Debian and Ubuntu: apt install qemu-user-static"
    if architecture == "x86_64":
        return "" if platform.machine() == "x86_64" else "x86 processors are emulated on x86 machines only"
    command = [sys.executable, BENCHMARKS / "emulation.py", "--check"]
    built = subprocess.run(command, check=False).returncode == 0
    return "" if built else "the environment for 64-bit Arm is not built; run benchmarks/emulation.py"


@pytest.mark.parametrize(
    ("processor", "form"),
    [
        ("this machine", ""),
        ("avx2", "AVX2, first product fused"),
        ("sse4.2", "SSE, nothing fused"),
        ("cortex-a72", "NEON"),
    ],
)
def test_each_processor_rounds_as_its_form(processor: str, form: str, report: dict[str, Any]) -> None:
    """Real additions of all pairs of levels in ONNX Runtime."""
    if processor != "this machine" and (reason := why_not_emulated(processor)):
        pytest.skip(reason)
    (row,) = [row for row in report["rows"] if row["processor"] == processor]
    assert form in row["fits"] or not form
    assert len({one.split(",")[0] for one in row["fits"]}) == 1
    assert not row["unexpected"]
    assert report["additions_that_differ"] > 5
    assert report["additions_that_differ_with_wider_ranges"] == 0


def test_the_reference_adds_in_the_form_of_avx2() -> None:
    sources = [kernels.Levels(torch.tensor(one.scale), one.zero_point, torch.uint8) for one in DIFFERENT]
    found = kernels.add([torch.from_numpy(A.copy()), torch.from_numpy(B.copy())], sources[:2], sources[2])
    assert np.array_equal(found.numpy(), levels_of(DIFFERENT)["AVX2, first product fused"])


@settings(max_examples=50, deadline=None)
@given(tensors, tensors, tensors)
def test_the_number_of_different_sums_is_that_of_all_pairs(first: Unsigned, second: Unsigned, result: Unsigned) -> None:
    """Only pairs near the middle between two levels are tried: no other pair can differ."""
    found = np.stack(list(levels_of((first, second, result)).values()))
    assert disagreements(first, second, result) == (found != found[0]).any(axis=0).sum()


def test_all_forms_agree_with_a_range_that_is_a_little_wider() -> None:
    before = levels_of(DIFFERENT)
    assert len({levels.tobytes() for levels in before.values()}) >= 6
    result = agreeing(*DIFFERENT)
    assert result is not None
    assert DIFFERENT[2].scale < result.scale <= DIFFERENT[2].scale * (1 + STEPS * STEP)
    assert result.zero_point == DIFFERENT[2].zero_point
    assert len({levels.tobytes() for levels in levels_of((*DIFFERENT[:2], result)).values()}) == 1
    assert agreeing(*DIFFERENT[:2], result) == result  # nothing to do


@pytest.mark.parametrize("per_channel", [True, False])
def test_every_addition_of_a_file_for_any_agrees(per_channel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("minmax", per_channel=per_channel)
    model = quantized(Residual, recipe)
    proof = prove(keep_contract(model, SPEC))
    assert [sums.different for sums in proof.additions] == [0] * 4
    assert proof.floats == ()
    assert proof.certificate["additions"] == [{"name": sums.name, "different": 0} for sums in proof.additions]
    biases_follow(model)
    monkeypatch.setattr("cnn_export.int8.quantize.let_additions_agree", lambda *_: 0)
    unchanged = prove(keep_contract(quantized(Residual, recipe), SPEC))
    assert sum(sums.different > 0 for sums in unchanged.additions) >= 2
    assert unchanged.floats == tuple(sums.name for sums in unchanged.additions if sums.different)


def biases_follow(model: ModelProto) -> None:
    """Check the scale of each bias, and that its integers are those of the float bias."""
    constants, makers = constants_of(model), makers_of(model)
    exact = constants_of(float_model(Residual)[0])
    layers = {node.name: node for node in float_model(Residual)[0].graph.node}
    changed = {addition.scale for addition in additions(model, constants)}
    read = set()
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            values, weights, bias = (makers[name] for name in node.input)
            step = constants[values.input[1]] * constants[weights.input[1]]
            assert np.array_equal(constants[bias.input[1]].ravel(), step.ravel())
            expected = np.rint(exact[layers[node.name].input[2]].astype(np.float64) / step)
            assert np.array_equal(constants[bias.input[0]], expected)
            if values.input[1] in changed:
                read.add(attribute_of(node, "group", 1))
    assert read == {1, 16}  # usual and depthwise convolutions read a sum


def test_an_addition_without_a_scale_that_agrees_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounding, "STEPS", 0)
    proof = prove(quantized(Residual))
    names = [sums.name for sums in proof.additions if sums.different]
    assert len(names) >= 2
    assert list(proof.floats) == names
    proof.check()  # one level in a few of 65,536 sums is no reason to refuse the file


def test_other_targets_keep_their_scales() -> None:
    graph, _ = float_model(Residual)
    model = quantized(Residual, target="vnni")
    assert let_additions_agree(model, graph) >= 2


def test_layers_in_fp32_and_unknown_operators_are_named() -> None:
    graph, _ = float_model(Residual)
    name = next(node.name for node in graph.graph.node if "third.weight" in node.input)
    proof = prove(keep_contract(quantized(Residual, Recipe("minmax", floats=(name,))), SPEC))
    assert proof.floats == (name,)
    assert [sums.different for sums in proof.additions] == [0] * 4  # the output of the layer is quantized
    kinds = {node.name: node.op_type for node in float_model(Gated)[0].graph.node}
    proof = prove(keep_contract(quantized(Gated), SPEC))
    assert sorted(kinds[one] for one in proof.floats) == ["Add", "Mul", "Sigmoid"]
