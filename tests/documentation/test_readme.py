"""The README keeps what it promises, and each of its commands and programs runs as it stands there."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_starts_with_the_two_commands() -> None:
    assert len(README.splitlines()) <= 120
    first = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 12
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_each_promise_of_security_names_a_test_that_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| ([A-Z].*?) \| (`.*`) \|$", text, re.M)
    assert len(promises) > 10
    named = [path for _, tests in promises for path in re.findall(r"`([^`]+)`", tests)]
    assert [path for path in named if not (ROOT / path).is_file()] == []


def test_every_block_is_run(blocks: Callable[[str], list[Any]], readme: Any) -> None:
    assert set(readme.printed) == {block.body for block in blocks("README.md")}
    assert len(readme.printed) == 3


def test_the_demo_trains_exports_and_classifies(readme: Any) -> None:
    printed = readme.of("make demo")
    assert "parity         passed" in printed
    assert re.search(r"accuracy 9\d\.\d+%|accuracy 100\.00%", printed)
    assert float(re.findall(r"^accuracy ([\d.]+)%", printed, re.M)[0]) > 95
    assert "macro F1" in printed
    assert "ms a picture" in printed
    files = {path.name for path in (readme.folder / "demo" / "run").iterdir()}
    assert {"curves.png", "confusion.png", "mistakes.png", "samples.png", "model.onnx"} <= files


def test_the_demo_does_not_train_twice(run_page: Callable[[str], Any]) -> None:
    again = run_page("docs/tutorial.md").of("make demo\n")
    assert "cnn-infer" in again
    assert "cnn-train" not in again.split("$ cnn-infer")[0]


def test_the_three_commands_write_a_row_for_each_picture(readme: Any) -> None:
    rows = (readme.folder / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + len(list(readme.folder.glob("photos-test/*/*.png"))) > 1
    assert json.loads((readme.folder / "report.json").read_text())["accuracy"] == 1.0
    assert list(readme.folder.glob("runs/*-photos/model.onnx"))


def test_the_program_prints_four_lines(readme: Any) -> None:
    assert readme.of("from cnn_infer import Classifier").count("\n") == 4
