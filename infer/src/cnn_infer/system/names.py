"""Names of files from the operating system as text: UTF-8, whatever the locale."""

from __future__ import annotations

import re

_UNDECODED = re.compile("[\udc80-\udcff]+")  # as which Python keeps the bytes of a name that the locale cannot decode


def as_text(name: str, errors: str = "surrogateescape") -> str:
    """Decode the parts of a name that Python could not decode in the locale, for example in ``LC_ALL=C``.

    Args:
        name: A name, or a text that contains names.
        errors: What becomes of bytes that are not UTF-8 either: ``surrogateescape`` keeps them, ``backslashreplace``
            turns them into text such as ``\\xe9``.
    """
    if name.isascii():
        return name
    return _UNDECODED.sub(lambda found: found[0].encode("utf-8", "surrogateescape").decode("utf-8", errors), name)
