"""An int8 file for any processor computes the same integers on emulated processors; one for VNNI does not on AVX2."""

import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cnn_export import export
from cnn_train import Run, train

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PICTURES, FILES = 100, 4
HANGS_AFTER = 900
"""Seconds after which a script counts as hanging. No test measures speed."""

Rows = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def emulator() -> None:
    """Skips all tests where x86 processors cannot be emulated."""
    if platform.machine() != "x86_64":
        pytest.skip("x86 processors are emulated on x86 machines only")
    if not (shutil.which("qemu-x86_64-static") or shutil.which("qemu-x86_64")):
        pytest.skip("QEMU is not installed; on Debian and Ubuntu: apt install qemu-user-static")


def arm_processors() -> list[str]:
    """A processor of 64-bit Arm, if the environment for Arm is built."""
    command = [sys.executable, BENCHMARKS / "emulation.py", "--check"]
    return ["cortex-a72"] if subprocess.run(command, check=False).returncode == 0 else []


@pytest.fixture(scope="module")
def rows(emulator: None, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of the report, by target and processor."""
    folder = tmp_path_factory.mktemp("processors")
    run = train("digits", out=folder / "run", model="nano", epochs=4).path
    for target in ("any", "vnni"):
        export(Run.open(shutil.copytree(run, folder / target)), quantize=True, target=target, search_seconds=0)
    output, arguments = folder / "processors.json", ("--pictures", PICTURES, "--files", FILES, "--predict")
    command = [sys.executable, BENCHMARKS / "processors.py", folder / "any", folder / "vnni", *arguments]
    command += ["--output", output, "--processors", "avx2", "sse4.2", *arm_processors()]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=HANGS_AFTER, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(output.read_text())
    return {(row["for"], row["processor"]): row for row in document["rows"]}


def test_a_file_for_any_processor_gives_the_same_integers_and_rows(rows: Rows) -> None:
    found = [row for (target, _), row in rows.items() if target == "any"]
    assert len(found) >= 3
    for row in found:
        assert row["pictures"] == row["integers_equal"] == row["logits_equal"] == PICTURES, row
        assert (row["flips"], row["rows_of_another_class"], row["files"]) == (0, 0, FILES), row
        assert (row["prediction"]["saturated"], row["prediction"]["logits_as_predicted"]) == (0, PICTURES), row
        assert row["verified"]
        assert row["stages"]["decode"][0] == row["stages"]["decode"][1] > 10
        assert row["int8_tensors"] > 5
        assert row["taps_change_nothing"], row
        assert row["rows_largest_difference"] < 1.5e-6  # rows have 6 digits


def test_a_file_for_vnni_overflows_on_avx2_as_predicted(rows: Rows) -> None:
    assert not rows["vnni", "avx2"]["verified"]
    found = rows["vnni", "avx2"]["prediction"]
    assert found["saturated"] > 0
    assert found["logits_as_predicted"] == PICTURES
    exact = rows["vnni", "sse4.2"]["prediction"]  # adds in 32 bits
    assert (exact["saturated"], exact["logits_as_predicted"]) == (0, PICTURES)
