"""Read the details of a specification. They are optional: what is missing, or of another type, counts as unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def under(details: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return the JSON object below ``keys``, one inside the other; empty if there is none."""
    for key in keys:
        found = details.get(key)
        details = found if isinstance(found, Mapping) else {}
    return details
