"""An int8 file for any processor computes the same integers on emulated processors; one for VNNI does not on AVX2."""

import json
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

Rows = dict[tuple[str, str], dict[str, Any]]


def measured(*arguments: object, code: int = 0) -> dict[str, Any]:
    """The report of benchmarks/processors.py; the test is skipped where a processor cannot be emulated."""
    output = Path(str(arguments[0])).parent / "processors.json"
    command = [sys.executable, BENCHMARKS / "processors.py", *arguments, "--output", output]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode == 2 and "not installed" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == code, done.stdout + done.stderr
    document: dict[str, Any] = json.loads(output.read_text())
    return document


def arm_processors() -> list[str]:
    """A processor of 64-bit Arm, if the environment for Arm is built."""
    command = [sys.executable, BENCHMARKS / "emulation.py", "--check"]
    return ["cortex-a72"] if subprocess.run(command, check=False).returncode == 0 else []


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """The rows of the report, by form and processor."""
    folder = tmp_path_factory.mktemp("processors")
    run = train("digits", out=folder / "run", model="nano", epochs=4).path
    for form in ("any", "vnni"):
        export(Run.open(shutil.copytree(run, folder / form)), quantize=True, target=form, search_seconds=0)
    options = ("--pictures", PICTURES, "--files", FILES, "--predict", "--processors")
    document = measured(folder / "any", folder / "vnni", *options, "avx2", "sse4.2", *arm_processors())
    return {(row["for"], row["processor"]): row for row in document["rows"]}


def test_a_file_for_any_processor_gives_the_same_integers_and_rows(rows: Rows) -> None:
    found = [row for (form, _), row in rows.items() if form == "any"]
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
