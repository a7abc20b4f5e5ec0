"""Every command and every program in the README runs as it stands there, in a folder as a reader would have it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parents[2]
README = (REPOSITORY / "README.md").read_text()
BLOCKS = {body.splitlines()[0]: body for body in re.findall(r"^```(?:sh|python)\n(.*?)^```$", README, re.M | re.S)}

MAKE = "make demo    # from a clean clone: environment, training on real digits, int8, inference"
THREE = "cnn-train --test-pictures pictures"
PHOTOS = "cnn-train photos --size 96 --epochs 30 --model nano --test-pictures photos-test"
WHEEL = "python3 -m pip wheel --no-deps --wheel-dir dist ./infer"
BOX = "python3 -m venv edge && . edge/bin/activate"
EMBED = "from cnn_infer import Classifier"
PYTHON = "from cnn_export import export"


def run(
    command: list[str], folder: Path, scripts: Path = Path(sys.executable).parent
) -> subprocess.CompletedProcess[str]:
    """Run in ``folder`` with an empty home and our commands first on the path."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    path = f"{scripts}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def shell(block: str, folder: Path, scripts: Path = Path(sys.executable).parent) -> str:
    done = run(["bash", "-e", "-c", block], folder, scripts)
    return done.stdout + done.stderr


def photograph(path: Path, seed: int, colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(seed).integers(-50, 50, (90, 120, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The README's three commands, run once; the folder and what they said."""
    folder = tmp_path_factory.mktemp("readme")
    return folder, shell(BLOCKS[THREE], folder)


def test_every_block_is_run_here() -> None:
    assert set(BLOCKS) == {MAKE, THREE, PHOTOS, WHEEL, BOX, EMBED, PYTHON}
    assert "@@" not in README


def test_the_three_commands(exported: tuple[Path, str]) -> None:
    folder, said = exported
    assert "parity         passed" in said
    accuracy = float(re.findall(r"^accuracy ([\d.]+)%", said, re.M)[0])
    assert accuracy > 95
    (found,) = folder.glob("runs/*-digits")
    assert {"curves.png", "confusion.png", "mistakes.png", "samples.png", "model.onnx"} <= {
        p.name for p in found.iterdir()
    }


def test_a_folder_of_photographs(tmp_path: Path) -> None:
    for number in range(12):
        photograph(tmp_path / "photos" / "warm" / f"{number}.jpg", number, (200, 80, 60))
        photograph(tmp_path / "photos" / "cold" / f"{number}.jpg", number, (60, 80, 200))
    shell(BLOCKS[PHOTOS], tmp_path)
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(list(tmp_path.glob("photos-test/*/*.png")))
    assert (tmp_path / "report.json").exists()


def test_on_the_box(exported: tuple[Path, str], tmp_path: Path) -> None:
    """In a bare environment: the wheel alone, without PyTorch and onnx."""
    (model,) = exported[0].glob("runs/*/model.onnx")
    (tmp_path / "model.onnx").write_bytes(model.read_bytes())
    (tmp_path / "infer").symlink_to(REPOSITORY / "infer")
    shell(BLOCKS[WHEEL], tmp_path)
    said = shell(BLOCKS[BOX], tmp_path)
    scripts = tmp_path / "edge" / "bin"
    assert "golden pictures agree" in said
    assert "\nclasses " in said
    missing = (
        "import importlib.util as u; print([m for m in ('torch', 'onnx', 'sklearn', 'matplotlib') if u.find_spec(m)])"
    )
    assert run([str(scripts / "python3"), "-c", missing], tmp_path, scripts).stdout.strip() == "[]"
    photograph(tmp_path / "photo.jpg", 0, (10, 200, 90))
    assert run([str(scripts / "python3"), "-c", BLOCKS[EMBED]], tmp_path, scripts).stdout.count("\n") == 4


def test_training_and_export_from_python(tmp_path: Path) -> None:
    said = run([sys.executable, "-c", BLOCKS[PYTHON]], tmp_path).stdout.splitlines()[-1].split()
    assert float(said[0]) > 0.8
    assert float(said[1]) <= 1e-4
    assert float(said[2]) == pytest.approx(float(said[0]), abs=0.02)


def test_make_demo(tmp_path: Path) -> None:
    """The demo itself; the environment it would make is the one that runs this test."""
    ready = Path(sys.prefix) / "ready"
    said = run(
        ["make", "-C", str(REPOSITORY), "-o", str(ready), f"VENV={sys.prefix}", f"DEMO={tmp_path / 'demo'}", "demo"],
        tmp_path,
    ).stdout
    assert re.search(r"accuracy 9\d\.\d+%|accuracy 100\.00%", said)
    assert "macro F1" in said
    assert "ms a picture" in said
    again = run(
        ["make", "-C", str(REPOSITORY), "-o", str(ready), f"VENV={sys.prefix}", f"DEMO={tmp_path / 'demo'}", "demo"],
        tmp_path,
    ).stdout
    assert "cnn-train" not in again.split("$ cnn-infer")[0]


def test_benchmark_of_latency(exported: tuple[Path, str], tmp_path: Path) -> None:
    """The script behind the README's figures runs, and its report names the machine."""
    (model,) = exported[0].glob("runs/*/model.onnx")
    script = REPOSITORY / "benchmarks" / "latency.py"
    run([sys.executable, str(script), str(model), "--output", str(tmp_path / "latency.json")], tmp_path)
    report = json.loads((tmp_path / "latency.json").read_text())
    assert report["machine"]
    assert {row["batch"] for row in report["rows"]} == {1, 32}
    assert all(0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in report["rows"])
