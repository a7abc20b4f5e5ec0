"""Reads a page back: its elements, and the text of its tables and lists by section."""

from __future__ import annotations

from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """A parsed page.

    Attributes:
        elements: Name and attributes of each element, in order.
        text: All text, joined by spaces.
        rows: For each section, the cells of its tables, row by row.
        heading: The text of the h1.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: dict[str, list[list[str]]] = defaultdict(list)
        self.heading = ""
        self._words: list[str] = []
        self._open: list[str] = []
        self._section = ""
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, f"not closed: {self._open}"
        self.text = " ".join(" ".join(self._words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "section":
            self._section = dict(attrs)["id"] or ""
        elif tag == "tr":
            self.rows[self._section].append([])
        elif tag in ("td", "th"):
            self.rows[self._section][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self._words.append(data)
        if "h1" in self._open:
            self.heading += data
        if {"td", "th"} & {*self._open}:
            self.rows[self._section][-1][-1] += data

    def attributes(self, name: str) -> list[str]:
        """Return the values of an attribute in all elements."""
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


def assert_self_contained(page: Page) -> None:
    """No script, no handler of events, and nothing that is loaded from elsewhere."""
    names = {tag for tag, _ in page.elements}
    assert not names & {"script", "iframe", "object", "embed", "form", "base", "video", "audio"}
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert all(value.startswith("data:image/jpeg;base64,") for value in page.attributes("src"))
    assert all(value.startswith("#") or value == "data:," for value in page.attributes("href"))
    assert not [value for value in page.attributes("style") if "url" in value]
