"""JSON that somebody else has written."""

from __future__ import annotations

import json
from typing import Any


def decoded(text: str | bytes | bytearray, **how: Any) -> Any:
    """The value. Raises `ValueError` for anything that is none, also for one that is nested deeper than Python can
    read: a few kilobytes of brackets, for which `json.loads` has an error that nobody expects.
    """
    try:
        return json.loads(text, **how)  # noqa: TID251 - here alone
    except RecursionError:
        raise ValueError("it is nested too deep") from None
