"""Scripts that take a folder of pictures find them whatever their format, and end in one line where there are none."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "infer" / "models" / "rgb.onnx"


def pictures(folder: Path) -> Path:
    """Two PNG files, in two folders."""
    for colour in ("blue", "red"):
        (folder / colour).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(folder / colour / "one.png")
    return folder


@pytest.mark.parametrize("script", ["cluster", "colour_profiles", "page", "server", "storage"])
def test_a_folder_without_pictures_is_refused(script: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), str(MODEL), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path} has no pictures\n")


@pytest.mark.parametrize("copies", [False, True], ids=["links", "copies"])
def test_links_are_made_again_and_again_in_the_same_folders(
    copies: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    links = import_module("links")
    root = pictures(tmp_path / "in")
    made = links.link_pictures(links.picture_files(root), root, 3, tmp_path / "out", copies=copies)
    names = [Path(path).relative_to(tmp_path / "out").as_posix() for path in made]
    assert names == ["blue/0000-one.png", "red/0000-one.png", "blue/0001-one.png"]
    assert Path(made[2]).read_bytes() == (root / "blue" / "one.png").read_bytes()
    assert Path(made[2]).samefile(root / "blue" / "one.png") is not copies
