"""The tables of figures are those that the results give."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The README, the pages and the results."""
    for name in ("benchmarks", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def tables(root: Path, *arguments: str, code: int = 0) -> str:
    command = [sys.executable, str(root / "benchmarks" / "tables.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_tables_are_up_to_date() -> None:
    tables(ROOT, "--check")
    text = (ROOT / "README.md").read_text() + (ROOT / "docs" / "measuring.md").read_text()
    assert text.count("<!-- table: ") == text.count("<!-- end of table -->") == 7


def test_an_old_table_is_found_and_written_again(copy: Path) -> None:
    result = copy / "benchmarks" / "results" / "folder_cifar10_nano_epyc_zen5.json"
    document = json.loads(result.read_text())
    document["all pictures"]["pytorch"]["seconds"] = 12.34
    result.write_text(json.dumps(document))
    assert "README.md, docs/measuring.md" in tables(copy, "--check", code=1)
    assert "12.3 s" not in (copy / "README.md").read_text()
    tables(copy)
    assert "| 10,000 pictures | 1.2 s | 1.7 s | 12.3 s | 6.1 s |" in (copy / "README.md").read_text()
    assert tables(copy, "--check") == ""


def test_the_page_on_scale_follows_from_the_results(copy: Path) -> None:
    results = copy / "benchmarks" / "results"
    document = json.loads((results / "folder_photos64_epyc_zen5.json").read_text())
    document["all pictures"]["model"]["pictures_per_second"] = 2000 / 2.6  # of two cores
    (results / "folder_photos64_epyc_zen5.json").write_text(json.dumps(document))
    for path in [*results.glob("cluster_*.json"), *results.glob("storage_*.json")]:
        path.unlink()
    cluster = {"cluster": {"overhead_of_rate": 0.123, "start_seconds": 3.0}, "plain": {"start_seconds": 0.5}}
    (results / "cluster_a.json").write_text(json.dumps(cluster))
    listing = {"names": 1_000_000, "seconds": 4, "before_mb": 50, "peak_mb": 62}
    (results / "cluster_b.json").write_text(json.dumps(listing))
    sources = {"folder": {"processor_seconds": 10.4}, "no delay": {"processor_seconds": 14.4}}  # 1 ms a request
    storage = {"delay_costs": 0.045, "pictures": 4000, "sources": sources}
    (results / "storage_a.json").write_text(json.dumps(storage))
    tables(copy)
    lines = (copy / "docs" / "scale.md").read_text().splitlines()
    for quantity, value in (
        ("pictures a second and core, files on this machine", "385"),
        ("pictures a second and core, from S3", "278"),
        ("core hours, a million", "1.00"),
        ("$ of cores, a million", "0.050"),
        ("hours for a billion, 1,000 cores, without listing", "1.00"),
        ("hours for a billion, 1,000 cores, one listing", "28.8"),
        ("prefixes for them", "51"),
    ):
        (line,) = [line for line in lines if line.startswith(f"| {quantity} |")]
        assert line.split(" | ")[2] == value
    (line,) = [line for line in lines if line.startswith("| pictures a second and core, from S3 |")]
    assert line.split(" | ")[3] == "320 |"  # 32 requests in flight, each takes 0.1 seconds
    measured = [line.split(" | ")[1:] for line in lines if line.endswith(("_a.json |", "_b.json |"))]
    assert measured == [
        ["1", "measured: storage_a.json |"],  # milliseconds of a GET request
        ["12.3% more time per picture", "cluster_a.json |"],
        ["2.5 seconds", "cluster_a.json |"],
        ["250,000 a second, 12 MB for 1,000,000", "cluster_b.json |"],
        ["4.5% of the rate", "storage_a.json |"],
    ]
