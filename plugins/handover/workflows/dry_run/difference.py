"""What differs between two states of a Kubernetes object, for people to read. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

IGNORED = frozenset({
    "status", "metadata.managedFields", "metadata.resourceVersion", "metadata.generation", "metadata.uid",
    "metadata.creationTimestamp",
})  # fmt: skip
"""Paths that the API server fills in."""
MAX_LINES = 40


def differences(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """``path: old -> new`` for every value that differs; of a list, as a whole when its length does."""
    found = list(_compare("", before or {}, after))
    more = len(found) - MAX_LINES
    return [*found[:MAX_LINES], f"and {more} more"] if more > 0 else found


def _compare(path: str, before: Any, after: Any) -> Iterator[str]:
    if path in IGNORED or before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            yield from _compare(f"{path}.{key}" if path else key, before.get(key), after.get(key))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _compare(f"{path}[{number}]", old, new)
    elif isinstance(after, dict) and before is None:
        yield from _compare(path, {}, after) if after else iter([f"{path}: nothing -> {{}}"])
    else:
        yield f"{path}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
