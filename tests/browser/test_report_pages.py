"""The pages of --html in Chromium: no violation of axe-core, no request, no error, nothing wider than the window."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_train import compare, train
from cnn_train.page.comparison_page import write_comparison
from cnn_train.page.training_page import write_page
from PIL import Image

MODELS = Path(__file__).parents[1] / "infer" / "models"

KEYS = """export default async (page) => {
  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.textContent);
  await page.locator("summary").first().focus();
  await page.keyboard.press("Enter");
  const opened = await page.evaluate(() => document.querySelector("details").open);
  await page.evaluate(() => document.querySelectorAll("details").forEach((part) => (part.open = true)));
  return [first, opened, await page.evaluate(() => window.name)];
}"""
"""The first stop of the keyboard, and whether Enter opens a table; then all are opened for axe-core."""


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The page of a run over pictures, some with names that are markup, of a training, and of a comparison."""
    folder = tmp_path_factory.mktemp("pages")
    random = np.random.default_rng(0)
    for name in ("red", "green", "blue", "grey"):
        (folder / "in" / name).mkdir(parents=True)
        for number in range(6):
            pixels = random.integers(0, 256, (40, 60, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "in" / name / f"{number}<img src=x onerror='window.name=1'>.png")
    (folder / "in" / "red" / "broken\u202e.png").write_bytes(b"")
    options = ("--model", str(MODELS / "rgb.onnx"), "--output", "rows", "--threshold", "0.3", "--html", "run.html")
    subprocess.run([sys.executable, "-m", "cnn_infer", "in", *options], cwd=folder, check=True, capture_output=True)
    runs = [train("digits", model="nano", epochs=1, seed=0, lr=rate, out=folder / f"{rate}") for rate in (0.01, 0.02)]
    write_page(runs[0], folder / "training.html")
    networks = [run.path for run in runs]
    write_comparison(compare(networks), folder / "comparison.html", networks)
    return [folder / name for name in ("run.html", "training.html", "comparison.html")]


def test_axe_core_finds_nothing_and_nothing_is_requested(
    visit: Callable[..., list[Any]], pages: list[Path], tmp_path: Path
) -> None:
    """The pages of training and comparison are made of the parts of the first: two of the four views are enough."""
    (tmp_path / "keys.mjs").write_text(KEYS)
    options = {"offline": True, "script": tmp_path / "keys.mjs"}
    views = [*visit(pages[0], **options), *visit(*pages[1:], **options, at=[(360, "dark"), (1280, "light")])]
    assert len(views) == 8
    for view in views:
        assert (view.violations, view.errors, view.overflow) == ([], [], 0), (view.target, view.width, view.scheme)
        assert view.requests == [view.target]
        assert view.result == ["Skip to the content", True, ""]


def test_the_tables_of_a_comparison_fit_a_window_of_1100_pixels(
    visit: Callable[..., list[Any]], pages: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "wide.mjs").write_text(
        "export default (page) => page.evaluate(() => [...document.querySelectorAll('.scroll')]"
        ".filter((part) => part.scrollWidth > part.clientWidth).map((part) => part.ariaLabel));"
    )
    (view,) = visit(pages[2], script=tmp_path / "wide.mjs", at=[(1100, "light")])
    assert view.result == []
