"""Datadog: the newest complete point of one series (API v1, "Query timeseries points")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handover import clock
from handover.adapters.json_service import JsonService, Where
from handover.adapters.query_source import QuerySource, Sample, number, only
from handover.plan.sources import Datadog
from handover.ports.metrics import NoData, Query


class DatadogMetrics(QuerySource):
    """See `handover.plan.sources.Datadog`."""

    def __init__(self, name: str, rules: Datadog, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._service = JsonService(rules.connection, seconds=rules.timeout_seconds, authorization=_keys)
        self._path, self._window = rules.path, rules.window_seconds

    async def ask(self, query: Query) -> Sample:
        now = clock.epoch()
        asked = {"from": str(int(now - self._window)), "to": str(int(now)), "query": query.text}
        return newest((await self._service.ask(self._path, asked)).body, now, self._service)

    async def close(self) -> None:
        await self._service.close()


def _keys(where: Where) -> dict[str, str]:
    return {"DD-API-KEY": where.password, "DD-APPLICATION-KEY": str(where.extra.get("application_key", ""))}


def newest(body: Any, now: float, service: JsonService) -> Sample:
    """The newest point whose interval is over; of one that goes on a part is missing. Raises `NoData`."""
    if (error := body.get("error")) or body["status"] != "ok":
        raise NoData(f"{service.connection}: {service.hidden(str(error or body['status']))}")
    only(body["series"], "series")
    (series,) = body["series"]
    interval = number(series.get("interval") or 0)
    points = [(number(at) / 1000, value) for at, value in series["pointlist"] if value is not None]
    complete = [(at, value) for at, value in points if at + interval <= now]
    if not complete:
        raise NoData("no complete point in the window")
    at, value = max(complete, key=lambda point: point[0])
    return Sample(number(value), at)
