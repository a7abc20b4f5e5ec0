"""The workflows are valid, run targets of the Makefile, and repeat nothing of it."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.findall(r"^([a-z]+):", MAKEFILE, re.M))
RELEASES = ["3.11", "3.12", "3.13", "3.14"]


def jobs(path: Path) -> dict[str, Any]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(document) == {"name", True, "permissions", "jobs"}  # YAML 1.1 reads the key "on" as true
    found: dict[str, Any] = document["jobs"]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_job_runs_one_target_on_a_machine_and_a_python(path: Path) -> None:
    for job in jobs(path).values():
        assert job["runs-on"]
        commands = [step["run"] for step in job["steps"] if "run" in step]
        assert len(commands) == 1
        assert re.fullmatch(r"make ([a-z]+)", commands[0])
        assert commands[0].removeprefix("make ") in TARGETS
        used = [step["uses"].split("@")[0] for step in job["steps"] if "uses" in step]
        assert used[:2] == ["actions/checkout", "actions/setup-python"]
        assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_lint_tests_edge_docs_and_wheels_are_checked() -> None:
    (path,) = WORKFLOWS
    found = jobs(path)
    targets = {step["run"].removeprefix("make ") for job in found.values() for step in job["steps"] if "run" in step}
    assert targets == {"lint", "test", "edge", "docs", "wheels"}
    assert found["test"]["strategy"]["matrix"]["python"] == RELEASES
    assert found["edge"]["strategy"]["matrix"]["python"] == RELEASES
    kept = [step["with"]["path"] for job in found.values() for step in job["steps"] if "upload" in step.get("uses", "")]
    assert sorted(kept) == ["dist", "site"]


def test_python_releases_are_those_that_the_packages_accept() -> None:
    for part in ("infer", "train", "export"):
        assert f'requires-python = ">={RELEASES[0]}"' in (ROOT / part / "pyproject.toml").read_text()


def test_the_makefile_says_what_each_target_does() -> None:
    described = set(re.findall(r"^# make ([a-z]+) ", MAKEFILE, re.M))
    assert TARGETS - described == {"check"}
    assert described <= TARGETS
