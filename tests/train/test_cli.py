"""The command cnn-train as people type it: help, mistakes in one line, a disk that is full."""

import re
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Start = Callable[..., "subprocess.Popen[str]"]

OPTIONS = (
    *(
        "model",
        "pretrained",
        "epochs",
        "patience",
        "batch-size",
        "lr",
        "optimizer",
        "weight-decay",
        "dropout",
        "label-smoothing",
    ),
    *(
        "augment",
        "balance",
        "size",
        "resize",
        "seed",
        "device",
        "precision",
        "config",
        "out",
        "cache",
        "data-dir",
        "resume",
    ),
    *("overwrite", "strict", "test-pictures"),
)


def test_help_names_every_option_and_shows_examples(start: Start) -> None:
    process = start("--help")
    text, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert all(f"--{name} " in text for name in OPTIONS)
    assert "cnn-train fashion-mnist --model nano" in text


@pytest.mark.parametrize("arguments", [("--epoch", "3"), ("--epochs", "three"), ("--resize", "stretch"), ("a", "b")])
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
        (("--size", "5000"), "the size must be from 1 to 4096"),
        (("--size", "7", "--model", "nano"), "nano takes pictures of at least 8 pixels a side, not 7 x 7"),
        (("--seed", "99999999999999999999"), "seed must be"),
        (("--augment", "mirror"), "augment must be none or a list out of flip, crop"),
        (("--optimizer", "lion"), "optimizer must be one of muon, sgd, adam, adamw"),
        (("--device", "tpu"), "device must be one of"),
        (("--precision", "fp16", "--device", "cpu"), "--precision fp16 needs --device cuda"),
        (("--model", "resnet81"), "did you mean resnet18"),
        (("--model", "nano", "--pretrained"), "nano is trained from scratch"),
        (("--model", "resnet18", "--dropout", "0.5"), "resnet18 has no dropout layer"),
        (("--config", "none.toml"), "cannot read none.toml: No such file or directory"),
        (("none/",), "no such folder: none/"),
        (("empty",), "empty is empty"),
        (("one",), "one has one class only, 'cat'"),
        (("broken",), "no picture of the"),
        (("pictures",), "has pictures but no folders"),
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
        (("photos", "--cache", "photos/cache"), "photos/cache lies in the data set .* name another folder with --cache"),
        (("photos", "--out", "photos/red/run"), "photos/red/run lies in .* --out"),
        (("photos", "--out", "photos", "--overwrite"), "photos lies in .* --out"),
        (("photos", "--test-pictures", "link/test"), "link/test lies in .* --test-pictures"),
        (("photos", "--out", "there/run"), "there/run lies in .* --out"),
        (("link",), "runs lies in the data set .*link.* --out"),
    ],
)
def test_nothing_is_written_among_the_pictures(
    refused: Callable[..., str], photos: Path, tmp_path: Path, arguments: tuple[str, ...], reason: str
) -> None:
    """The next training would take it for a class, and its plots for pictures."""
    (tmp_path / "link").symlink_to(photos if arguments != ("link",) else tmp_path)
    (tmp_path / "there").symlink_to("link")
    before = set(photos.rglob("*"))
    assert re.search(reason, refused(*arguments))
    assert set(photos.rglob("*")) == before
    assert not (tmp_path / "runs").exists()


def test_what_is_hidden_among_the_pictures_is_not_read_as_such(
    command: Callable[..., tuple[int, str]], photos: Path
) -> None:
    arguments = ("photos", "--model", "nano", "--epochs", "1", "--out", "photos/.run", "--cache", "photos/.cache")
    for more in ((), ("--overwrite",)):
        code, text = command(*arguments, *more)
        assert code == 0, text
        assert "3 classes, 20 x 16 colour: train 30, val 3, test 3" in text


def test_a_full_disk_is_one_line(start: Start, tmp_path: Path) -> None:
    """Files may not grow beyond a limit; the checkpoint does not fit."""
    most = 200 * 1024

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    process = start("--model", "nano", "--epochs", "1", "--out", "run", preexec_fn=limited)
    _, text = process.communicate(timeout=120)
    assert process.returncode == 2, text
    assert "Traceback" not in text
    last = text.splitlines()[-1]
    assert last.startswith("cnn-train: cannot write ")
    assert "run/checkpoint.pt: File too large: make room; nothing is kept in run: " in last
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert not any(name.endswith(".partial") for name in left)
    assert "checkpoint.pt" not in left


def test_an_interrupt_in_the_first_epoch_says_how_to_start_it_again(start: Start, tmp_path: Path) -> None:
    process = start("--model", "base", "--epochs", "2", "--size", "48", "--out", "run")
    assert process.stderr is not None
    while not (tmp_path / "run" / "checkpoint.pt").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    last = process.stderr.read().splitlines()[-1]
    assert process.wait(60) == 130
    assert last.startswith("cnn-train: interrupted")
    assert last.endswith("0 of 2 epochs are kept in run/checkpoint.pt: cnn-train --resume --out run")
