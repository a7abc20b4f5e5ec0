"""Chromium for tests of pages: axe-core at the width of a phone and of a desktop, light and dark, and all requests."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parent
EVERYWHERE = tuple((width, scheme) for width in (360, 1280) for scheme in ("light", "dark"))
HANGS_AFTER = 120


@dataclass(frozen=True)
class View:
    """What Chromium found on a page at one width, in CSS pixels, in one colour scheme.

    Attributes:
        target: The URL of the page.
        width: 360 or 1280.
        scheme: ``light`` or ``dark``.
        violations: The rules of axe-core that the page breaks: ``id``, ``help`` and the HTML of the ``nodes``.
        errors: Errors and warnings on the console, exceptions, and dialogs.
        requests: URLs that were requested, the page itself first; not ``data:`` URLs.
        overflow: CSS pixels by which the page is wider than the window.
        result: What the script of the test returned.
    """

    target: str
    width: int
    scheme: str
    violations: list[dict[str, Any]]
    errors: list[str]
    requests: list[str]
    overflow: int
    result: Any


Visit = Callable[..., list[View]]


def missing() -> str | None:
    """What the tests in Chromium lack on this machine, and the command for it; None if nothing."""
    if shutil.which("node") is None:
        return "node is missing: apt install nodejs npm"
    if not (FOLDER / "node_modules").is_dir():
        return "playwright-core and axe-core are missing: npm ci --prefix tests/browser"
    if shutil.which("chromium") is None:
        return "chromium is missing: apt install chromium"
    return None


@pytest.fixture(scope="session")
def visit() -> Visit:
    """Open pages in Chromium: ``visit(file_or_url, ..., screenshots=folder, script=module, offline=True)``.

    Each page is opened at each width and in each colour scheme of ``at``; all in one browser with an empty profile.
    ``script`` is a JavaScript module whose default export gets the page of Playwright before axe-core runs.
    """
    if lack := missing():
        pytest.skip(lack)

    def run(
        *targets: Path | str,
        screenshots: Path | None = None,
        script: Path | None = None,
        offline: bool = False,
        at: Sequence[tuple[int, str]] = EVERYWHERE,
    ) -> list[View]:
        views = [
            {
                "target": target.resolve().as_uri() if isinstance(target, Path) else target,
                "width": width,
                "scheme": scheme,
                "offline": offline,
                "script": None if script is None else str(script),
                "screenshot": None if screenshots is None else str(screenshots / f"{number}-{width}-{scheme}.png"),
            }
            for number, target in enumerate(targets)
            for width, scheme in at
        ]
        job = json.dumps({"chromium": shutil.which("chromium"), "views": views})
        command = ["node", str(FOLDER / "visit.mjs")]
        done = subprocess.run(command, input=job, capture_output=True, text=True, timeout=HANGS_AFTER, check=False)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        return [
            View(view["target"], view["width"], view["scheme"], **seen)  # type: ignore[arg-type]
            for view, seen in zip(views, found, strict=True)
        ]

    return run
