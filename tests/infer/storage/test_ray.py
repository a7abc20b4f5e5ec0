"""``--ray`` without an address starts a cluster; pictures, model and results are objects in a store."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cnn_infer import Classifier, InputError
from cnn_infer.cluster.folder import JobFolder
from cnn_infer.cluster.job import Job
from cnn_infer.cluster.listing import Listing
from cnn_infer.cluster.worker import Work
from cnn_infer.paths.find import Found
from cnn_infer.storage.pending import ObjectURL
from cnn_infer.tally import Tally

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
    s3.put("cluster/photos/hidden/1.png", b"")
    s3.faults.planned["prefix=cluster/photos/hidden"] = [403] * 99
    model = s3.put("cluster/model.onnx", (models / "rgb.onnx").read_bytes())
    common = (url, "--model", model, "--format", "jsonl")
    cli(*common, "--output", "plain.jsonl", "--report", "plain.json")
    out = "s3://pictures/cluster/rows"
    more = ("--part-size", "5", "--report", "s3://pictures/cluster/report.json")
    done = cli(*common, "--output", out, *more, "--ray")
    assert not done.stdout
    names = s3.keys("cluster/rows/")
    parts = [name for name in names if "/part-" in name]
    assert parts == [f"cluster/rows/part-0000000{number}.jsonl" for number in range(3)]
    assert b"".join(map(s3.get, parts)) == (tmp_path / "plain.jsonl").read_bytes()
    assert "cluster/rows/_SUCCESS" in names
    assert json.loads(s3.get("cluster/rows/_manifest.json"))["pictures"] == 14
    assert not any("_parts" in name for name in names)
    found, wanted = json.loads(s3.get("cluster/report.json")), json.loads((tmp_path / "plain.json").read_text())
    assert (found["confusion"], found["calibration"]) == (wanted["confusion"], wanted["calibration"])
    assert b"access is denied" in (tmp_path / "plain.jsonl").read_bytes()
    assert b"is the output of a finished job" in cli(*common, "--output", out, *more, "--ray", code=2).stderr


def test_the_requests_for_parts_are_in_flight_together(s3: S3, rgb: Classifier) -> None:
    parts, place = 40, "/pictures/cluster/many"
    folder = JobFolder(f"s3:/{place}", "csv")
    folder.check_free()
    s3.faults.delay = 0.1
    given = "s3://pictures/a/"
    found = [Found(ObjectURL(f"{given}{name}.png", 7, "tag", "denied"), given) for name in "bc"]
    with folder.lists() as keep:
        for part in range(parts):
            keep(part, found)
    assert s3.faults.most > 8
    s3.faults.clear()
    assert folder.read_list(39) == found
    assert [(path.size, path.version, path.failure) for path, _ in folder.read_list(39)] == [(7, "tag", "denied")] * 2
    counted = {**Tally(rgb.spec.classes).counted(times=True), "images": 2}
    for part in range(4):
        folder.write_part(part, b"rows", {"pictures": 2, "errors": 0, "counted": counted})
    assert folder.parts_done() == 4
    s3.put("cluster/many/part-00000002.csv", b"row")
    listing = Listing(parts, 80, "", 2)
    job = Job(folder, listing, {})
    s3.faults.clear()
    s3.faults.delay = 0.1
    job.resume(Work(rgb, "", None, folder, "csv", False, None, 1, 1, False, False))
    assert (job.done, job.pictures_done) == ({0, 1, 3}, 6)
    assert s3.faults.most > 8
    assert s3.faults.requests[f"{place}/part-00000000.csv"] == 1  # its size alone
    folder.finish(parts)
    assert not any("_parts" in name for name in s3.keys("cluster/many/"))


def test_a_whole_bucket_takes_a_job_while_it_is_empty(s3: S3) -> None:
    s3.call("create_bucket", Bucket="empty")
    folder = JobFolder("s3://empty", "csv")
    folder.check_free()
    folder.write_part(0, b"rows", {})
    with pytest.raises(InputError, match="s3://empty is not empty: choose"):
        folder.check_free()
    s3.put("cluster/file", b"")
    with pytest.raises(InputError, match="names a folder, and s3://pictures/cluster/file is a file"):
        JobFolder("s3://pictures/cluster/file", "csv").check_free()
