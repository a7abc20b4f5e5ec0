"""The files of a run, its metrics compared with scikit-learn's, and folders that it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cnn_infer import Spec
from cnn_train import Dataset, Run, RunError
from PIL import Image
from scipy.special import softmax
from scipy.stats import binomtest
from sklearn import metrics

FILES = {
    "model.safetensors",
    "spec.json",
    "config.toml",
    "metrics.jsonl",
    "report.json",
    "checkpoint.pt",
    "curves.png",
    "confusion.png",
    "mistakes.png",
    "reliability.png",
    "samples.png",
}
AVERAGES = ("macro", "weighted")


def test_a_run_folder_is_complete_and_nothing_else(finished: Run) -> None:
    assert {path.name for path in finished.path.iterdir()} == FILES


def logits(run: Run, images: np.ndarray) -> np.ndarray:
    """Logits of the stored network, with the normalisation written out here."""
    pixels = (images.astype(np.float32) - run.spec.zero_point) * np.float32(run.spec.scale)
    with torch.no_grad():
        return run.network()(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())).double().numpy()


@pytest.mark.parametrize(("split", "key"), [("test", "test"), ("val", "validation")])
def test_the_report_agrees_with_scikit_learn_on_the_stored_network(
    finished: Run, digits: Dataset, split: str, key: str
) -> None:
    run = Run.open(finished.path)
    found, truth = run.report[key], digits.splits[split].labels
    scores = logits(run, digits.splits[split].images)
    predicted = scores.argmax(axis=1)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    assert found["images"] == len(truth)
    assert found["correct"] == int((predicted == truth).sum())
    assert found["accuracy"] == metrics.accuracy_score(truth, predicted)
    expected = binomtest(found["correct"], len(truth)).proportion_ci(method="wilson")
    assert found["accuracy_interval"] == pytest.approx([expected.low, expected.high])
    assert found["loss"] == pytest.approx(metrics.log_loss(truth, shares), abs=1e-5)
    assert found["confusion"] == metrics.confusion_matrix(truth, predicted).tolist()
    for average in AVERAGES:
        expected = metrics.precision_recall_fscore_support(truth, predicted, average=average, zero_division=0)
        assert [found[f"{average}_{name}"] for name in ("precision", "recall", "f1")] == pytest.approx(expected[:3])
    table = np.array(metrics.precision_recall_fscore_support(truth, predicted, zero_division=0)).T
    rows = [[row[name] for name in ("precision", "recall", "f1", "support")] for row in found["per_class"].values()]
    assert list(found["per_class"]) == [str(digit) for digit in range(10)]
    np.testing.assert_allclose(rows, table)
    assert 0.3 < found["accuracy"] <= 1


def test_the_report_describes_the_training(finished: Run) -> None:
    report = finished.report
    assert report["epochs"] == 3
    assert report["parameters"] == sum(parameter.numel() for parameter in finished.network().parameters())
    assert report["device"] in ("cpu", "cuda", "mps")
    assert report["precision"] in ("fp32", "bf16", "fp16")
    assert report["unreadable"] == []
    assert report["seconds"] > 0
    assert report["machine"]


def test_the_specification_is_that_of_the_training_pictures(finished: Run, digits: Dataset) -> None:
    spec = Spec.from_json((finished.path / "spec.json").read_text())
    assert spec == finished.spec
    assert spec.classes == tuple("0123456789")
    assert spec.shape == (8, 8, 1)
    assert spec.zero_point == round(digits.train.images.mean())
    assert spec.scale == pytest.approx(1 / digits.train.images.std())
    assert spec.temperature == finished.report["temperature"]
    assert spec.details["data"]["fingerprints"] == dict(digits.fingerprints)
    assert spec.details["data"]["images"] == {"train": 1439, "val": 179, "test": 179}
    assert spec.details["metrics"]["test"]["accuracy"] == finished.report["test"]["accuracy"]
    assert spec.details["settings"]["model"] == "nano"


def test_metrics_have_a_line_for_each_epoch(finished: Run, digits: Dataset) -> None:
    lines = [json.loads(line) for line in (finished.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    for line in lines:
        assert set(line) == {
            "epoch", "pictures", "height", "width", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
            "val_calibrated_loss", "val_calibrated_error", "lr", "images_per_second", "seconds"
        }  # fmt: skip
        assert line.pop("val_calibrated_error") >= 0  # the epoch that fits the last layer has one
        assert all(np.isfinite(value) and value > 0 for value in line.values())
    kept = lines[finished.report["best_epoch"] - 1]
    assert kept["val_calibrated_loss"] == min(line["val_calibrated_loss"] for line in lines)
    scores = logits(finished, digits.val.images)
    by_temperature = [
        metrics.log_loss(digits.val.labels, softmax(scores / at, axis=1)) for at in np.geomspace(0.2, 5, 999)
    ]
    assert kept["val_calibrated_loss"] == pytest.approx(min(by_temperature), abs=3e-3)  # in the precision of training
    assert kept["val_calibrated_loss"] < kept["val_loss"]
    assert kept["val_loss"] == pytest.approx(finished.report["validation"]["loss"], abs=3e-3)
    assert kept["val_accuracy"] == pytest.approx(finished.report["validation"]["accuracy"], abs=1e-6)
    assert lines[-1]["train_loss"] < lines[0]["train_loss"]


@pytest.mark.parametrize("name", sorted(name for name in FILES if name.endswith(".png")))
def test_pictures_are_drawn_at_a_sensible_size(finished: Run, name: str) -> None:
    with Image.open(finished.path / name) as picture:
        assert picture.format == "PNG"
        assert all(250 <= side <= 2000 for side in picture.size)
        pixels = np.asarray(picture.convert("L"))
    drawn = pixels < 250
    assert 0.01 < drawn.mean() < 0.9
    # nothing is cut off at the edges
    assert not np.concatenate([drawn[0], drawn[-1], drawn[:, 0], drawn[:, -1]]).any()


# opening a run


def test_the_newest_finished_run_is_opened(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run under"):
        Run.newest(tmp_path / "runs")
    assert Run.newest(tmp_path).path == run


@pytest.mark.parametrize("name", ["model.safetensors", "spec.json", "config.toml", "report.json"])
def test_an_incomplete_run_is_refused(run: Path, name: str) -> None:
    (run / name).unlink()
    with pytest.raises(RunError, match=r"is not finished: continue it with cnn-train --resume --out"):
        Run.open(run)
    (run / "checkpoint.pt").unlink()
    with pytest.raises(RunError, match=f"is not a run folder: it has no {name}"):
        Run.open(run)


def test_a_damaged_run_is_refused(run: Path) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        Run.open(run / "none")
    content = (run / "model.safetensors").read_bytes()
    for damage in (content[: len(content) // 2], b"", b"{}"):
        (run / "model.safetensors").write_bytes(damage)
        with pytest.raises(RunError, match="is damaged or of another network"):
            Run.open(run).network()
    for name, attribute in (("spec.json", "spec"), ("report.json", "report")):
        (run / name).write_text('{"format": ')
        with pytest.raises(RunError, match=f"{name} is damaged"):
            getattr(Run.open(run), attribute)
    for text in ("{}", "[]", '{"test": 3}', '{"test": {"loss": null}}', "[" * 100_000):
        (run / "report.json").write_text(text)
        with pytest.raises(RunError, match=r"report\.json is damaged"):
            _ = Run.open(run).report


# folders that are refused


@pytest.mark.parametrize("option", ["--out", "--cache", "--test-pictures"])
def test_no_folder_gets_the_name_of_a_url(option: str, refused: Callable[..., str]) -> None:
    line = refused("digits", "--model", "nano", "--epochs", "1", option, "s3://bucket/run")
    assert f"{option} names a folder of this machine, not a URL: s3:/" in line
    assert not Path("s3:").exists()


def test_a_folder_that_is_not_empty_is_replaced_only_with_overwrite(
    run: Path, refused: Callable[..., str], command: Callable[..., tuple[int, str]]
) -> None:
    (run / "notes.txt").write_text("mine")
    for name in ("export.json", "model.onnx", "model.int8.onnx"):  # of the network that is replaced
        (run / name).write_text("earlier")
    (run / "more").mkdir()
    (run / "more" / "model.safetensors").write_text("mine too")
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    arguments = ("digits", "--model", "nano", "--epochs", "1", "--seed", "5", "--out", str(run))
    assert "is not empty: pass --overwrite" in refused(*arguments)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    code, text = command(*arguments, "--overwrite")
    assert code == 0, text
    assert Run.open(run).config.seed == 5
    assert {path.name for path in run.iterdir()} == {*FILES, "notes.txt", "more"}
    assert (run / "notes.txt").read_text() == "mine"
    assert (run / "more" / "model.safetensors").read_text() == "mine too"


def test_a_run_folder_that_cannot_be_created_is_refused(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    arguments = ("digits", "--model", "nano", "--epochs", "1")
    assert "cannot create the folder" in refused(*arguments, "--out", "file/run")


def test_without_a_name_a_run_gets_one_with_time_and_data(
    command: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    code, text = command("--model", "nano", "--epochs", "1", "--batch-size", "512")
    assert code == 0, text
    [folder] = (tmp_path / "runs").iterdir()
    date, time, data = folder.name.split("-")
    assert (len(date), len(time), data) == (8, 6, "digits")
    assert Run.newest(tmp_path / "runs").path == folder
