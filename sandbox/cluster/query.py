"""Parameters of a request, written as Go, Python or a person may write them."""

from __future__ import annotations

from collections.abc import Mapping

from sandbox.cluster.errors import bad_request


def flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "t", "1")


def number(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    try:
        return int(text) if text else None
    except ValueError as error:
        raise bad_request(f"Invalid value for {name}: {text!r}") from error
