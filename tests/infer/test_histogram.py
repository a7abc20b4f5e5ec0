"""The percentiles of the histogram are close to those of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from cnn_infer.histogram import Histogram


@pytest.mark.parametrize("shape", ["lognormal", "constant", "tiny and huge"])
def test_percentiles_are_close_to_those_of_numpy(shape: str) -> None:
    random = np.random.default_rng(0)
    values = {
        "lognormal": random.lognormal(0, 1.5, 20_000),
        "constant": np.full(100, 3.7),
        "tiny and huge": np.array([1e-5] * 60 + [1e9] * 40),
    }[shape]
    found = Histogram()
    for value in values:
        found.add(float(value))
    summary = found.summary()
    assert summary["n"] == len(values)
    assert summary["mean"] == pytest.approx(values.mean())
    if shape != "tiny and huge":
        wanted = np.percentile(values, (50, 90, 99), method="inverted_cdf")
        np.testing.assert_allclose([summary[key] for key in ("p50", "p90", "p99")], wanted, rtol=0.006)
    else:
        assert summary["p50"] < 0.002 < summary["p90"]


def test_an_empty_histogram_is_zero() -> None:
    assert Histogram().summary() == {"p50": 0.0, "p90": 0.0, "p99": 0.0, "mean": 0.0, "n": 0}
