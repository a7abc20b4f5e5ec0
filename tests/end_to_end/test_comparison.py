"""``cnn-train --compare`` of a run with its exported files: the figures are those that the export measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_a_run_beside_its_exported_files(chain: Path, run: Callable[..., Any]) -> None:
    [folder] = (chain / "runs").iterdir()
    export = json.loads((folder / "export.json").read_text())
    paths = [folder, folder / "model.onnx", folder / export["int8"]["file"]]
    run(chain, "train", "--compare", *(path.relative_to(chain) for path in paths), "--report", "compared.json")
    found = json.loads((chain / "compared.json").read_text())
    trained, fp32, int8 = found["models"]
    assert [entry["kind"] for entry in found["models"]] == ["PyTorch", "fp32", "int8"]
    assert trained["accuracy"] == fp32["accuracy"] == export["fp32"]["accuracy"]
    measured = export["int8"]["test"]
    assert int8["accuracy"] == measured["accuracy_int8"]
    for name, entry in (("fp32", fp32), ("int8", int8)):
        assert entry["ece"] == pytest.approx(export["calibration"][name]["ece"], abs=1e-6)
    pair = found["pairs"][2]
    assert (pair["first"], pair["second"]) == (1, 2)
    assert (pair["only_first"], pair["only_second"]) == (measured["lost"], measured["won"])
    assert pair["mcnemar_p"] == pytest.approx(measured["mcnemar_p"])
    assert sorted(-100 * end for end in pair["difference_interval"]) == pytest.approx(measured["drop_interval"])
