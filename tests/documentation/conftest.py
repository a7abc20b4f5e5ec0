"""Runs the blocks of the README and of the pages, in order, in a folder as a reader would have it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^(?:<!-- not run: (?P<reason>[^\n]*) -->\n)?```(?P<kind>\S*)\n(?P<body>.*?)^```$", re.M | re.S)
ITSELF = re.compile(r"^make test\b.*\n", re.M)
"""The suite that runs the block: the only line of a block that is left out."""

CLONE = ("Makefile", "benchmarks", "examples", "infer", "train", "export", "requirements-dev.txt")
CLASSES = {"warm": (200, 80, 60), "cold": (60, 80, 200)}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``reason`` says why it is not run, and is empty for one that is."""

    kind: str
    body: str
    reason: str


@dataclass
class Page:
    """A page that was run: where, and what each of its blocks printed."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def of(self, start: str) -> str:
        """What the block that starts so printed."""
        (found,) = [text for body, text in self.printed.items() if body.startswith(start)]
        return found


def blocks_of(page: str) -> list[Block]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [Block(found["kind"], found["body"], found["reason"] or "") for found in FENCE.finditer(text)]


def photograph(path: Path, seed: int, colour: tuple[int, int, int]) -> None:
    noise = np.random.default_rng(seed).integers(-50, 50, (45, 60, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


@pytest.fixture(scope="session")
def blocks() -> Callable[[str], list[Block]]:
    return blocks_of


@pytest.fixture(scope="session")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a block of shell commands in a folder, with an empty home and our commands first on the path."""
    home = tmp_path_factory.mktemp("home")

    def call(block: str, folder: Path, scripts: Path = Path(sys.executable).parent, before: str = "") -> str:
        environment = {
            **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
            "HOME": str(home),
            "XDG_CACHE_HOME": str(home),
            "PATH": f"{before}{scripts}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        done = subprocess.run(
            ["bash", "-e", "-c", block], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return call


@pytest.fixture(scope="session")
def readme(tmp_path_factory: pytest.TempPathFactory, shell: Callable[..., str]) -> Page:
    """The README, run once: the demo, the three commands, the program."""
    folder = tmp_path_factory.mktemp("readme")
    for name in CLONE:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()  # the environment that runs this test is the one that make would set up
    for part in Path(sys.prefix).iterdir():
        if part.name != "ready":
            (folder / ".venv" / part.name).symlink_to(part)
    ready = folder / ".venv" / "ready"
    ready.touch()
    tomorrow = time.time() + 86_400  # make must not install anything, even if a pyproject.toml is edited meanwhile
    os.utime(ready, (tomorrow, tomorrow))
    for name, colour in CLASSES.items():
        for number in range(40):
            photograph(folder / "photos" / name / f"{number}.jpg", number, colour)
    photograph(folder / "photo.jpg", 0, CLASSES["warm"])
    page = Page(folder)
    for block in blocks_of("README.md"):
        _run(block, page, shell)
        model = folder / "demo" / "run" / "model.onnx"
        if model.exists():
            shutil.copy2(model, folder)
    return page


@pytest.fixture(scope="session")
def run_page(
    tmp_path_factory: pytest.TempPathFactory, readme: Page, shell: Callable[..., str], forking_scripts: Path
) -> Callable[[str], Page]:
    """Run a page in a copy of the README's folder, once; what the README has as well is not run again.

    The README runs the installed commands. On pages, cnn-train and cnn-export fork from a process that has imported
    PyTorch, which saves seconds for each.
    """
    forking = partial(shell, before=f"{forking_scripts}{os.pathsep}")
    done: dict[str, Page] = {}

    def call(name: str) -> Page:
        if name not in done:
            page = done[name] = Page(tmp_path_factory.mktemp("page") / "clone")
            shutil.copytree(readme.folder, page.folder, symlinks=True)
            for block in blocks_of(name):
                if block.body in readme.printed:
                    page.printed[block.body] = readme.printed[block.body]
                else:
                    _run(block, page, forking)
        return done[name]

    return call


def _run(block: Block, page: Page, shell: Callable[..., str]) -> None:
    if block.reason or block.kind not in ("sh", "python"):
        return
    if block.kind == "python":
        (page.folder / "block.py").write_text(block.body, encoding="utf-8")
        page.printed[block.body] = shell("python block.py", page.folder)
    else:
        page.printed[block.body] = shell(ITSELF.sub("", block.body), page.folder)
