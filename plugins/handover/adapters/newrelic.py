"""New Relic: NRQL over NerdGraph, which gives one row with one number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from handover.adapters.json_service import JsonService, Where
from handover.adapters.query_source import QuerySource, Sample, number, only
from handover.plan.sources import NewRelic
from handover.ports.metrics import NoData, Query

NERDGRAPH = """
query ($account: Int!, $nrql: Nrql!, $seconds: Seconds) {
  actor { account(id: $account) { nrql(query: $nrql, timeout: $seconds) { results } } }
}
"""
NOT_MEASURED = {"beginTimeSeconds", "endTimeSeconds", "timestamp", "inspectedCount"}


class NewRelicMetrics(QuerySource):
    """See `handover.plan.sources.NewRelic`."""

    def __init__(self, name: str, rules: NewRelic, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._service = JsonService(rules.connection, seconds=rules.timeout_seconds, authorization=_key)
        self._path, self._account = rules.path, rules.account

    async def ask(self, query: Query) -> Sample:
        variables = {"account": self._account, "nrql": query.text, "seconds": max(1, int(self._seconds))}
        said = await self._service.ask(self._path, body={"query": NERDGRAPH, "variables": variables})
        return single(said.body, self._service)

    async def close(self) -> None:
        await self._service.close()


def _key(where: Where) -> dict[str, str]:
    return {"API-Key": where.password}


def single(body: Any, service: JsonService) -> Sample:
    """The one number of the one row. Raises `NoData`."""
    if errors := body.get("errors"):
        said = "; ".join(str(error.get("message")) for error in errors)
        raise NoData(f"{service.connection}: {service.hidden(said)}")
    rows = body["data"]["actor"]["account"]["nrql"]["results"]
    only(rows, "rows")
    values = list(_values({key: value for key, value in rows[0].items() if key not in NOT_MEASURED}))
    only(values, "values in the row")
    return Sample(number(values[0]))


def _values(found: Any) -> Iterator[object]:
    """Those of a row; of a percentile it is one level deeper."""
    if isinstance(found, dict):
        for value in found.values():
            yield from _values(value)
    else:
        yield found
