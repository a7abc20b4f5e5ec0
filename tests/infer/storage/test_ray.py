"""``--ray`` without an address starts a cluster; pictures, model and results are objects in a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import subprocess

    from tests.infer.storage.conftest import S3

pytest.importorskip("ray", reason="needs cnn-infer[ray]")


def test_rows_of_objects_are_parts_of_objects(
    s3: S3, cli: Callable[..., subprocess.CompletedProcess[bytes]], models: Path, picture: Callable[..., Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    for number in range(12):
        picture(tmp_path / "photos" / ("red", "green", "blue")[number % 3] / f"{number}.png", "red")
    (tmp_path / "photos" / "green" / "broken.png").write_bytes(b"no picture")
    url = s3.put_folder(tmp_path / "photos", "cluster/photos")
    model = s3.put("cluster/model.onnx", (models / "rgb.onnx").read_bytes())
    common = (url, "--model", model, "--format", "jsonl")
    cli(*common, "--output", "plain.jsonl", "--report", "plain.json")
    out = "s3://pictures/cluster/rows"
    more = ("--part-size", "5", "--report", "s3://pictures/cluster/report.json")
    done = cli(*common, "--output", out, *more, "--ray")
    assert not done.stdout
    names = s3.keys("cluster/rows/")
    parts = [name for name in names if "/part-" in name]
    assert parts == [f"cluster/rows/part-0000{number}.jsonl" for number in range(3)]
    assert b"".join(map(s3.get, parts)) == (tmp_path / "plain.jsonl").read_bytes()
    assert "cluster/rows/_SUCCESS" in names
    assert json.loads(s3.get("cluster/rows/_manifest.json"))["pictures"] == 13
    found, wanted = json.loads(s3.get("cluster/report.json")), json.loads((tmp_path / "plain.json").read_text())
    assert (found["confusion"], found["calibration"]) == (wanted["confusion"], wanted["calibration"])
    assert b"is the output of a finished job" in cli(*common, "--output", out, *more, "--ray", code=2).stderr
