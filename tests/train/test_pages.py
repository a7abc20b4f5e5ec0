"""``cnn-train --html``: the page of a training has the figures of its report; the page of a comparison its table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from cnn_train import Run, compare, train
from cnn_train.cli import command
from cnn_train.compared import open_compared, read_test
from cnn_train.page.comparison_page import write_comparison
from cnn_train.page.training_page import write_page
from html_page import Page, assert_self_contained


@pytest.fixture(scope="module")
def page(finished: Run, tmp_path_factory: pytest.TempPathFactory) -> Page:
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(finished, file)
    return Page(file)


def test_the_page_has_the_figures_of_the_report(page: Page, finished: Run) -> None:
    assert_self_contained(page)
    test = finished.report["test"]
    low, high = test["accuracy_interval"]
    assert page.heading == f"{test['accuracy']:.2%} of {test['images']:,} test pictures are classified correctly"
    assert f"95% confidence interval {low:.2%} to {high:.2%} (Wilson)" in page.text
    assert f"{test['macro_f1']:.4f}" in page.text
    assert f"{test['calibration']['ece']:.4f}" in page.text  # computed again for the page
    assert [row[1:] for row in page.rows["confusion"][1:11]] == [[str(n) for n in row] for row in test["confusion"]]
    shown = {row[0]: (row[2], row[5], row[6]) for row in page.rows["classes"][1:]}
    assert shown == {
        name: (f"{row['recall']:.2%}", f"{row['f1']:.4f}", str(row["support"]))
        for name, row in test["per_class"].items()
    }
    assert [row[:3] for row in page.rows["curves"][1:]] == [
        [str(epoch.epoch), f"{epoch.train_loss:.4f}", f"{epoch.val_loss:.4f}"] for epoch in finished.epochs
    ]
    wrong = test["images"] - test["correct"]
    assert len([tag for tag, _ in page.elements if tag == "img"]) == min(50, wrong) > 0
    assert page.rows["confidence"][-1][2] == f"{wrong:,} of {test['images']:,}"


def test_int8_and_the_pictures_that_it_answers_differently(finished: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)
    split = {"images": 179, "accuracy_fp32": 0.9, "accuracy_int8": 0.8, "lost": 3, "won": 1, "flips": 4}
    flip = {"from": 1, "to": 2, "confidence_before": 0.625, "confidence_after": 0.5}
    exported = {
        "ship": "model.onnx",
        "machine": "a machine",
        "fp32": {"file": "model.onnx", "bytes": 1234567, "accuracy": 0.9},
        "parity": {"images": 179, "probabilities": {"max": 1e-6}, "tolerance": 1e-4, "flips": []},
        "calibration": {"fp32": {"ece": 0.0125, "brier": 0.25}, "int8": None},
        "guarantee": {"fp32": {"text": "at most 1.0% wrong"}, "int8": {"refused": "too few pictures"}},
        "int8": {
            "file": "model.int8.rejected.onnx",
            "bytes": 1000,
            "recipe": "minmax",
            "target": "any",
            "calibration_pictures": 64,
            "validation": {**split, "mcnemar_p": 0.5},
            "test": {**split, "mcnemar_p": 0.25},
            "latency": [{"batch_size": 1, "fp32_ms": 0.5, "int8_ms": 0.25, "speedup": 2.0}],
            "verdict": {"ships": False, "reason": "it loses <b>too much</b>"},
            "integers": {"proven": False},
            "test_flips": [{**flip, "picture": f"test[{number}]"} for number in (5, 7)],
        },
    }
    (run / "export.json").write_text(json.dumps(exported))
    write_page(run, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert_self_contained(page)
    assert "Does not ship: it loses <b>too much</b>." in page.text
    assert page.rows["int8"][1:3] == [
        ["validation", "179", "90.00%", "80.00%", "3", "1", "4", "0.50"],
        ["test", "179", "90.00%", "80.00%", "3", "1", "4", "0.25"],
    ]
    assert page.rows["int8"][4] == ["1", "0.500", "0.250", "2.00 times"]
    assert {"test[5]", "test[7]"} <= {*page.attributes("alt")}
    assert "calibration, fp32 ECE 0.0125, Brier score 0.2500" in page.text
    assert "promise, fp32 at most 1.0% wrong promise, int8 none: too few pictures" in page.text
    assert "model.onnx, 1,234,567 bytes, accuracy 90.00%" in page.text


def test_pictures_that_int8_answers_differently_are_found_where_the_data_moved(photos: Path, tmp_path: Path) -> None:
    run = train(photos, model="nano", epochs=1, size=16, out=tmp_path / "run", cache=str(tmp_path / "cache"))
    tested = read_test([open_compared(run.path)], None)[1][0].names
    flip = {"from": 0, "to": 1, "confidence_before": 0.625, "confidence_after": 0.5}
    split = {"images": 3, "accuracy_fp32": 0.9, "accuracy_int8": 0.8, "lost": 3, "won": 1, "flips": 4, "mcnemar_p": 1}
    exported = {
        "ship": "model.onnx",
        "machine": "a machine",
        "fp32": {"file": "model.onnx", "bytes": 1, "accuracy": 0.9},
        "parity": {"images": 3, "probabilities": {"max": 1e-6}, "tolerance": 1e-4, "flips": []},
        "int8": {
            "file": "model.int8.onnx",
            "bytes": 1,
            "recipe": "minmax",
            "target": "any",
            "calibration_pictures": 6,
            "validation": split,
            "test": split,
            "latency": [],
            "verdict": {"ships": True, "reason": "it is faster"},
            "integers": None,
            "test_flips": [{**flip, "picture": name} for name in (*tested, f"{photos}/red/absent.jpg")],
        },
    }
    (run.path / "export.json").write_text(json.dumps(exported))
    moved = photos.rename(tmp_path / "moved")
    write_page(run.path, tmp_path / "page.html", data=moved)
    page = Page(tmp_path / "page.html")
    assert {f"{moved}{name.removeprefix(str(photos))}" for name in tested} <= {*page.attributes("alt")}
    assert "Not shown: 1 more." in page.text


def test_moved_data_are_named_as_the_argument(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('data = "digits"', 'data = "gone"'))
    write_page(run, tmp_path / "page.html")
    assert "gone" in caplog.text
    assert "if it has moved: cnn-train DATA --run RUN --html FILE" in caplog.text
    write_page(run, tmp_path / "page.html", data="digits")
    assert "if it has moved" not in Page(tmp_path / "page.html").text


def test_without_the_data_set_the_page_says_what_is_missing(finished: Run, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished.path, run)
    spec = json.loads((run / "spec.json").read_text())
    spec["details"]["data"]["fingerprints"]["test"] = "0" * 64
    (run / "spec.json").write_text(json.dumps(spec))
    write_page(run, tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert "No pictures and no charts of confidence on this page" in page.text
    assert not {"confidence", "mistakes"} & {*page.attributes("id")}
    assert not [tag for tag, _ in page.elements if tag == "img"]


def test_the_page_of_a_comparison_has_its_figures(finished: Run, tmp_path: Path) -> None:
    other = tmp_path / "<b>other"
    shutil.copytree(finished.path, other)
    found = compare([finished.path, other])
    write_comparison(found, tmp_path / "page.html", [finished.path, other])
    page = Page(tmp_path / "page.html")
    assert_self_contained(page)
    assert [row[3] for row in page.rows["networks"][1:]] == [f"{model.accuracy:.2%}" for model in found.models]
    assert page.rows["networks"][2][0].strip().endswith("<b>other")
    assert page.rows["pairs"][1][:3] == ["2 against 1", "+0.00", page.rows["pairs"][1][2]]
    assert page.rows["pairs"][1][-1] == "1"
    assert "All pictures are answered alike." in page.text
    assert "with few pictures of this kind it may exclude 0 although p is above 0.05" in page.text


def test_the_command_writes_the_page_of_a_training_and_later_that_of_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    training = ["digits", "--model", "nano", "--epochs", "1", "--out", "run", "--html", "first.html"]
    later = ["digits", "--run", "run", "--html", "second.html"]
    compared = ["run", "run", "--compare", "--html", "third.html"]
    for arguments in (training, later, compared):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code == 0, done.output
        assert f"wrote {arguments[-1]}" in done.output
    first, second = Page(tmp_path / "first.html"), Page(tmp_path / "second.html")
    assert first.rows == second.rows
    assert first.heading == second.heading
    assert [row[3] for row in Page(tmp_path / "third.html").rows["networks"][1:]] == [first.heading.split()[0]] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "run"], "no effect without --html: --run"),
        (["--run", "run", "--html", "p.html", "--epochs", "3"], "no effect with --run: --epochs"),
        (["--folds", "3", "--html", "p.html"], "no effect with --folds: --html"),
        (["--tune", "3", "--html", "p.html"], "no effect with --tune: --html"),
        (["--run", "absent", "--html", "p.html"], "no such run folder: absent"),
        (["digits", "--html", "absent/p.html"], "no such folder: "),
        (["--run", "run", "--html", "p.html", "--seed", "0"], "no effect with --run: --seed"),
        (["--run", "run", "--html", "p.html", "--no-strict"], "no effect with --run: --strict"),
        (["--folds", "3", "--tune", "0"], "no effect with --folds: --tune"),
        (["--compare", "a", "b", "--report", "absent/r.json"], "no such folder: "),
        (["--compare", "a", "b", "--report", "r", "--html", "r"], "--report and --html name the same file: r"),
        (["--compare", "a", "b", "--report", "b.onnx"], "b.onnx has the name of a picture or a model"),
    ],
)
def test_options_without_effect_are_refused(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code
    assert message in str(done.exception) + done.output
    assert not [*tmp_path.iterdir()]


def test_results_do_not_replace_what_is_read_or_belongs_to_a_run(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    labels = tmp_path / "labels.csv"
    labels.write_text("image,label\n")
    before = {path: path.read_bytes() for path in (labels, run / "report.json")}
    for arguments, message in (
        (["--run", "run", "--html", "run/report.json"], "run/report.json is a file of a run"),
        (["--run", "run", "labels.csv", "--html", "labels.csv"], "labels.csv is also an input"),
        (["--compare", "run", "run", "--report", "run/report.json"], "run/report.json is a file of a run"),
        (["labels.csv", "--html", "labels.csv"], "labels.csv is also an input"),
        (["digits", "--out", "run", "--overwrite", "--html", "run/curves.png"], "has the name of a picture"),
        (["digits", "--out", "new", "--html", "new/spec.json"], "no such folder: "),
    ):
        done = CliRunner().invoke(command, arguments)
        assert done.exit_code
        assert message in str(done.exception) + done.output
    assert {path: path.read_bytes() for path in before} == before
