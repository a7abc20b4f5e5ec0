"""The command cnn-train: its help, one line for every mistake, a full disk."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cnn_train import Run
from cnn_train.config import OPTIONS
from PIL import Image

Start = Callable[..., "subprocess.Popen[str]"]

OWN = ("config", "folds", "tune", "out", "resume", "overwrite", "test-pictures")
"""Options of the command that are parameters of train() and not in the table."""


def test_help_explains_every_option_with_its_default_and_shows_examples(start: Start) -> None:
    process = start("--help")
    text, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    words = " ".join(text.split()).replace("- ", "-")  # click breaks lines at hyphens
    for name, option in OPTIONS.items():
        if name != "data":
            assert f" --{name.replace('_', '-')} " in words
            assert f"{option.help} Default: {option.default_text}." in words
    assert all(f" --{name} " in words for name in OWN)
    assert "cnn-train fashion-mnist --model nano" in text


def test_help_loads_neither_pytorch_nor_numpy(environment: dict[str, str]) -> None:
    code = "import sys; sys.argv = ['cnn-train', '--help']; from cnn_train.__main__ import main\n"
    code += "try: main()\nfinally: assert not {'torch', 'numpy', 'torchvision'} & {*sys.modules}"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments", [("--epoch", "3"), ("--epochs", "three"), ("--resize", "stretch"), ("--optimizer", "lion"), ("a", "b")]
)
def test_mistyped_options_are_one_line(command: Callable[..., tuple[int, str]], arguments: tuple[str, ...]) -> None:
    code, text = command(*arguments)
    assert code == 2
    [line] = text.splitlines()
    assert line.startswith("cnn-train: ")
    assert line.endswith(" (cnn-train --help explains)")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--epochs", "-3"), "epochs must be a whole number of at least 1, not -3"),
        (("--batch-size", "1"), "batch_size must be a whole number of at least 2, not 1"),
        (("--lr", "nan"), "lr must be a number above 0, not nan"),
        (("--size", "5000"), "size must be a whole number from 4 to 4096, or two of them: [height, width], not 5000"),
        (
            ("--size", "12x3"),
            "size must be a whole number from 4 to 4096, or two of them: [height, width], not (12, 3)",
        ),
        (("--size", "12x"), "Invalid value for '--size': '12x' is neither a number of pixels, such as 96, nor"),
        (("--size", "1x2x3"), "Invalid value for '--size': '1x2x3' is neither a number of pixels"),
        (("--size", "7", "--model", "nano"), "nano takes pictures of at least 8 pixels a side, not 7 x 7"),
        (("--seed", "99999999999999999999"), "seed must be"),
        (("--augment", "mirror"), "augment must be none or a list out of flip, crop"),
        (("--optimizer", "lion"), "'lion' is not one of 'muon', 'sgd', 'adam', 'adamw'"),
        (("--device", "tpu"), "'tpu' is not one of"),
        (("--precision", "fp16", "--device", "cpu"), "--precision fp16 needs --device cuda"),
        (("--model", "resnet81"), "did you mean resnet18"),
        (("--model", "nano", "--pretrained"), "nano is trained from scratch"),
        (("--model", "resnet18", "--dropout", "0.5"), "resnet18 has no dropout layer"),
        (("--config", "none.toml"), "cannot read none.toml: No such file or directory"),
        (("none/",), "no such folder: none/"),
        (("empty",), "empty is empty"),
        (("one",), "one has one class only, 'cat'"),
        (("broken",), "no picture of the"),
        (("pictures",), "has pictures but no class folders"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    refused: Callable[..., str], tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "empty").mkdir()
    for number in range(5):
        for name in ("one/cat", "pictures"):
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            Image.new("L", (9, 9), number).save(tmp_path / name / f"{number}.png")
        for name in ("cat", "dog"):
            (tmp_path / "broken" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "broken" / name / f"{number}.png").write_text("no picture")
    assert reason in refused(*arguments)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            ("photos", "--cache", "photos/cache"),
            "photos/cache lies in the data set .* name another folder with --cache",
        ),
        (("photos", "--out", "photos/red/run"), "photos/red/run lies in .* --out"),
        (("photos", "--out", "photos", "--overwrite"), "photos lies in .* --out"),
        (("photos", "--test-pictures", "link/test"), "link/test lies in .* --test-pictures"),
        (("photos", "--out", "there/run"), "there/run lies in .* --out"),
        (("link",), "runs lies in the data set .*link.* --out"),
    ],
)
def test_nothing_is_written_into_the_data_set(
    refused: Callable[..., str], photos: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """The next training would treat the run folder as a class, and its plots as pictures."""
    (tmp_path / "link").symlink_to(photos if arguments != ("link",) else tmp_path)
    (tmp_path / "there").symlink_to("link")
    before = set(photos.rglob("*"))
    assert re.search(reason, refused(*arguments))
    assert set(photos.rglob("*")) == before
    assert not (tmp_path / "runs").exists()


def test_hidden_folders_in_a_data_set_are_not_read_as_classes(
    command: Callable[..., tuple[int, str]], photos: Path
) -> None:
    arguments = ("photos", "--model", "nano", "--epochs", "1", "--out", "photos/.run", "--cache", "photos/.cache")
    for more in ((), ("--overwrite",)):
        code, text = command(*arguments, *more)
        assert code == 0, text
        assert "3 classes, 20 x 16 colour: train 30, val 3, test 3" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--model", "smal"), "unknown model 'smal' (did you mean small"),
        (
            ("--model", "nano", "--pretrained"),
            "--pretrained needs lite0 or a torchvision model; nano is trained from scratch",
        ),
        (("--pretrained",), "--pretrained needs lite0 or a torchvision model; small is trained from scratch"),
        (("--size", "7x9", "--model", "nano"), "nano takes pictures of at least 8 pixels a side, not 7 x 9"),
        (("--size", "8", "--model", "alexnet"), "alexnet does not take pictures of 8 x 8"),
        (("--model", "resnet18", "--dropout", "0.5"), "resnet18 has no dropout layer"),
        (("--precision", "fp16", "--device", "cpu"), "--precision fp16 needs --device cuda"),
    ],
)
def test_what_can_be_refused_without_the_data_is_refused_before_it_is_opened(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
) -> None:
    def opened(*_: object, **__: object) -> None:
        raise AssertionError("the data was opened")

    monkeypatch.setattr("cnn_train.training.open_dataset", opened)
    assert reason in refused("digits", *arguments)


@pytest.mark.parametrize(("size", "height", "width"), [("8", 8, 8), ("12x8", 12, 8)])
def test_a_size_is_one_number_or_height_x_width(
    command: Callable[..., tuple[int, str]], tmp_path: Path, size: str, height: int, width: int
) -> None:
    code, text = command("--model", "nano", "--epochs", "1", "--size", size, "--out", "run")
    assert code == 0, text
    assert Run.open(tmp_path / "run").spec.shape == (height, width, 1)


def test_a_full_disk_is_one_line(command: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    """A limit on the size of files stands for the full disk: the checkpoint does not fit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, before[1]))  # Python ignores the signal SIGXFSZ
    try:
        code, text = command("--model", "nano", "--epochs", "1", "--out", "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 2, text
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    assert last.startswith("cnn-train: cannot write ")
    assert "run/checkpoint.pt: File too large: free some space; nothing is kept in run: " in last
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not any(name.endswith(".partial") for name in left)
    assert "checkpoint.pt" not in left


def test_an_interrupt_in_the_first_epoch_says_how_to_resume(forked: Callable[..., Any], tmp_path: Path) -> None:
    process = forked(tmp_path, "--model", "base", "--epochs", "2", "--size", "48", "--out", "run")
    end = time.monotonic() + 60
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert time.monotonic() < end, process.said()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 130
    last = process.said().splitlines()[-1]
    assert last.startswith("cnn-train: interrupted")
    assert last.endswith("0 of 2 epochs are kept in run/checkpoint.pt: cnn-train --resume --out run")
