"""The page of cnn-export --web in Chromium: the answers of cnn-infer, verified, usable by everybody, also offline."""

from __future__ import annotations

import csv
import functools
import http.server
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_export import export
from cnn_export.web.site import ASSETS
from cnn_infer import Classifier
from cnn_train import train
from PIL import Image

MARKUP = "<img src=x onerror='window.name=1'>"
"""The name of a class, and of a file."""

pytestmark = pytest.mark.skipif(not ASSETS.is_dir(), reason="the files of the page are missing: make web")

FOLDER = """export default async (page, view) => {
  await page.waitForSelector("html[data-ready]");
  const status = await page.textContent("#status");
  const certificate = await page.innerText("#certificate");
  await page.setInputFiles("#folder", FOLDER);
  await page.waitForFunction((count) => document.querySelectorAll("#rows tr").length === count, COUNT);
  const summary = await page.textContent("#summary");
  const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const { readFileSync } = await import("node:fs");
  const rows = readFileSync(await file.path(), "utf8");
  const marked = await page.evaluate(() => [window.name, document.querySelectorAll("main img").length]);
  const used = await page.textContent("#models tr:first-child td:nth-child(2)");
  return { status, certificate, used, summary, rows, marked };
}"""

STATUS = """export default async (page, view) => {
  await page.waitForSelector("html[data-ready]");
  return [await page.textContent("#status"), await page.innerText("#certificate")];
}"""

TWICE = """export default async (page, view) => {
  await page.waitForSelector("html[data-ready]");
  await page.evaluate(() => navigator.serviceWorker.ready);
  await page.waitForFunction(async () => (await (await caches.open((await caches.keys())[0])).keys()).length > 20);
  await page.context().setOffline(true);
  await page.reload();
  await page.waitForSelector("html[data-ready]");
  await page.setInputFiles("#files", PICTURE);
  await page.waitForSelector("#rows tr");
  return [await page.textContent("#status"), await page.textContent("#rows")];
}"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The page of a network of two classes, one of which has a name that is markup; and its address."""
    folder = tmp_path_factory.mktemp("web")
    random = np.random.default_rng(0)
    for number, label in enumerate((MARKUP, "plain")):
        (folder / "data" / label).mkdir(parents=True)
        for picture in range(12):
            pixels = random.integers(100 * number, 100 * number + 120, (12, 12), np.uint8)
            Image.fromarray(pixels).save(folder / "data" / label / f"{picture}.png")
    run = train(folder / "data", model="nano", size=8, epochs=2, out=folder / "run")
    export(run, quantize=True, search_seconds=0, max_drop=100)
    if not (run.path / "model.int8.onnx").exists():  # too slow on this machine to ship
        (run.path / "model.int8.rejected.onnx").rename(run.path / "model.int8.onnx")
    subprocess.run([sys.executable, "-m", "cnn_export", "run", "--web", "page"], cwd=folder, check=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder / "page"))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def pictures(site: tuple[Path, str]) -> Path:
    """Pictures of several kinds in folders of classes, and damaged ones."""
    folder = site[0] / "pictures"
    random = np.random.default_rng(0)
    for number, (label, size) in enumerate(
        [("plain", (40, 60)), (MARKUP, (90, 20)), ("plain", (8, 8)), (MARKUP, (300, 200))]
    ):
        (folder / label).mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{number}.{('png', 'jpg')[number % 2]}")
    (folder / "plain" / f"{MARKUP}.png").write_bytes((folder / "plain" / "0.png").read_bytes())
    (folder / "plain" / "empty.png").write_bytes(b"")
    (folder / "plain" / "cut.jpg").write_bytes((folder / MARKUP / "1.jpg").read_bytes()[:200])
    return folder


def test_the_page_gives_the_rows_of_cnn_infer(
    visit: Callable[..., list[Any]], site: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    files = [path for path in pictures.rglob("*") if path.is_file()]
    script = FOLDER.replace("FOLDER", json.dumps(str(pictures)), 1).replace("COUNT", str(len(files)))
    (tmp_path / "folder.mjs").write_text(script)
    views = visit(site[1], script=tmp_path / "folder.mjs")
    assert len(views) == 4
    for view in views:
        assert (view.violations, view.errors, view.overflow) == ([], [], 0)
        assert all(url.startswith((site[1], f"blob:{site[1]}")) for url in view.requests)
        assert "; verified: this device gives the answers of the export" in view.result["status"]
        assert "accuracy" in view.result["summary"]
        assert view.result["marked"] == ["", 1]
    used = "page/" + views[0].result["used"]
    command = [sys.executable, "-m", "cnn_infer", "pictures", "--format", "csv", "--model", used]
    done = subprocess.run(command, cwd=site[0], capture_output=True, text=True, check=True)
    expected, found = (
        {row["path"]: row for row in csv.DictReader(io.StringIO(text))}
        for text in (done.stdout, views[0].result["rows"])
    )
    assert expected.keys() == found.keys()
    for path, row in expected.items():
        assert bool(row["error"]) == bool(found[path]["error"])
        assert row["label"] == found[path]["label"]
        if not row["error"]:
            assert abs(float(row["probability"]) - float(found[path]["probability"])) < 1e-3


def test_a_second_visit_needs_no_network(
    visit: Callable[..., list[Any]], site: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    picture = pictures / "plain" / "0.png"
    (tmp_path / "twice.mjs").write_text(TWICE.replace("PICTURE", json.dumps(str(picture))))
    (view,) = visit(site[1], script=tmp_path / "twice.mjs", at=[(360, "dark")])
    assert "verified" in view.result[0]
    assert Classifier(site[0] / "run" / "model.onnx").predict(picture).label in view.result[1]


def test_a_reader_with_a_fault_says_that_it_is_not_verified_and_in_which_stage(
    visit: Callable[..., list[Any]], site: tuple[Path, str], tmp_path: Path
) -> None:
    module = site[0] / "page" / "reader" / "lib" / "resample.js"
    text = module.read_text()
    faulty = text.replace("1 << (PRECISION_BITS - 1)", "0")  # sums are rounded down
    assert faulty != text
    (tmp_path / "status.mjs").write_text(STATUS)
    try:
        module.write_text(faulty)
        (view,) = visit(site[1], script=tmp_path / "status.mjs", at=[(360, "light")])
    finally:
        module.write_text(text)
    status, certificate = view.result
    assert "NOT verified" in status
    assert ", resize: " in certificate
