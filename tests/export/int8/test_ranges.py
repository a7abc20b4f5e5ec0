"""Statistics of tensors are right, and each method chooses the range that its name says."""

from collections.abc import Iterator

import numpy as np
import pytest
from cnn_export import GraphError
from cnn_export.int8.ranges import BINS, METHODS, SAMPLES, Statistics, collect
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

NAME = "pictures"


def doubled(*shape: int) -> ModelProto:
    """float (n, 3, 4, 4), or another shape, times 2, then a ReLU."""
    shape = ["n", *(shape or (3, 4, 4))]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in (NAME, "relu")]
    two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
    nodes = [helper.make_node("Mul", [NAME, "two"], ["twice"]), helper.make_node("Relu", ["twice"], ["relu"])]
    graph = helper.make_graph(nodes, "doubled", infos[:1], infos[1:], [two])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def batches(values: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
    for start in range(0, len(values), 8):
        yield {NAME: values[start : start + 8]}


def statistics_of(values: NDArray[np.float64]) -> Statistics:
    low, high = min(values.min(), 0), max(values.max(), 0)
    counts = np.histogram(values[values != 0], BINS, (low, high))[0]
    return Statistics(float(low), float(high), counts, np.zeros(1))


def error(values: NDArray[np.float64], low: float, high: float) -> float:
    """Mean squared error of the values after rounding to 256 levels."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rounded = (np.rint(values / step + zero).clip(0, 255) - zero) * step
    return float(((rounded - values) ** 2).mean())


def test_statistics_equal_numpy() -> None:
    values = np.random.default_rng(0).normal(0.5, 1, (20, 3, 4, 4)).astype(np.float32)
    found = collect(doubled(), lambda: batches(values))
    assert set(found) == {NAME, "twice", "relu"}
    for name, wanted in ((NAME, values), ("twice", 2 * values), ("relu", np.maximum(2 * values, 0))):
        one = found[name]
        assert (one.low, one.high) == (min(wanted.min(), 0), wanted.max())
        assert one.counts.sum() == (wanted != 0).sum()
        np.testing.assert_allclose(one.means, wanted.mean((0, 2, 3)), rtol=1e-5)
        edges = np.histogram(wanted[wanted != 0], BINS, (one.low, one.high))[0]
        assert np.abs(one.counts - edges).sum() <= 4  # values on an edge may fall on either side of it


@pytest.mark.parametrize("width", [32, 28, 7])
def test_the_border_of_a_large_tensor_counts_in_its_true_proportion(width: int) -> None:
    """The first column of each picture holds 3, the last one 2, and the inside 1."""
    values = np.ones((32, 64, 32, width), np.float32)
    values[..., 0], values[..., -1] = 3, 2
    assert values.size > SAMPLES
    first, second = (collect(doubled(64, 32, width), lambda: iter([{NAME: values}]))[NAME] for _ in range(2))
    assert 0.8 * SAMPLES / 2 < first.counts.sum() <= SAMPLES
    shares = first.counts[[BINS - 1, BINS * 2 // 3, BINS // 3]] / first.counts.sum()
    np.testing.assert_allclose(shares, (1 / width, 1 / width, 1 - 2 / width), atol=0.002)
    assert np.array_equal(first.counts, second.counts)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_refused(bad: float) -> None:
    values = np.ones((9, 3, 4, 4), np.float32)
    values[8, 1, 2, 3] = bad
    with pytest.raises(GraphError, match="not a number"):
        collect(doubled(), lambda: batches(values))


def test_percentile_is_that_of_numpy() -> None:
    values = np.random.default_rng(1).normal(0, 1, 200_000)
    low, high = METHODS["percentile"](statistics_of(values))
    np.testing.assert_allclose((low, high), np.percentile(values, (0.005, 99.995)), atol=0.01)
    positive = np.abs(values)
    low, high = METHODS["percentile"](statistics_of(positive))
    assert low == 0
    assert high == pytest.approx(np.percentile(positive, 99.99), abs=0.01)


def test_mse_has_the_least_error_of_all_shrunk_ranges() -> None:
    values = np.random.default_rng(2).standard_t(4, 200_000)
    found = statistics_of(values)
    low, high = METHODS["mse"](found)
    errors = [error(values, found.low * part, found.high * part) for part in np.linspace(0.2, 1, 81)]
    assert error(values, low, high) == pytest.approx(min(errors), rel=0.02)
    assert error(values, low, high) < 0.8 * error(values, found.low, found.high)


def test_entropy_cuts_a_long_tail_and_keeps_an_even_distribution() -> None:
    random = np.random.default_rng(3)
    tail = np.append(np.abs(random.normal(0, 1, 200_000)), 40.0)
    assert METHODS["entropy"](statistics_of(tail))[1] < 20
    even = statistics_of(random.uniform(0, 1, 200_000))
    assert METHODS["entropy"](even)[1] > 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [np.zeros(10), np.array([0.0, 3.0]), np.array([-2.0, 0.0]), np.array([-1e-30, 5.0])])
def test_ranges_contain_zero_and_stay_within_the_values(method: str, values: NDArray[np.float64]) -> None:
    low, high = METHODS[method](statistics_of(values))
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)
