"""``cnn-infer --html``: the page has the figures of the report, and nothing in a name becomes markup."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cnn_infer import Classifier
from cnn_infer.highlights import MOST_MISTAKES
from cnn_infer.page.pictures import SIDE, thumbnail
from html_page import Page, assert_self_contained
from PIL import Image

pytest.importorskip("jinja2")

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
COLOURS = {"red": (220, 10, 10), "green": (10, 220, 10), "blue": (10, 10, 220), "grey": (120, 120, 120)}
MARKUP = "<img src=x onerror=alert(1)>"
SCRIPT = "\"'</style><script>alert(2)<"
BIDI = "right\u202etfel"


@pytest.fixture
def folder(tmp_path: Path, picture: Callable[..., Path]) -> Path:
    """Five red and four blue pictures, of which one red is shown in blue and one blue in grey; one file is broken."""
    for number, shown in enumerate(["red", "red", "red", "red", "blue"]):
        picture(tmp_path / "in" / "red" / f"{number}.png", COLOURS[shown], (30, 20))
    for number, shown in enumerate(["blue", "blue", "blue", "grey"]):
        picture(tmp_path / "in" / "blue" / f"{number}.png", COLOURS[shown], (300, 200))
    (tmp_path / "in" / "red" / "broken.png").write_bytes(b"")
    return tmp_path / "in"


def test_the_page_has_the_figures_of_the_report(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    done = cli("in", "--model", models / "rgb.onnx", "--html", "page.html", "--report", "report.json", "--output", "o")
    assert b"wrote page.html" in done.stderr
    page, report = Page(tmp_path / "page.html"), json.loads((tmp_path / "report.json").read_text())
    assert_self_contained(page)
    assert report["accuracy"] == pytest.approx(7 / 9)
    assert page.heading == "77.78% of 9 labelled pictures are classified correctly"
    assert "95% confidence interval 45.26% to 93.68% (Wilson)" in page.text
    assert f"{report['macro_f1']:.4f}" in page.text
    assert f"{report['calibration']['ece']:.4f}" in page.text
    assert f"{report['images_per_second']:,.0f}/s" in page.text
    assert page.rows["classes"][1:] == [
        ["blue", "", "75.00%", "30.1% to 95.4%", "75.00%", "0.7500", "4"],
        ["red", "", "80.00%", "37.6% to 96.4%", "100.00%", "0.8889", "5"],
    ]
    shown = [row[1:] for row in page.rows["confusion"][1:5]]
    assert shown == [[str(count) for count in row] for row in report["confusion"]]
    assert page.rows["confusion"][6:] == [["red", "blue", "1", "20.00%"], ["blue", "grey", "1", "25.00%"]]
    bins = [row for row in report["calibration"]["bins"] if row["count"]]
    reliability = [row for row in page.rows["confidence"] if len(row) == 4][1:]
    assert [(row[0], row[3]) for row in reliability] == [
        (f"{entry['confidence']:.1%}", str(entry["count"])) for entry in bins
    ]
    assert page.rows["confidence"][-1][2:4] == ["2 of 9", "22.22%"]
    assert page.rows["unreadable"][1:] == [["in/red/broken.png", "the file is empty"]]
    assert page.rows["speed"][-1][2] == f"{report['latency_ms']['total']['mean']:.3f}"
    assert report["machine"] in page.text
    assert "classes without a picture: green, grey" in page.text
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [(one["alt"], one["width"], one["height"]) for one in pictures] == [
        ("in/red/4.png", "30", "20"),
        ("in/blue/3.png", "160", "107"),
    ]


def test_without_labels_the_least_sure_pictures_are_shown(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    cli("in", "--model", models / "rgb.onnx", "--html", "page.html", "--labels", "none", "--output", "o")
    page = Page(tmp_path / "page.html")
    assert_self_contained(page)
    assert page.heading == "9 pictures classified, without labels"
    assert len([tag for tag, _ in page.elements if tag == "img"]) == 9
    assert not {"classes", "confusion", "mistakes"} & {*page.attributes("id")}


def test_one_picture_is_no_plural(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    run = ("--model", models / "rgb.onnx", "--html", "page.html", "--output", "o", "--threads", "1")
    for options, title, heading in (
        (("--labels", "none"), "1 picture classified", "1 picture classified, without labels"),
        ((), "100.00% accuracy on 1 picture", "100.00% of 1 labelled picture is classified correctly"),
    ):
        cli("in/red/0.png", "in/red/broken.png", *run, *options)
        page = Page(tmp_path / "page.html")
        assert f"<title>{title}</title>" in (tmp_path / "page.html").read_text()
        assert page.heading == heading
        assert "on 1 thread" in page.text
        assert "1 of 2 files could not be read." in page.text


def test_mistakes_have_their_evidence_where_the_model_has_it(
    folder: Path, models: Path, tmp_path: Path, cli: Run
) -> None:
    classes = Classifier(models / "optional.onnx").spec.classes
    rows = [{"file_name": f"in/red/{number}.png", "label": name} for number, name in enumerate(classes)]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli("in/red", "--model", models / "optional.onnx", "--truth", "truth.jsonl", "--html", "page.html", "--output", "o")
    page = Page(tmp_path / "page.html")
    assert_self_contained(page)
    pictures = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [one["class"] == "evidence" for one in pictures] == [False, True] * (len(classes) - 1)
    assert str(pictures[1]["alt"]).startswith("evidence for ")
    assert int(pictures[1]["width"] or 0) > 2 * int(pictures[0]["width"] or 0)


def test_names_never_become_markup(
    models: Path, tmp_path: Path, cli: Run, picture: Callable[..., Path], with_metadata: Callable[..., bytes]
) -> None:
    spec = json.loads(Classifier(models / "grey.onnx").spec.to_json())
    spec["classes"] = [MARKUP, SCRIPT, BIDI]
    spec["details"]["precision"] = MARKUP
    (tmp_path / f"{MARKUP}.onnx").write_bytes(with_metadata("grey.onnx", "cnn.spec", json.dumps(spec)))
    names = [f"{MARKUP}.png", "quotes\"'`.png", f"{BIDI}.png", "newline\n.png"]
    for name in names:
        picture(tmp_path / "in" / name, 250, mode="L")
    (tmp_path / "in" / "<script>broken.png").write_bytes(b"")
    rows = [{"file_name": f"in/{name}", "label": MARKUP} for name in names]
    (tmp_path / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cli("in", "--model", f"{MARKUP}.onnx", "--truth", "truth.jsonl", "--html", "page.html", "--output", "o")
    page = Page(tmp_path / "page.html")
    assert_self_contained(page)
    assert {f"in/{MARKUP}.png", "in/quotes\"'`.png", "in/right\\u202etfel.png", "in/newline\\n.png"} == {
        attributes["alt"] for tag, attributes in page.elements if tag == "img"
    }
    assert all(name in page.text for name in (MARKUP, SCRIPT, "right\\u202etfel", "<script>broken.png"))
    assert "\u202e" not in (tmp_path / "page.html").read_text()


def test_a_resumed_run_has_the_page_of_a_whole_one(folder: Path, models: Path, tmp_path: Path, cli: Run) -> None:
    """A run is interrupted after each row in turn; its page then differs in times only."""
    options = ("in", "--model", models / "rgb.onnx", "--format", "csv", "--output", "o", "--threads", "1")
    cli(*options, "--html", "whole.html")
    interrupted = (
        "import os, sys\nfrom cnn_infer.command import growing_file\ngrowing_file.SAVE_SECONDS = 0\n"
        "save, rows = growing_file.GrowingFile.save, [0]\n"
        "def stop(self, counted):\n    save(self, counted)\n    rows[0] += 1\n    rows[0] < 6 or os._exit(9)\n"
        "growing_file.GrowingFile.save = stop\nfrom cnn_infer.__main__ import main; main()"
    )
    command = [sys.executable, "-c", interrupted, *map(str, options)]
    for html, code in ((["--html", "page.html"], 0), ([], 2)):
        assert subprocess.run([*command, *html], cwd=tmp_path, check=False, capture_output=True).returncode == 9
        done = cli(*options, "--html", "page.html", "--resume", code=code)
        if code:
            assert b"started without --html: leave it out" in done.stderr
            continue
        whole, page = Page(tmp_path / "whole.html"), Page(tmp_path / "page.html")
        assert {**whole.rows, "speed": []} == {**page.rows, "speed": []}
        assert whole.attributes("src") == page.attributes("src")


def test_the_package_of_templates_is_asked_for_by_name(folder: Path, models: Path, tmp_path: Path) -> None:
    script = "import sys; sys.modules['jinja2'] = None\nfrom cnn_infer.__main__ import main; main()"
    command = [sys.executable, "-c", script, "in", "--model", str(models / "rgb.onnx"), "--html", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "cnn-infer: --html needs the package jinja2: pip install 'cnn-infer[report]'\n"
    assert not (tmp_path / "page.html").exists()


def test_the_pictures_of_a_page_fit_into_five_megabytes_even_if_they_are_noise() -> None:
    """The rest of a page is bounded by its lists: 200 classes, 50 unreadable files, 30 pairs."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, 2 * SIDE, 3), np.uint8))
    picture, evidence = thumbnail(noise.crop((0, 0, SIDE, SIDE))), thumbnail(noise, 2 * SIDE)
    assert (picture.width, evidence.width) == (SIDE, 2 * SIDE)
    assert MOST_MISTAKES * (len(picture.uri) + len(evidence.uri)) < 4_500_000


def test_without_a_page_its_package_and_jinja_are_not_loaded(folder: Path, models: Path, tmp_path: Path) -> None:
    script = (
        "import sys\nfrom cnn_infer.__main__ import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('jinja2', 'cnn_infer.page') if name in sys.modules])"
    )
    for options, loaded in (((), "[]"), (("--html", "page.html"), "['jinja2', 'cnn_infer.page']")):
        command = [sys.executable, "-c", script, "in", "--model", str(models / "rgb.onnx"), "--output", "o", *options]
        done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
        assert done.stdout.strip() == loaded


def test_the_limits_of_the_run_are_those_of_the_page(models: Path, tmp_path: Path, cli: Run) -> None:
    Image.new("L", (12_600, 8_000), 128).save(tmp_path / "large.jpg")
    cli(
        "large.jpg", "--model", models / "rgb.onnx", "--html", "page.html", "--output", "o", "--max-pixels", "200000000"
    )
    assert [attributes["alt"] for tag, attributes in Page(tmp_path / "page.html").elements if tag == "img"] == [
        "large.jpg"
    ]
