"""The monitors that a plan names, as sources of a watch. A new kind is a file, a class in the plan, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from handover.adapters.cloudwatch import CloudWatchMetrics
from handover.adapters.datadog import DatadogMetrics
from handover.adapters.json_number import JsonNumbers
from handover.adapters.newrelic import NewRelicMetrics
from handover.adapters.prometheus import PrometheusMetrics
from handover.adapters.sql_number import SqlNumbers
from handover.models.evidence import Measurement
from handover.plan.measures import measures_of
from handover.plan.model import Plan
from handover.plan.placeholders import filled
from handover.ports.metrics import MetricSource, NoAnswer, Query

KINDS: Mapping[str, Callable[[str, Any, Sequence[Query]], MetricSource]] = {
    "prometheus": PrometheusMetrics, "datadog": DatadogMetrics, "newrelic": NewRelicMetrics,
    "cloudwatch": CloudWatchMetrics, "json": JsonNumbers, "sql": SqlNumbers,
}  # fmt: skip


def monitors(plan: Plan, *, version: str, colour: str) -> list[MetricSource]:
    """Those that some measure asks, for the version and colour that are watched."""
    found: list[MetricSource] = []
    for name, rules in plan.sources.items():
        asked = [one for one in measures_of(plan) if one.source == name and one.phases]
        try:
            about = {"version": version, "colour": colour, "namespace": plan.cluster.namespace}
            queries = [Query(one.name, filled(one.query, **about), one.unit) for one in asked]
        except ValueError as error:
            found.append(Unaskable(name, str(error)))
            continue
        if queries:
            found.append(KINDS[rules.type](name, rules, queries))
    return found


class Unaskable:
    """A source whose queries cannot be written for this version."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    async def measure(self) -> list[Measurement]:
        """Raises `NoAnswer`."""
        raise NoAnswer(self._why)

    async def close(self) -> None:
        """Nothing is held."""
