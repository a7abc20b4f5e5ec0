"""``--output`` grows by whole rows; a killed and resumed run gives the same bytes as an uninterrupted one."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from cnn_infer import Classifier, open_model
from cnn_infer.command.classify import Settings, to_file
from cnn_infer.command.growing_file import GrowingFile
from cnn_infer.command.results import Results
from PIL import Image

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
Refused = Callable[..., str]
COUNT = 1500


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Pictures that take 1 ms each, in folders with the names of classes; some are unreadable."""
    for number, name in enumerate(("red", "green", "blue", "attic")):
        folder = tmp_path / "in" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (300, 300), name if name != "attic" else "red").save(folder / "0000.png")
        for index in range(1, COUNT // 4):
            place = folder / f"{index:04}.png"
            if index % 97 == number:
                place.write_bytes(b"no picture")
            else:
                os.link(folder / "0000.png", place)
    return tmp_path / "in"


def start(tmp_path: Path, models: Path, environment: dict[str, str], *more: str) -> subprocess.Popen[bytes]:
    options = ("--output", "rows.csv", "--format", "csv", "--report", "r.json", "--batch-size", "4", *more)
    return subprocess.Popen(
        [sys.executable, "-m", "cnn_infer", "in", "--model", models / "rgb.onnx", *options],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes], code: int = 0) -> str:
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code, errors.decode()
    assert b"Traceback" not in errors
    return errors.decode()


def uninterrupted(tmp_path: Path, models: Path, environment: dict[str, str]) -> tuple[bytes, dict[str, object]]:
    ended(start(tmp_path, models, environment))
    rows, report = (tmp_path / "rows.csv").read_bytes(), json.loads((tmp_path / "r.json").read_text())
    (tmp_path / "rows.csv").unlink()
    (tmp_path / "r.json").unlink()
    assert not (tmp_path / "rows.csv.manifest.json").exists()
    return rows, {key: value for key, value in report.items() if key not in ("latency_ms", "images_per_second")}


def rows_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_repeatedly_gives_the_same_bytes(
    tmp_path: Path, pictures: Path, models: Path, environment: dict[str, str], seed: int
) -> None:
    wanted, report = uninterrupted(tmp_path, models, environment)
    chance = random.Random(seed)
    kills = 0
    more: tuple[str, ...] = ()
    while True:
        process = start(tmp_path, models, environment, *more)
        before = rows_in(tmp_path / "rows.csv")
        until = before + chance.randint(1, COUNT // 4)
        while process.poll() is None and rows_in(tmp_path / "rows.csv") < until:
            time.sleep(0.002)
        if process.poll() is not None:
            ended(process)
            break
        process.kill()
        process.wait()
        kills += 1
        if not (tmp_path / "rows.csv.manifest.json").exists():  # before the first row, or after the last
            assert (tmp_path / "rows.csv").read_bytes() in (b"", wanted)
            (tmp_path / "rows.csv").unlink()
            more = ()
            continue
        written = (tmp_path / "rows.csv").read_bytes()
        manifest = json.loads((tmp_path / "rows.csv.manifest.json").read_text())
        assert written[: manifest["bytes"]] == wanted[: manifest["bytes"]]
        more = ("--resume",)
        assert kills < 100
    assert kills
    assert (tmp_path / "rows.csv").read_bytes() == wanted
    assert not (tmp_path / "rows.csv.manifest.json").exists()
    found = json.loads((tmp_path / "r.json").read_text())
    assert {key: found[key] for key in report} == report


def test_all_rows_of_the_manifest_are_in_the_file(tmp_path: Path) -> None:
    """Also when no row was flushed before."""
    code = (
        "import os; from pathlib import Path; from cnn_infer.command.growing_file import GrowingFile\n"
        "with GrowingFile(Path('rows'), {}, resume=False) as file:\n"
        "    for number in range(100): file.row(f'{number}\\n', lambda: None)\n"
        "    file.save(lambda: 7)\n"
        "    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == -signal.SIGKILL
    manifest = json.loads((tmp_path / "rows.manifest.json").read_text())
    assert (manifest["rows"], manifest["counted"]) == (100, 7)
    assert (tmp_path / "rows").read_bytes()[: manifest["bytes"]] == b"".join(b"%d\n" % number for number in range(100))


def interrupted(tmp_path: Path, models: Path, environment: dict[str, str]) -> list[str]:
    process = start(tmp_path, models, environment)
    while process.poll() is None and rows_in(tmp_path / "rows.csv") < 50:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    return [line for line in ended(process, 130).splitlines() if line]


def test_ctrl_c_prints_how_to_continue(
    tmp_path: Path, pictures: Path, models: Path, environment: dict[str, str]
) -> None:
    wanted, _ = uninterrupted(tmp_path, models, environment)
    *_, advice, last = interrupted(tmp_path, models, environment)
    assert last == "cnn-infer: interrupted"
    rows = rows_in(tmp_path / "rows.csv") - 1
    assert advice == f"{rows:,} rows written to rows.csv: run the same command with --resume to continue"
    assert wanted.startswith((tmp_path / "rows.csv").read_bytes())
    ended(start(tmp_path, models, environment, "--resume"))
    assert (tmp_path / "rows.csv").read_bytes() == wanted


@pytest.mark.parametrize(
    "change",
    ["model", "version", "device", "device option", "option", "limit", "file", "new", "gone", "shorter", "manifest"],
)
def test_a_change_since_the_interruption_is_refused(
    tmp_path: Path, pictures: Path, models: Path, environment: dict[str, str], change: str,
    with_metadata: Callable[[str, str, str], bytes],
) -> None:  # fmt: skip
    interrupted(tmp_path, models, environment)
    manifest = tmp_path / "rows.csv.manifest.json"
    before = (tmp_path / "rows.csv").read_bytes()
    others, more, expected = models, ("--resume",), "the set of files changed"
    if change == "model":
        others = tmp_path / "models"
        others.mkdir()
        spec = Classifier(models / "rgb.onnx").spec
        (others / "rgb.onnx").write_bytes(with_metadata("rgb.onnx", "cnn.spec", spec.to_json()))
        expected = "the model changed"
    elif change == "version":
        manifest.write_text(manifest.read_text().replace(version("cnn-infer"), "0.0.9"))
        expected = "the version of cnn-infer changed"
    elif change == "device":
        manifest.write_text(manifest.read_text().replace("CPUExecutionProvider", "CUDAExecutionProvider"))
        expected = "the device changed"
    elif change == "device option":
        more = ("--resume", "--device", "cpu", "--device-option", "io_binding=off")
        expected = "--device-option changed"
    elif change == "option":
        more, expected = ("--resume", "--top", "1"), "--top changed"
    elif change == "limit":
        more, expected = ("--resume", "--max-bytes", "1000"), "--max-bytes changed"
    elif change == "file":
        os.utime(pictures / "red" / "0001.png", (1, 1))
    elif change == "new":
        (pictures / "zebra.png").write_bytes(b"")
    elif change == "gone":
        (pictures / "green" / "0300.png").unlink()
    elif change == "shorter":
        os.truncate(tmp_path / "rows.csv", 100)
        before, expected = before[:100], "fewer bytes than its manifest says"
    else:
        manifest.write_text("{}")
        expected = "is damaged"
    line = ended(start(tmp_path, others, environment, *more), 2).splitlines()[-1]
    assert expected in line
    assert line.endswith(f"delete {manifest} and start again without --resume")
    assert (tmp_path / "rows.csv").read_bytes() == before


def test_an_unfinished_file_is_not_overwritten_by_mistake(
    tmp_path: Path, pictures: Path, models: Path, environment: dict[str, str]
) -> None:
    interrupted(tmp_path, models, environment)
    assert "is unfinished: pass --resume" in ended(start(tmp_path, models, environment), 2)
    assert rows_in(tmp_path / "rows.csv") > 40


def test_a_model_whose_path_is_not_utf8(tmp_path: Path, models: Path, cli: Run, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.png", "red")
    name = os.fsencode(tmp_path) + b"/mod\xe8le.onnx"
    Path(os.fsdecode(name)).write_bytes((models / "rgb.onnx").read_bytes())
    cli("a.png", "--model", name, "--output", "rows.csv", "--format", "csv")
    assert (tmp_path / "rows.csv").read_text().splitlines()[1].startswith("a.png,red,0,")


def test_a_whole_run_saves_the_manifest_only_at_its_start(
    grey: Classifier, picture: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[int] = []
    save = GrowingFile.save
    monkeypatch.setattr(GrowingFile, "save", lambda file, counted: (saved.append(file.rows), save(file, counted)))
    settings = Settings("csv", False, None, 1, False, 5, 0.0, 1 << 20, 1 << 20)
    found = to_file(
        grey,
        [str(picture(tmp_path / "1.png", "red"))],
        settings,
        tmp_path / "rows",
        Results(None, None, 9, 9),
        resume=False,
    )
    assert found.images == 1
    assert saved == [0]


def test_the_manifest_names_the_model_that_was_opened(tmp_path: Path, models: Path) -> None:
    """Also if another file replaced it since."""
    path = tmp_path / "model.onnx"
    path.write_bytes((models / "rgb.onnx").read_bytes())
    model = open_model(path)
    path.write_bytes((models / "grey.onnx").read_bytes())
    wanted = hashlib.sha256((models / "rgb.onnx").read_bytes()).hexdigest()
    assert model.digest == wanted
    assert open_model((models / "rgb.onnx").read_bytes()).digest == wanted


def test_nothing_to_resume(tmp_path: Path, models: Path, refused: Refused, picture: Callable[..., Path]) -> None:
    picture(tmp_path / "a.png", "red")
    model = ("a.png", "--model", models / "rgb.onnx")
    assert "nothing to resume" in refused(*model, "--output", "rows.csv", "--resume")
    (tmp_path / "rows.csv").write_text("finished")
    assert "nothing to resume" in refused(*model, "--output", "rows.csv", "--resume")
    assert (tmp_path / "rows.csv").read_text() == "finished"
