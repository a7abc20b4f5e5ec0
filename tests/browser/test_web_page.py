"""The page of cnn-export --web in Chromium: the answers of cnn-infer, verified, usable by everybody, also offline."""

from __future__ import annotations

import base64
import csv
import functools
import http.server
import io
import json
import re
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_export import export
from cnn_export.web.site import ASSETS
from cnn_infer import Classifier, find_pictures
from cnn_train import train
from PIL import Image

ROOT = Path(__file__).parents[2]
FOREIGN = ROOT / "tests" / "infer" / "models" / "foreign.onnx"
MARKUP = "<img src=x onerror='window.name=1'>"
"""The name of a class, and of a file."""

pytestmark = pytest.mark.skipif(not ASSETS.is_dir(), reason="the files of the page are missing: make web")

FOLDER = """export default async (page, view) => {
  await page.waitForSelector("html[data-ready]");
  const status = await page.textContent("#status");
  const certificate = await page.innerText("#certificate");
  await page.setInputFiles("#folder", OTHERS);
  const none = await page.textContent("#status");
  await page.setInputFiles("#folder", FOLDER);
  await page.waitForFunction((count) => document.querySelectorAll("#rows tr").length === count, COUNT);
  const summary = await page.textContent("#summary");
  const [file] = await Promise.all([page.waitForEvent("download"), page.click("#save")]);
  const spoken = await page.textContent("#spoken");
  const { readFileSync } = await import("node:fs");
  const rows = readFileSync(await file.path(), "utf8");
  const marked = await page.evaluate(() => [window.name, document.querySelectorAll("main img").length]);
  const used = await page.textContent("#models tr:first-child td:nth-child(2)");
  const after = await page.textContent("#status");
  return { status, none, after, certificate, used, summary, spoken, rows, marked };
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


MANY = """export default async (page, view) => {
  await page.waitForSelector("html[data-ready]");
  await page.evaluate((count) => {
    const data = Uint8Array.from(atob(DATA), (letter) => letter.charCodeAt(0));
    const files = new DataTransfer();
    for (let i = 0; i < count; i++) files.items.add(new File([data], `${i}.png`));
    const input = document.getElementById("files");
    input.files = files.files;
    input.dispatchEvent(new Event("change"));
  }, 2000);
  await page.waitForSelector("#rows tr");
  await page.focus("#stop");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#stop", { state: "hidden" });
  const stopped = await page.textContent("#summary");
  await page.click("#clear");
  await page.setInputFiles("#files", PICTURES);
  await page.waitForFunction(() => document.querySelectorAll("#rows tr").length === 2);
  return [stopped, await page.textContent("#rows tr:last-child"), await page.textContent("#rows tr")];
}"""

MODELS = """import { readFileSync, rmSync, utimesSync, writeFileSync } from "node:fs";
export default async (page, view) => {
  const file = MODEL;
  const good = readFileSync(file);
  const status = async () => {
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    return page.textContent("#status");
  };
  try {
    const found = [];
    for (const data of [readFileSync(FOREIGN), good.subarray(0, 5000), Buffer.alloc(0)]) {
      writeFileSync(file, data);
      utimesSync(file, 0, found.length * 60); // a server compares whole seconds
      found.push(await status());
    }
    rmSync(file);
    return [...found, await status()];
  } finally {
    writeFileSync(file, good);
  }
}"""

EMBEDDED = """export default async (page, view) => {
  const answers = [];
  for (const picture of PICTURES) {
    await page.waitForSelector("input:enabled");
    await page.setInputFiles("input", picture);
    await page.waitForFunction(() => document.querySelector("#answer").textContent);
    answers.push(await page.textContent("#answer"));
    await page.reload();
  }
  await page.route("**/model.onnx", (route) => route.fulfill({ status: 404 }));
  await page.reload();
  await page.waitForFunction(() => document.querySelector("#answer").textContent);
  return [...answers, await page.textContent("#answer")];
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
    """Pictures of several kinds in folders of classes, damaged ones, and other files, which are left out."""
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
    header = b"IHDR" + struct.pack(">IIBBBBB", 65_535, 65_535, 8, 0, 0, 0, 0)
    huge = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (folder / "plain" / "huge.png").write_bytes(huge)
    for name in ("labels.csv", "Thumbs.db", ".hidden.png", "@eaDir/0.png"):
        (folder / "plain" / name).parent.mkdir(exist_ok=True)
        (folder / "plain" / name).write_bytes((folder / "plain" / "0.png").read_bytes())
    (folder / "plain" / "cut.jpg").write_bytes((folder / MARKUP / "1.jpg").read_bytes()[:200])
    return folder


def test_the_page_gives_the_rows_of_cnn_infer(
    visit: Callable[..., list[Any]], site: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    count = len([*find_pictures([pictures])])
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "labels.csv").touch()
    script = FOLDER.replace("FOLDER", json.dumps(str(pictures)), 1).replace("COUNT", str(count))
    script = script.replace("OTHERS", json.dumps(str(tmp_path / "others")))
    (tmp_path / "folder.mjs").write_text(script)
    views = visit(site[1], script=tmp_path / "folder.mjs", at=[(360, "dark"), (1280, "light")])
    assert len(views) == 2
    for view in views:
        assert (view.violations, view.errors, view.overflow) == ([], [], 0)
        assert all(url.startswith((site[1], f"blob:{site[1]}")) for url in view.requests)
        assert "; verified: this device gives the answers of the export" in view.result["status"]
        assert view.result["none"].startswith("no pictures found: ")
        assert view.result["after"] == view.result["status"]
        assert "accuracy" in view.result["summary"]
        assert view.result["spoken"] == view.result["summary"]
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


def test_a_run_over_many_pictures_can_be_stopped_and_the_page_stays_usable(
    visit: Callable[..., list[Any]], site: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    small, huge = pictures / "plain" / "2.png", pictures / "plain" / "huge.png"
    script = MANY.replace("DATA", json.dumps(base64.b64encode(small.read_bytes()).decode()))
    (tmp_path / "many.mjs").write_text(script.replace("PICTURES", json.dumps([str(small), str(huge)])))
    (view,) = visit(site[1], script=tmp_path / "many.mjs", at=[(360, "dark")])
    stopped, first, second = view.result
    count, total = (int(number.replace(",", "")) for number in stopped.split(" pictures")[0].split(" of "))
    assert count == total < 2000
    assert first.startswith("2.png")
    assert "65535 x 65535 pixels exceed the limit" in second
    assert (view.violations, view.errors) == ([], [])


def test_a_model_that_cannot_be_used_is_named_in_one_line(
    visit: Callable[..., list[Any]], site: tuple[Path, str], tmp_path: Path
) -> None:
    model = site[0] / "page" / "models" / "model.onnx"
    script = MODELS.replace("MODEL", json.dumps(str(model))).replace("FOREIGN", json.dumps(str(FOREIGN)))
    (tmp_path / "models.mjs").write_text(script)
    (view,) = visit(site[1], script=tmp_path / "models.mjs", at=[(360, "light")])
    foreign, cut, empty, missing = view.result
    for found in view.result:
        assert found.startswith("the model cannot be opened: models/model.onnx")
        assert "\n" not in found
    assert "not a model that cnn-export wrote" in foreign
    assert "damaged" in cut
    assert "not a model that cnn-export wrote" in empty
    assert "cannot be fetched (404)" in missing


def test_the_reader_in_another_page_as_the_documentation_shows(
    visit: Callable[..., list[Any]], site: tuple[Path, str], pictures: Path, tmp_path: Path
) -> None:
    (example,) = re.findall(r"```text\n(<!doctype html>.*?)```", (ROOT / "docs" / "web-page.md").read_text(), re.S)
    (site[0] / "page" / "own.html").write_text(example)
    picture, empty = pictures / "plain" / "0.png", pictures / "plain" / "empty.png"
    (tmp_path / "own.mjs").write_text(EMBEDDED.replace("PICTURES", json.dumps([str(picture), str(empty)])))
    (view,) = visit(site[1] + "own.html", script=tmp_path / "own.mjs", at=[(360, "light")])
    answer, damaged, missing = view.result
    assert "empty" in damaged
    assert missing == "models/model.onnx cannot be fetched (404)"
    label, probability = answer.rsplit(": ", 1)
    expected = Classifier(site[0] / "run" / "model.onnx").predict(picture)
    assert label == expected.label
    assert float(probability) == pytest.approx(expected.probability, abs=1e-3)
