"""Keys of Helm values that a chart does not have: it would pass over them without a word."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def unknown(values: dict[str, Any], known: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[str]:
    """A key without anything below it in ``known`` takes whatever is written there."""
    for name, value in values.items():
        if name not in known:
            yield ".".join((*path, name))
        elif isinstance(value, dict) and known[name]:
            yield from unknown(value, known[name], (*path, name))
