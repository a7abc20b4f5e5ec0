"""One small network, trained once for all tests of export, and a fresh copy of its run folder for each."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from cnn_train import Run, train
from PIL import Image


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
