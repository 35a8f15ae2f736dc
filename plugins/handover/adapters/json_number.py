"""Any service that tells a number somewhere in JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from handover.adapters.json_service import JsonService
from handover.adapters.query_source import QuerySource, Sample, number, only
from handover.plan.sources import JsonOverHttp
from handover.ports.metrics import Query


class JsonNumbers(QuerySource):
    """See `handover.plan.sources.JsonOverHttp`."""

    def __init__(self, name: str, rules: JsonOverHttp, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._service = JsonService(rules.connection, seconds=rules.timeout_seconds)

    async def ask(self, query: Query) -> Sample:
        path, _, selector = query.text.strip().partition(" ")
        return Sample(picked((await self._service.ask(path)).body, selector.strip() or "."))

    async def close(self) -> None:
        await self._service.close()


def picked(body: Any, selector: str) -> float:
    """The number at a dotted path (see `handover.plan.sources.SELECTOR`). Raises `NoData`."""
    found = list(_all(body, [] if selector == "." else selector.split(".")))
    only(found, f"values at {selector}")
    return number(found[0])


def _all(body: Any, path: Sequence[str]) -> Iterator[object]:
    if not path:
        yield body
        return
    first, *rest = path
    if first == "*":
        for inner in body.values() if isinstance(body, dict) else body if isinstance(body, list) else ():
            yield from _all(inner, rest)
    elif isinstance(body, dict) and first in body:
        yield from _all(body[first], rest)
    elif isinstance(body, list) and first.isdecimal() and int(first) < len(body):
        yield from _all(body[int(first)], rest)
