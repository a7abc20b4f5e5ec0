"""The URL of a SQLite database, as SQLAlchemy reads it."""

from __future__ import annotations

import re
from pathlib import Path


def sqlite_url(file: Path) -> str:
    """Return the URL by which SQLAlchemy, and with it Optuna and MLflow, opens a database; the path becomes absolute.

    What would end the path or stand for another character is quoted: ``?`` and ``%``, and the braces that Optuna fills
    in. All else stays as it is, because MLflow creates the folder that it reads in the URL without unquoting it.
    """
    quoted = re.sub("[%?{}]", lambda found: f"%{ord(found[0]):02X}", str(file.resolve()))
    return f"sqlite:///{quoted}"
