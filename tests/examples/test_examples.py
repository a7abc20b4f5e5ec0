"""The examples work on a real video and on real files, report errors in one line, and stay short."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "infer" / "models" / "rgb.onnx"
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def run(name: str, *arguments: object, code: int = 0) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("name", ["camera.py", "batch_job.py"])
def test_an_example_fits_a_screen(name: str) -> None:
    assert len((ROOT / "examples" / name).read_text().splitlines()) < 40


@pytest.mark.parametrize(("name", "given"), [("camera.py", ["0"]), ("batch_job.py", ["inbox", "sorted"])])
def test_an_error_is_one_line(tmp_path: Path, name: str, given: list[str]) -> None:
    if name == "camera.py":
        pytest.importorskip("cv2")
    printed = run(name, tmp_path / "absent.onnx", *given, code=1)
    assert len(printed.splitlines()) == 1
    assert "absent.onnx" in printed


def test_the_camera_names_what_it_sees(tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    video = cv2.VideoWriter(str(tmp_path / "video.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for colour in COLOURS.values():
        for _ in range(12):
            video.write(np.full((48, 64, 3), colour[::-1], np.uint8))
    video.release()
    lines = run("camera.py", MODEL, tmp_path / "video.avi").splitlines()
    assert [line.split()[0] for line in lines] == list(COLOURS)
    assert "cannot open" in run("camera.py", MODEL, tmp_path / "absent.avi", code=1)


def test_a_batch_is_sorted_into_folders(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    for number, (name, colour) in enumerate(COLOURS.items()):
        for copy in range(number + 1):
            Image.new("RGB", (20, 20), colour).save(tmp_path / "inbox" / f"{name}{copy}.png")
    (tmp_path / "inbox" / "more").mkdir()
    Image.new("RGB", (20, 20), COLOURS["blue"]).save(tmp_path / "inbox" / "more" / "blue0.png")
    (tmp_path / "inbox" / "bad.jpg").write_bytes(b"no picture")
    printed = run("batch_job.py", MODEL, tmp_path / "inbox", tmp_path / "sorted")
    assert printed.split() == ["4", "blue", "2", "green", "1", "red", "1", "unreadable"]
    assert sorted(path.name for path in (tmp_path / "sorted" / "blue").iterdir()) == [
        "blue0.png",
        "blue1.png",
        "blue2.png",
        "more",
    ]
    assert (tmp_path / "sorted" / "unreadable" / "bad.jpg").read_bytes() == b"no picture"
