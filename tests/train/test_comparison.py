"""``cnn-train --compare``: the figures of each network and of each pair, what is refused, and the three formats."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cnn_train import Comparison, Dataset, Run, RunError, cli, compare, open_source, train
from cnn_train.compared import Opened, read_test
from cnn_train.network.logits import logits_of
from cnn_train.replay import read_split
from PIL import Image
from scipy.stats import binomtest
from torch import device


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two epochs of nano on the digits, with another learning rate: the same test split as of ``finished``."""
    return train("digits", model="nano", epochs=2, lr=0.002, out=tmp_path_factory.mktemp("other") / "run")


@pytest.fixture(scope="module")
def found(finished: Run, other: Run) -> Comparison:
    return compare([finished.path, str(other.path)])


def predicted(run: Run, digits: Dataset) -> np.ndarray:
    return logits_of(run.network(), digits.test.images, run.spec, device("cpu")).argmax(axis=1)


def test_each_network_has_the_figures_of_its_training(found: Comparison, finished: Run, other: Run) -> None:
    for model, run in zip(found.models, (finished, other), strict=True):
        test = run.report["test"]
        assert (model.name, model.kind) == (str(run.path), "PyTorch")
        assert (model.correct, model.accuracy, model.confusion) == (
            test["correct"],
            test["accuracy"],
            test["confusion"],
        )
        assert list(model.accuracy_interval) == test["accuracy_interval"]
        assert model.macro_f1 == pytest.approx(test["macro_f1"])
        assert model.ece == pytest.approx(test["calibration"]["ece"], abs=1e-6)
        assert model.brier == pytest.approx(test["calibration"]["brier"], rel=1e-5)
        assert model.bytes == (run.path / "model.safetensors").stat().st_size
    assert (found.data, found.images) == ("digits", finished.report["test"]["images"])


def test_the_paired_figures_are_those_of_the_answers(
    found: Comparison, finished: Run, other: Run, digits: Dataset
) -> None:
    labels = digits.test.labels
    first, second = predicted(finished, digits), predicted(other, digits)
    [pair] = found.pairs
    only_first = int(((first == labels) & (second != labels)).sum())
    only_second = int(((first != labels) & (second == labels)).sum())
    assert only_first != only_second
    assert (pair.first, pair.second, pair.only_first, pair.only_second) == (0, 1, only_first, only_second)
    assert pair.both + pair.only_first == found.models[0].correct
    assert pair.both + pair.only_first + pair.only_second + pair.neither == len(labels)
    assert pair.mcnemar_p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue)
    assert pair.difference == pytest.approx(found.models[1].accuracy - found.models[0].accuracy)
    low, high = pair.difference_interval
    assert low < pair.difference < high
    assert found.differing == (first != second).sum()
    assert len(found.pictures) == min(200, found.differing)
    by_name = {name: index for index, name in enumerate(digits.test.names)}
    for picture in found.pictures:
        index = by_name[picture.path]
        assert picture.truth == digits.source.classes[labels[index]]
        for answer, answers in zip(picture.answers, (first, second), strict=True):
            assert answer.label == digits.source.classes[answers[index]]
            assert answer.correct == (answer.label == picture.truth)
    surest = [max(part.probability for part in entry.answers if not part.correct) for entry in found.pictures]
    assert surest == sorted(surest, reverse=True)


def test_a_network_does_not_differ_from_itself(finished: Run) -> None:
    found = compare([finished.path, finished.path, finished.path])
    assert [(pair.first, pair.second) for pair in found.pairs] == [(0, 1), (0, 2), (1, 2)]
    assert {(pair.only_first, pair.only_second, pair.mcnemar_p, pair.difference) for pair in found.pairs} == {
        (0, 0, 1, 0)
    }
    assert (found.differing, found.pictures) == (0, ())


def changed(run: Path, **data: object) -> Path:
    """Change what a run's specification says about the data set."""
    spec = json.loads((run / "spec.json").read_text())
    spec["details"]["data"].update(data)
    (run / "spec.json").write_text(json.dumps(spec))
    return run


def test_a_named_set_keeps_its_name(tmp_path: Path) -> None:
    """The layout of torchvision: the folder is called raw."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 2
        images = random.integers(0, 256, (count, 8, 8), np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (folder / f"{part}-{kind}-ubyte").write_bytes(head + array.tobytes())
    run = train("mnist", model="nano", epochs=1, data_dir=str(tmp_path), out=tmp_path / "run")
    assert compare([run.path, run.path]).data == "mnist"
    assert compare([run.path, run.path], data=folder).data == "mnist"


def test_other_test_pictures_are_refused(finished: Run, run: Path) -> None:
    prints = dict(finished.spec.details["data"]["fingerprints"])
    changed(run, fingerprints={**prints, "test": "of others"})
    with pytest.raises(RunError, match="were tested on other pictures"):
        compare([finished.path, run])
    with pytest.raises(RunError, match=r"the test pictures in digits are not those on which .* was tested"):
        compare([run, run])
    changed(run, fingerprints={})
    with pytest.raises(RunError, match="does not say on which pictures it was tested"):
        compare([finished.path, run])


def test_missing_data_and_missing_runs_are_refused(finished: Run, run: Path, tmp_path: Path) -> None:
    config = (run / "config.toml").read_text()
    (run / "config.toml").write_text(config.replace('data = "digits"', f'data = "{tmp_path}/gone"'))
    with pytest.raises(RunError, match=r"cannot open the data set of .*gone.*; if it has moved: --data PATH"):
        compare([run, run])
    assert compare([run, finished.path], data="digits").differing == 0
    with pytest.raises(RunError, match="two or more"):
        compare([finished.path])
    with pytest.raises(RunError, match=r"is neither a run folder nor an \.onnx file"):
        compare([finished.path, finished.path / "spec.json"])
    with pytest.raises(RunError, match="is not a run folder"):
        compare([finished.path, tmp_path])


def test_a_copy_that_spells_accents_otherwise_has_the_same_pictures(finished: Run, tmp_path: Path) -> None:
    """macOS writes file names in Unicode's decomposed form."""
    for form in ("NFC", "NFD"):
        for name in ("gr\xfcn", "rot"):
            folder = tmp_path / form / unicodedata.normalize(form, name)
            folder.mkdir(parents=True)
            for number in range(10):
                pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    spec = replace(finished.spec, classes=("gr\xfcn", "rot"))
    _, fingerprint, _ = read_split(open_source(str(tmp_path / "NFC"), classes=spec.classes), "test", spec)
    opened = Opened("run", "fp32", spec, fingerprint, 0, lambda pictures, _: pictures, None)
    assert len(read_test([opened], tmp_path / "NFD")[1][0].labels) == 2
    with pytest.raises(RunError, match="are not those on which run was tested"):
        read_test([replace(opened, fingerprint="of others")], tmp_path / "NFD")


def test_other_classes_are_refused(finished: Run, run: Path) -> None:
    spec = json.loads((run / "spec.json").read_text())
    spec["classes"] = spec["classes"][::-1]
    (run / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(RunError, match="have other classes"):
        compare([finished.path, run])


def test_the_command_prints_a_table_rows_and_a_document(
    found: Comparison, finished: Run, other: Run, tmp_path: Path
) -> None:
    runs = [str(finished.path), str(other.path)]

    def printed(*options: str) -> str:
        done = CliRunner().invoke(cli.command, ["--compare", *runs, *options])
        assert done.exit_code == 0, done.output
        return done.stdout

    table = printed("--report", str(tmp_path / "all.json"))
    rows = [json.loads(line) for line in printed("--format", "jsonl").splitlines()]
    cells = list(csv.DictReader(io.StringIO(printed("--format", "csv"))))
    assert json.loads((tmp_path / "all.json").read_text()) == json.loads(found.to_json())
    assert f"{found.models[0].accuracy:.2%}" in table
    assert f"{found.pairs[0].mcnemar_p:.2g}" in table
    assert [row["name"] for row in rows] == [cell["name"] for cell in cells] == runs
    assert rows[0]["only_first"] is None
    assert cells[0]["only_first"] == ""
    assert rows[1]["only_first"] == int(cells[1]["only_first"]) == found.pairs[0].only_first
    assert float(cells[1]["mcnemar_p"]) == rows[1]["mcnemar_p"] == found.pairs[0].mcnemar_p


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--compare", "a", "b", "--epochs", "3", "--resume"), "no effect with --compare: --epochs, --resume"),
        (("--compare", "a", "b", "--seed", "0"), "no effect with --compare: --seed"),
        (("digits", "--format", "csv"), "no effect without --compare or --check: --format"),
        (("digits", "--data", "photos", "--report", "x"), "no effect without --compare: --data, --report"),
        (("--compare", "nowhere"), "a comparison needs two or more run folders or .onnx files"),
        (("digits", "mnist"), "one data set is trained on, not 2: digits mnist"),
    ],
)
def test_options_without_effect_are_refused(refused: Callable[..., str], arguments: tuple[str, ...], line: str) -> None:
    assert line in refused(*arguments)
