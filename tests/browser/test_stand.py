"""The browser stand itself reports what is wrong with a page, and nothing about a page without faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">
<style>:root { color-scheme: light dark }</style></head><body><main><h1>A page</h1>%s</main></body></html>"""

FAULTS = """<img src="missing.png"><div style="width: 500px">wide</div>
<p style="color: #bbb; background: white">pale</p><script>console.error("from the page"); alert(1)</script>"""

SCRIPT = """export default async (page, view) => [await page.title(), view.width,
  await page.evaluate(() => matchMedia("(prefers-color-scheme: dark)").matches)]"""


def test_faults_are_reported(visit: Callable[..., list[Any]], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE % FAULTS)
    (view,) = visit(tmp_path / "page.html", at=[(360, "light")], screenshots=tmp_path)
    assert {found["id"] for found in view.violations} == {"image-alt", "color-contrast"}
    assert {"from the page", "dialog: 1"} <= {*view.errors}
    assert [Path(url).name for url in view.requests] == ["page.html", "missing.png"]
    assert view.overflow > 0
    assert (tmp_path / "0-360-light.png").read_bytes().startswith(b"\x89PNG")


def test_a_page_without_faults_at_two_widths(visit: Callable[..., list[Any]], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE % "<p>text</p>")
    (tmp_path / "script.mjs").write_text(SCRIPT)
    views = visit(
        tmp_path / "page.html", script=tmp_path / "script.mjs", offline=True, at=[(360, "light"), (1280, "dark")]
    )
    assert [(view.violations, view.errors, len(view.requests), view.overflow) for view in views] == 2 * [([], [], 1, 0)]
    assert [tuple(view.result) for view in views] == [("A page", 360, False), ("A page", 1280, True)]
