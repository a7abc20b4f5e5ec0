"""The workflows are valid, run targets of the Makefile, and repeat nothing of it."""

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
RELEASES = ["3.11", "3.12", "3.13", "3.14"]


def job() -> dict[str, Any]:
    """The only job of the only workflow."""
    (path,) = (ROOT / ".github" / "workflows").iterdir()
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(document) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads the key "on" as true
    (found,) = document["jobs"].values()
    assert set(found) == {"name", "runs-on", "strategy", "steps"}
    return found


def test_lint_tests_edge_docs_and_wheels_are_checked() -> None:
    matrix = job()["strategy"]["matrix"]
    assert matrix["python"] == RELEASES
    assert matrix["target"] == ["test", "edge"]
    assert [entry["target"] for entry in matrix["include"]] == ["lint", "docs", "wheels"]
    assert {*matrix["target"], *(entry["target"] for entry in matrix["include"])} <= TARGETS
    assert all(entry["python"] in RELEASES for entry in matrix["include"])


def test_the_site_and_the_wheels_are_kept_where_make_writes_them() -> None:
    folders = dict(re.findall(r"^(SITE|DIST) := (\S+)$", MAKEFILE, re.M))
    kept = {entry["target"]: entry["keep"] for entry in job()["strategy"]["matrix"]["include"] if "keep" in entry}
    assert kept == {"docs": folders["SITE"], "wheels": folders["DIST"]}


def test_a_job_runs_nothing_but_its_target() -> None:
    steps = job()["steps"]
    assert [step["run"] for step in steps if "run" in step] == ["make ${{ matrix.target }}"]
    used = [step["uses"] for step in steps if "uses" in step]
    assert [re.sub(r"@v\d+$", "", name) for name in used] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    ]


def test_python_releases_start_with_the_one_that_the_packages_require() -> None:
    for part in ("infer", "train", "export"):
        assert f'requires-python = ">={RELEASES[0]}"' in (ROOT / part / "pyproject.toml").read_text(encoding="utf-8")


def test_the_makefile_says_what_each_target_does() -> None:
    described = set(re.findall(r"^# make ([a-z]+) ", MAKEFILE, re.M))
    assert TARGETS - described == {"check"}
    assert described <= TARGETS
