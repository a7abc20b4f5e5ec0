"""Each message that the page on troubleshooting quotes is one that the packages have."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
QUOTED = [
    message for row in re.findall(r"^\| (`[^|]*`) \|", PAGE, re.M) for message in re.findall(r"`([^`]+)`", row)
] + re.findall(r"^- \*\*`([^`]+)`\*\*", PAGE, re.M)
SOURCES = [*ROOT.glob("*/src/**/*.py")]


def texts_of(node: ast.AST) -> Iterator[str]:
    """All texts below a node; an f-string is one text, with NUL for what is filled in."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in child.values)
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            yield child.value
        yield from texts_of(child)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    found = [text for path in SOURCES for text in texts_of(ast.parse(path.read_text(encoding="utf-8")))]
    return [*found, (ROOT / "Makefile").read_text(encoding="utf-8")]


@pytest.mark.parametrize("message", QUOTED)
def test_a_quoted_message_exists(message: str, texts: list[str]) -> None:
    parts = [re.escape(part.strip()) for part in message.split("...") if part.strip()]
    pattern = re.compile("[^\n]*".join(parts))
    assert any(pattern.search(text) for text in texts), f"no package prints: {message}"


def test_messages_are_quoted_at_all() -> None:
    assert len(QUOTED) > 30
