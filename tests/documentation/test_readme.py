"""The README and SECURITY.md keep what they promise; test_pages.py runs the README's commands."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short_and_starts_with_the_two_commands() -> None:
    assert len(README.splitlines()) <= 120
    first = re.findall(r"^```sh\n(.*?)^```$", README, re.M | re.S)[0]
    assert [line.split("#")[0].strip() for line in first.splitlines()] == ["make demo", "make test"]


def test_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 12
    assert [link for link in links if not (ROOT / link).is_file()] == []


def test_each_promise_of_security_names_a_test_that_exists() -> None:
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    promises = re.findall(r"^\| ([A-Z].*?) \| (`.*`) \|$", text, re.M)
    assert len(promises) > 10
    named = [path for _, tests in promises for path in re.findall(r"`([^`]+)`", tests)]
    assert [path for path in named if not (ROOT / path).is_file()] == []
