"""Each command and program of the README and the pages in docs/ runs as it stands there.

All in one file: the README runs once, in the process that runs this file.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cnn_export.int8.targets import TARGETS
from cnn_export.int8.verdict import MAX_DROP, MAX_FLIPS, MIN_SPEEDUP
from cnn_infer import Spec, open_model
from cnn_infer.rows import FIELDS
from cnn_infer.run_files import EXPORT_FILES, TRAINING_FILES

ROOT = Path(__file__).parents[2]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
NOT_RUN = {
    "docs/certified.md": ["tests/export/test_guarantee.py and tests/infer/test_guarantee.py run it"],
    "docs/cluster.md": [
        "tests/infer/cluster/test_cluster.py runs it on two nodes",
        "needs a cluster on other machines",
        "tests/infer/cluster/test_cluster.py joins parts so",
        "needs a Kubernetes cluster",
    ],
    "docs/commands/cnn-export.md": ["the README runs it", "the data set has not moved"],
    "docs/commands/cnn-infer.md": [
        "it measures for ten seconds; tests/infer/command/test_info.py and tests/infer/test_latency.py run it",
        "it measures for ten seconds; tests/infer/test_judge.py and tests/end_to_end/test_three_commands.py run it",
    ],
    "docs/commands/cnn-train.md": [
        "downloads data or weights, or trains for minutes",
        "nothing was interrupted; tests/train/run/test_resume.py interrupts a training",
        "installs a package",
        "tests/end_to_end/test_comparison.py compares a run with its exported files",
        "starts servers",
        "downloads the weights",
    ],
    "docs/edge-box.md": ["needs Docker; tests/infer/test_wheel.py runs the steps of the file"] * 2,
    "docs/devices.md": ["installs a package; tests/infer/providers/test_openvino.py runs the device"],
    "docs/fp16.md": [
        "tests/export/test_half.py runs it",
        "needs a GPU",
        "needs a GPU; tests/benchmarks/test_gpu.py runs it on the CPU",
    ],
    "docs/int8.md": ["the fine-tuning takes a minute; tests/export/int8/test_simulation.py runs it"],
    "docs/javascript.md": ["installs packages; tests/readers/test_js.py runs the command"],
    "docs/nodes.md": ["needs two machines; tests/train/test_nodes.py runs it with two agents on one"],
    "docs/report.md": [
        "tests/infer/page/test_run_page.py runs it",
        "tests/train/test_pages.py writes these pages",
    ],
    "docs/storage.md": [
        "installs a package",
        "tests/infer/storage/test_command.py runs it with a server on this machine",
    ],
    "docs/serving.md": [
        "it serves until it is stopped; tests/examples/test_server.py runs it",
        "it needs the server; tests/examples/test_server.py sends such requests",
        "needs Docker",
    ],
    "docs/strangers.md": ["tests/export/test_strangers.py and tests/infer/test_strangers.py run it"] * 2,
    "docs/tutorial.md": ["make demo runs them"],
    "docs/web-page.md": ["tests/browser/test_web_page.py writes such a page and opens it in Chromium"],
    "docs/why.md": [
        "tests/export/test_evidence_output.py and tests/infer/command/test_evidence.py run it",
        "tests/infer/test_explanation.py runs it",
    ],
}
"""The blocks that cannot run here, by their reasons: there must not be more of them."""

COMMAND = re.compile(r"^(cnn-\w+|make|pip|python3?|torchrun) ", re.M)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_runs(name: str, blocks: Callable[[str], list[Any]], run_page: Callable[[str], Any]) -> None:
    found = blocks(name)
    assert [block.reason for block in found if block.reason] == NOT_RUN.get(name, [])
    for block in found:
        assert block.kind in ("sh", "python", "text")
        assert block.kind != "text" or not COMMAND.search(block.body), "a command belongs into a block that is run"
    expected = {block.body for block in found if block.kind != "text" and not block.reason}
    if expected:
        assert set(run_page(name).printed) == expected


def test_reasons_name_tests_that_exist() -> None:
    named = [
        path for reasons in NOT_RUN.values() for reason in reasons for path in re.findall(r"tests/\S+\.py", reason)
    ]
    assert named
    assert all((ROOT / path).is_file() for path in named)


def test_files_that_are_shown_have_a_test() -> None:
    tested = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "examples").glob("*.py"))
    shown = [name for page in PAGES for name in re.findall(r"<!-- file: (\S+) -->", (ROOT / page).read_text())]
    assert shown == ["examples/camera.py", "examples/batch_job.py", "examples/server.py"]
    assert all(Path(name).name in tested for name in shown)


def test_a_bare_environment_is_enough_on_the_device(
    run_page: Callable[[str], Any], shell: Callable[..., str], readme: Any
) -> None:
    """The wheel alone, without PyTorch and onnx, verifies the model and runs the README's program."""
    page = run_page("docs/tutorial.md")
    assert "golden pictures agree" in page.of("python3 -m venv edge")
    assert "\nclasses " in page.of("cnn-infer --info")
    scripts = page.folder / "edge" / "bin"
    names = ("torch", "torchvision", "onnx", "sklearn", "matplotlib", "cnn_train", "cnn_export")
    absent = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    (page.folder / "absent.py").write_text(absent)
    assert shell("python absent.py", page.folder, scripts).strip() == "[]"
    (program,) = [body for body in readme.printed if body.startswith("from cnn_infer import Classifier")]
    (page.folder / "program.py").write_text(program)
    assert shell("python program.py", page.folder, scripts).count("\n") == 4


def test_training_and_export_from_python(run_page: Callable[[str], Any]) -> None:
    words = run_page("docs/embedding.md").of("from cnn_export import export").splitlines()[-1].split()
    accuracy, difference, again = map(float, words)
    assert accuracy > 0.8
    assert difference <= 1e-4
    assert again == pytest.approx(accuracy, abs=0.02)


def test_the_contract_names_every_field_and_every_key(readme: Any) -> None:
    text = (ROOT / "docs" / "contract.md").read_text(encoding="utf-8")
    model = open_model(readme.folder / "model.onnx", device="cpu")
    missing = [name for name in ("format", *Spec.__dataclass_fields__, *model.metadata) if f"`{name}`" not in text]
    assert missing == []


@pytest.mark.parametrize(
    ("page", "names"),
    [("cnn-train", TRAINING_FILES), ("cnn-export", EXPORT_FILES), ("cnn-infer", FIELDS)],
    ids=["cnn-train", "cnn-export", "cnn-infer"],
)
def test_a_page_names_all_files_and_fields(page: str, names: tuple[str, ...]) -> None:
    text = (ROOT / "docs" / "commands" / f"{page}.md").read_text(encoding="utf-8")
    assert [name for name in names if f"`{name}`" not in text] == []


def test_the_int8_page_has_the_limits_and_the_targets_of_the_code() -> None:
    text = (ROOT / "docs" / "int8.md").read_text(encoding="utf-8")
    for limit in (f"{MAX_DROP} percentage points", f"at most {MAX_FLIPS:.0%} of", f"at least {MIN_SPEEDUP} times"):
        assert limit in text
    rows = re.findall(r"^\| `(\w+)` \| [^|]* \| (\d bits[^|]*) \| uint8 \|$", text, re.M)
    wanted = [
        (
            target.name,
            f"{7 if target.reduce_range else 8} bits{', limited in pairs' if target.limit_pairs else ''}",
        )
        for target in TARGETS.values()
    ]
    assert rows == wanted


def test_the_benchmark_of_latency_names_the_machine(run_page: Callable[[str], Any]) -> None:
    report = json.loads((run_page("docs/measuring.md").folder / "latency.json").read_text())
    assert report["machine"]
    assert {row["batch"] for row in report["rows"]} == {1, 32}
    assert all(0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"] for row in report["rows"])


def test_every_block_of_the_readme_is_run(blocks: Callable[[str], list[Any]], readme: Any) -> None:
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


def test_the_three_commands_of_the_readme_write_a_row_for_each_picture(readme: Any) -> None:
    rows = (readme.folder / "rows.csv").read_text().splitlines()
    assert len(rows) == 1 + len(list(readme.folder.glob("photos-test/*/*.png"))) > 1
    assert json.loads((readme.folder / "report.json").read_text())["accuracy"] == 1.0
    assert list(readme.folder.glob("runs/*-photos/model.onnx"))


def test_the_program_of_the_readme_prints_four_lines(readme: Any) -> None:
    assert readme.of("from cnn_infer import Classifier").count("\n") == 4
