"""``--ray`` on a cluster of two nodes on this machine: rows, report, lost nodes, killed drivers, damaged files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import pytest
from PIL import Image

pytest.importorskip("ray", reason="needs cnn-infer[ray]")
parquet = pytest.importorskip("pyarrow.parquet", reason="needs cnn-infer[ray]")

if TYPE_CHECKING:
    from ray.cluster_utils import Cluster

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]
CORPUS = Path(__file__).parents[1] / "corpus" / "pictures"
MODEL = Path(__file__).parents[1] / "models" / "rgb.onnx"
CHANGES = ("latency_ms", "images_per_second", "threads")
"""The fields of a report that differ between two runs on the same pictures."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with a processor each, whose address is in RAY_ADDRESS."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_BACKEND_LOG_LEVEL"] = "fatal"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    found.add_node(**node)
    os.environ["RAY_ADDRESS"] = str(found.address)
    yield found
    del os.environ["RAY_ADDRESS"]
    found.shutdown()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder ``in`` with pictures of about 2 ms each in folders of classes, and bad files of each kind."""
    root = tmp_path_factory.mktemp("cluster")
    for name in ("red", "green", "blue", "attic"):
        folder = root / "in" / name / "deep"
        folder.mkdir(parents=True)
        Image.new("RGB", (500, 500), name if name != "attic" else "red").save(folder / "0000.png")
        for index in range(1, 240):
            os.link(folder / "0000.png", folder / f"{index:04}.png")
    for bad in CORPUS.iterdir():
        os.link(bad, root / "in" / "green" / f"{bad.stem}.png")
    (root / "in" / "green" / "notes.txt").write_bytes(b"")
    (root / "in" / "red" / 'odd, "name".png').write_bytes(b"no picture")
    return root


def start(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cnn_infer", "in", "--model", MODEL, "--batch-size", "8", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ended(process: subprocess.Popen[bytes], code: int = 0) -> str:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors.decode()
    assert not output
    for sign in (b"Traceback", b"ray", b"INFO", b"WARNING"):
        assert sign not in errors, errors.decode()
    return errors.decode()


def joined(folder: Path) -> bytes:
    """The rows of all parts of CSV with one header, as the documentation joins them."""
    command = "awk 'FNR > 1 || NR == 1' part-*.csv"
    return subprocess.run(command, shell=True, cwd=folder, check=True, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def plain(pictures: Path) -> tuple[bytes, dict[str, Any]]:
    """Rows and report of the run on a single machine."""
    ended(start(pictures, "--output", "plain.csv", "--format", "csv", "--report", "plain.json", "--threshold", "0.9"))
    return (pictures / "plain.csv").read_bytes(), json.loads((pictures / "plain.json").read_text())


def same_report(found: Path, wanted: dict[str, Any]) -> None:
    report = json.loads(found.read_text())
    assert {**report, **dict.fromkeys(CHANGES)} == {**wanted, **dict.fromkeys(CHANGES)}
    assert list(report["unknown_folders"]) == list(wanted["unknown_folders"])
    for kind, figures in report["latency_ms"].items():
        assert figures["n"] == wanted["latency_ms"][kind]["n"]
        assert 0 < figures["p50"] <= figures["p90"] <= figures["p99"]


def adds_up(folder: Path, wanted: bytes) -> None:
    manifest = json.loads((folder / "_manifest.json").read_text())
    assert manifest["pictures"] == sum(file["pictures"] for file in manifest["files"]) == wanted.count(b"\n") - 1
    assert manifest["errors"] == sum(file["errors"] for file in manifest["files"])
    assert {file["file"]: file["bytes"] for file in manifest["files"]} == {
        path.name: path.stat().st_size for path in folder.glob("part-*")
    }


def parts_done(folder: Path) -> int:
    return len(list((folder / "_parts").glob("*.done.json")))


def wait_for_parts(process: subprocess.Popen[bytes], folder: Path, parts: int) -> None:
    while process.poll() is None and parts_done(folder) < parts:
        time.sleep(0.005)
    assert process.poll() is None, ended(process)


def actors(cluster: Cluster) -> list[int]:
    """The processes of actors on the nodes of this cluster."""
    nodes = [cluster.head_node, *cluster.worker_nodes]
    raylets = [str(node.all_processes["raylet"][0].process.pid) for node in nodes]
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "status").read_text().partition("PPid:\t")[2].partition("\n")[0]
            if parent in raylets and (folder / "cmdline").read_bytes().startswith(b"ray::MapWorker"):
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def test_rows_and_report_survive_a_killed_actor_and_a_lost_node(
    cluster: Cluster, pictures: Path, plain: tuple[bytes, dict[str, Any]]
) -> None:
    out = pictures / "lost"
    more = ("--threshold", "0.9", "--report", "lost.json", "--format", "csv", "--part-size", 20)
    process = start(pictures, "--output", out, *more, "--ray")
    wait_for_parts(process, out, 4)
    os.kill(actors(cluster)[0], signal.SIGKILL)
    wait_for_parts(process, out, 6)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    printed = ended(process)
    assert joined(out) == plain[0]
    same_report(pictures / "lost.json", plain[1])
    adds_up(out, plain[0])
    assert (out / "_SUCCESS").read_bytes() == b""
    assert f"wrote {out}" in printed
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)


def test_parquet_has_the_values_of_json_lines(cluster: Cluster, pictures: Path) -> None:
    """Also of an archive, and with a labels file."""
    with ZipFile(pictures / "more.zip", "w") as archive:
        for index in range(30):
            archive.write(pictures / "in" / "blue" / "deep" / "0000.png", f"sky/{index}.png")
        archive.writestr("sky/broken.png", b"no picture")
    labels = [f"in/{name}/deep/{index:04}.png,{name}" for name in ("red", "green") for index in range(0, 240, 3)]
    rows = ["file_name,label", *labels, "more.zip/sky/1.png,green", "more.zip/sky/2.png,violet", "absent.png,red"]
    (pictures / "labels.csv").write_text("\n".join(rows))
    common = ("more.zip", "--truth", "labels.csv", "--top", 2)
    ended(start(pictures, *common, "--output", "plain.jsonl", "--format", "jsonl", "--report", "plain_truth.json"))
    ended(start(pictures, *common, "--output", "table", "--part-size", 400, "--report", "truth.json", "--ray", "auto"))
    wanted = [json.loads(line) for line in (pictures / "plain.jsonl").read_text().splitlines()]
    parts = sorted((pictures / "table").glob("part-*.parquet"))
    assert len(parts) == 3
    assert [row for part in parts for row in parquet.read_table(part).to_pylist()] == wanted
    assert parquet.read_table(pictures / "table").num_rows == len(wanted)
    same_report(pictures / "truth.json", json.loads((pictures / "plain_truth.json").read_text()))


def test_a_killed_driver_is_resumed(cluster: Cluster, pictures: Path, plain: tuple[bytes, dict[str, Any]]) -> None:
    out = pictures / "killed"
    more = ("--output", out, "--threshold", "0.9", "--report", "killed.json", "--format", "csv", "--part-size", 20)
    process = start(pictures, *more, "--ray")
    wait_for_parts(process, out, 5)
    process.kill()
    process.communicate()
    assert not (out / "_SUCCESS").exists()
    assert not (pictures / "killed.json").exists()
    assert "is not empty: pass --resume to continue its job" in ended(start(pictures, *more, "--ray"), 2)
    assert "--top changed since" in ended(start(pictures, *more, "--top", 1, "--ray", "--resume"), 2)
    unbound = ("--device", "cpu", "--device-option", "io_binding=off")
    assert "--device-option changed since" in ended(start(pictures, *more, *unbound, "--ray", "--resume"), 2)
    job = (out / "_job.json").read_bytes()
    (out / "_job.json").write_bytes(b"{}")
    assert "_job.json in" in ended(start(pictures, *more, "--ray", "--resume"), 2)
    (out / "_job.json").write_bytes(job)
    while actors(cluster):  # those of the killed driver finish their parts
        time.sleep(0.05)
    damaged, *good = [Path(out, f"part-{path.name[:8]}.csv") for path in sorted((out / "_parts").glob("*.done.json"))]
    written = {path: path.stat().st_mtime_ns for path in good}
    damaged.write_bytes(damaged.read_bytes().replace(b"red", b"rid", 1))
    parts = parts_done(out)
    process = start(pictures, *more, "--resume", "--ray")
    wait_for_parts(process, out, parts + 3)
    process.send_signal(signal.SIGINT)
    *_, advice, last = filter(None, ended(process, 130).splitlines())
    assert last == "cnn-infer: interrupted"
    assert advice.endswith(f"parts written to {out}: run the same command with --resume to do the rest")
    ended(start(pictures, *more, "--resume", "--ray"))
    assert joined(out) == plain[0]
    same_report(pictures / "killed.json", plain[1])
    adds_up(out, plain[0])
    assert {path: path.stat().st_mtime_ns for path in good} == written
    assert "nothing to resume" in ended(start(pictures, *more, "--resume", "--ray"), 2)
    assert "is the output of a finished job: choose another" in ended(start(pictures, *more, "--ray"), 2)
