"""When two names of a version mean the same one. Pure."""

from __future__ import annotations

import re

_CORE = re.compile(r"v?(\d+\.\d+\.\d+)(?![\d.])", re.ASCII)


def same_version(answered: str | None, wanted: str) -> bool:
    """``v1.1.0`` is ``1.1.0``, and so is ``1.1.0+5f3a91c``: build metadata says how it was built, not what it is
    (semantic versioning 2.0.0, 10). Where both have it, it has to be the same.
    """
    if not answered:
        return False
    (here, _, built), (there, _, asked) = (text.strip().removeprefix("v").partition("+") for text in (answered, wanted))
    return here == there and (not built or not asked or built == asked)


def core_of(text: str) -> str:
    """``1.2.3`` of ``v1.2.3-alpine``; empty for what is no version, such as ``latest``, a date or a commit."""
    found = _CORE.match(text)
    return found[1] if found else ""
