"""benchmarks/memory.py trains for real, first without and then with a memory limit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")
def test_the_second_run_has_more_pictures_under_a_limit(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pets" / split / name / f"{number}.png")
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, str(SCRIPT), "pets", "--times", "1", "2", "--spare", "4096", "--output", "memory.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "memory.json").read_text())
    few, many = found["rows"]
    assert (few["pictures"], many["pictures"], few["pixels"]) == (32, 64, "8 x 8")
    assert (few["limit_mb"], many["limit_mb"]) == (None, few["data_mb"] + 4096)
    for row in (few, many):
        assert row["decoded_mb"] > row["pictures"] * 8 * 8 * 3 / (1 << 20)
        assert 50 < row["anonymous_mb"] < row["resident_mb"]
        assert row["anonymous_mb"] < row["data_mb"]
    assert many["data_mb"] <= many["limit_mb"]
    assert found["bytes_per_picture"] == (many["anonymous_mb"] - few["anonymous_mb"]) * (1 << 20) / 32
    assert len(list((tmp_path / "pets").rglob("*.png"))) == 32
    assert not list((tmp_path / "temporary").rglob("*.png"))
