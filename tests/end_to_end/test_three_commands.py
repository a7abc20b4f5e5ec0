"""cnn-train, cnn-export --quantize and cnn-infer FOLDER, in an empty folder with an empty home folder.

Whether int8 ships depends on the machine. All tests pass in both cases.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cnn_infer import Classifier
from cnn_infer.drift import TopProbabilities, compare, validation_of
from PIL import Image

Infer = Callable[..., dict[str, Any]]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def folder(chain: Path) -> Path:
    [found] = (chain / "runs").iterdir()
    return found


def exported(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "export.json").read_text())
    return document


def int8_file(folder: Path) -> Path:
    return folder / str(exported(folder)["int8"]["file"])


def test_the_commands_write_one_run(chain: Path, folder: Path) -> None:
    assert {path.name for path in chain.iterdir()} >= {"runs", "pictures", "rows.txt"}
    assert folder.name.endswith("-digits")
    assert {"model.onnx", "export.json", int8_file(folder).name} <= {path.name for path in folder.iterdir()}
    assert len((chain / "rows.txt").read_text().splitlines()) > 179


def test_infer_and_training_agree_on_each_picture(chain: Path, folder: Path, infer: Infer) -> None:
    trained = json.loads((folder / "report.json").read_text())["test"]
    found = infer(chain, "pictures", "--model", folder / "model.onnx")
    assert (found["images"], found["errors"], found["labelled"]) == (trained["images"], 0, trained["images"])
    assert round(found["accuracy"] * found["labelled"], 6) == trained["correct"]
    assert found["confusion"] == trained["confusion"]
    assert found["macro_f1"] == pytest.approx(trained["macro_f1"], abs=1e-12)
    assert found["weighted_f1"] == pytest.approx(trained["weighted_f1"], abs=1e-12)
    assert found["accuracy"] == exported(folder)["fp32"]["accuracy"]


def test_infer_and_export_agree_on_int8(chain: Path, folder: Path, infer: Infer) -> None:
    expected = exported(folder)["int8"]["test"]
    found = infer(chain, "pictures", "--model", int8_file(folder))
    assert found["precision"] == "int8"
    assert found["accuracy"] == expected["accuracy_int8"]
    assert found["macro_f1"] == pytest.approx(expected["macro_f1_int8"], abs=1e-12)
    assert int8_file(folder).stat().st_size == exported(folder)["int8"]["bytes"]


def test_infer_uses_the_model_that_export_ships(chain: Path, folder: Path, infer: Infer) -> None:
    found = infer(chain, "pictures")
    assert Path(found["model"]) == Path("runs", folder.name, exported(folder)["ship"])


def test_rows_equal_the_predictions_of_the_classifier(chain: Path, folder: Path, infer: Infer) -> None:
    infer(chain, "pictures", "--model", folder / "model.onnx")
    rows = [json.loads(line) for line in (chain / "rows").read_text().splitlines()]
    paths = sorted(str(path.relative_to(chain)) for path in (chain / "pictures").rglob("*.png"))
    assert [row["path"] for row in rows] == paths
    with Classifier(folder / "model.onnx") as classifier:
        for row in rows[::20]:
            prediction = classifier.predict(chain / row["path"])
            assert (row["label"], row["index"]) == (prediction.label, prediction.index)
            assert row["probability"] == pytest.approx(prediction.probability, abs=1e-5)


@pytest.mark.parametrize("which", ["fp32", "ship"])
def test_a_copied_model_is_verified(folder: Path, run: Command, tmp_path: Path, which: str) -> None:
    name = "model.onnx" if which == "fp32" else exported(folder)["ship"]
    (tmp_path / "box.onnx").write_bytes((folder / name).read_bytes())
    done = run(tmp_path, "infer", "--verify", "--model", "box.onnx")
    assert "verified: 8 golden pictures and 19 files agree on this machine" in done.stderr


def test_other_pictures_give_another_accuracy(chain: Path, folder: Path, infer: Infer, tmp_path: Path) -> None:
    """The equal accuracies above are no coincidence: with half of each picture blank they differ."""
    trained = json.loads((folder / "report.json").read_text())["test"]
    for path in (chain / "pictures").rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[:4] = 0
        target = tmp_path / "pictures" / path.parent.name / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
    found = infer(tmp_path, "pictures", "--model", folder / "model.onnx")
    assert found["labelled"] == trained["images"]
    assert found["accuracy"] < trained["accuracy"] - 0.05


@pytest.mark.parametrize("which", ["fp32", "int8"])
def test_the_test_split_is_like_validation_and_noise_is_not(
    chain: Path, folder: Path, infer: Infer, run: Command, tmp_path: Path, which: str
) -> None:
    """Each file has the histogram of its own probabilities."""
    model = folder / "model.onnx" if which == "fp32" else int8_file(folder)
    found = infer(chain, "pictures", "--model", model)["drift"]
    assert (found["differs"], found["images"], found["validation_images"]) == (False, 179, 179)
    random = np.random.default_rng(0)
    (tmp_path / "noise").mkdir()
    for number in range(300):
        Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "noise" / f"{number}.png")
    done = run(tmp_path, "infer", "noise", "--model", model)
    [line] = [line for line in done.stderr.splitlines() if "validation pictures" in line]
    assert line.startswith("not like the validation pictures: the model is less sure of these, by more than chance")


def test_false_alarms_are_rare(chain: Path, folder: Path) -> None:
    """At most 1% of 1,000 random draws of the test split, of each size, is reported."""
    classifier, random = Classifier(folder / "model.onnx"), np.random.default_rng(0)
    pictures = np.stack([classifier.pixels(path) for path in (chain / "pictures").rglob("*.png")])
    top = classifier.probabilities(pictures).max(axis=1)
    validation = validation_of(classifier.spec.details)
    assert validation is not None
    for size in (30, 100, 1000):
        alarms = 0
        for _ in range(1000):
            draw = TopProbabilities(validation.edges)
            places = np.searchsorted(validation.edges, random.choice(top, size, replace=size > len(top)))
            draw.counts = np.bincount(places, minlength=len(validation.edges)).tolist()
            found = compare(validation, draw)
            alarms += found is not None and found.differs
        assert alarms <= 10, f"{alarms} of 1,000 draws of {size} pictures"


def test_the_box_judges_the_files_of_the_export(chain: Path, folder: Path, run: Command) -> None:
    files = (folder / "model.onnx", int8_file(folder))
    done = run(chain, "infer", "--judge", *files, "pictures", "--format", "jsonl", "--certificate", "box.json")
    found = json.loads(done.stdout)
    assert found["ship"] in map(str, files)
    assert (found["pictures"], found["source"]) == (179, "named pictures")
    test = exported(folder)["int8"]["test"]
    assert [file["accuracy"] for file in found["files"]] == [test["accuracy_fp32"], test["accuracy_int8"]]
    assert found["files"][0]["obstacle"] is None
    certificate = json.loads((chain / "box.json").read_text())
    escaped = json.dumps(f"{folder}{os.sep}")[1:-1]
    assert certificate["judgement"] == json.loads(done.stdout.replace(escaped, ""))
    assert certificate["passed"]


def test_nothing_is_written_outside_of_the_folder(chain: Path, environment: dict[str, str]) -> None:
    """Digits need no cache, so the home folder has at most caches of libraries."""
    assert set(os.listdir(environment["HOME"])) <= {".cache", ".config"}


@pytest.fixture(scope="module")
def strange(folder: Path, run: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run exported again with --strangers, beside the folders ``noise`` and ``blank``."""
    there = tmp_path_factory.mktemp("strange")
    shutil.copytree(folder, there / "run")
    run(there, "export", "run", "--quantize", "--search-seconds", 0, "--max-drop", 100, "--strangers")
    random = np.random.default_rng(0)
    sets = {
        "noise": random.integers(0, 256, (50, 8, 8), np.uint8),
        "blank": np.stack([np.full((8, 8), grey, np.uint8) for grey in range(0, 256, 5)]),
    }
    for name, pictures in sets.items():
        (there / name).mkdir()
        for number, pixels in enumerate(pictures):
            Image.fromarray(pixels).save(there / name / f"{number:02}.png")
    return there


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_strangers_are_found_and_digits_are_not(chain: Path, strange: Path, infer: Infer, precision: str) -> None:
    file = strange / "run" / "model.onnx" if precision == "fp32" else int8_file(strange / "run")
    rule = exported(strange / "run")["strangers"][precision]
    assert (rule["rate"], rule["test_pictures"]) == (0.01, 179)
    assert rule["interval"][0] <= 0.01
    for name in ("noise", "blank"):
        found = infer(strange, name, "--model", file, "--strangers")
        assert found["strangers"]["images"] == found["images"] >= 50
    found = infer(strange, chain / "pictures", "--model", file, "--strangers")
    assert found["images"] == 179
    assert found["strangers"]["images"] == rule["false_alarms"] <= 5
    assert infer(strange, chain / "pictures", "--model", file)["strangers"] is None
