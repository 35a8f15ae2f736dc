"""Prometheus, and whatever has its HTTP API: an instant query that gives one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handover.adapters.json_service import JsonService
from handover.adapters.query_source import QuerySource, Sample, kind_of, number, number_in, only
from handover.plan.sources import Prometheus
from handover.ports.metrics import NoData, Query


class PrometheusMetrics(QuerySource):
    """See `handover.plan.sources.Prometheus`."""

    def __init__(self, name: str, rules: Prometheus, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._service = JsonService(rules.connection, seconds=rules.timeout_seconds)
        self._path = rules.path

    async def ask(self, query: Query) -> Sample:
        asked = {"query": query.text, "timeout": f"{self._seconds:g}s"}
        return sample((await self._service.ask(self._path, asked)).body, self._service)

    async def close(self) -> None:
        await self._service.close()


def sample(body: Any, service: JsonService) -> Sample:
    """The one sample of an answer. Raises `NoData`."""
    if body["status"] != "success":
        raise NoData(f"{service.connection}: {service.hidden(str(body.get('error') or body['status']))}")
    if warnings := body.get("warnings"):
        raise NoData(f"{service.connection} warns: {service.hidden('; '.join(map(str, warnings)))}")
    kind, result = body["data"]["resultType"], body["data"]["result"]
    if kind == "scalar":
        return _number(result)
    if kind != "vector":
        raise NoData(f"a {kind}, not one sample: an instant query of a number is wanted")
    only(result, "series")
    if "value" not in result[0]:
        raise NoData("a histogram, not a number")
    return _number(result[0]["value"])


def _number(pair: Any) -> Sample:
    at, text = pair
    if not isinstance(text, str):
        raise NoData(f"{kind_of(text)}, not a sample")
    return Sample(number_in(text), number(at))
