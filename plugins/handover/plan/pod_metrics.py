"""Section `pod_metrics` of the plan: where a service's pods tell what they do, and in which words.

Whatever is not said here is recognised, where it follows one of the conventions of `handover.telemetry.conventions`.
A metric is its name, or ``{metric: name, labels: {label: pattern}}`` for those of its series whose labels match. A
pattern is a regular expression that the whole value has to match, as in PromQL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ByteSize, Field, StringConstraints, model_validator

from handover.plan.parts import Section, UrlPath

MetricName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$")]
LabelName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")]
Unit = Literal["seconds", "milliseconds", "microseconds", "nanoseconds"]
PER_SECOND: Mapping[Unit, float] = {"seconds": 1, "milliseconds": 1e3, "microseconds": 1e6, "nanoseconds": 1e9}
SUFFIXES: Mapping[str, Unit] = {
    "_seconds": "seconds", "_milliseconds": "milliseconds", "_ms": "milliseconds", "_microseconds": "microseconds",
    "_us": "microseconds", "_nanoseconds": "nanoseconds", "_ns": "nanoseconds",
}  # fmt: skip
"""What the end of a metric's name says about its unit."""
HTTP_ERRORS = r"5[0-9]{2}|5[xX]{2}"
HTTP_FINE = r"[1-4][0-9]{2}|[1-4][xX]{2}"


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from None
    return text


Pattern = Annotated[str, Field(min_length=1), AfterValidator(_pattern)]
Labels = dict[LabelName, Pattern]


class Metric(Section):
    """The series of one metric whose labels match, together."""

    metric: MetricName
    labels: Labels = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"metric": value} if isinstance(value, str) else value


class Series(Metric):
    """``times``: what makes their value seconds, or bytes."""

    times: Annotated[float, Field(gt=0)] = 1.0


class RequestCounter(Metric):
    """Counts answers: a counter, or the ``_count`` of a histogram. A status that is neither an error nor fine makes the
    errors unknown, not zero.
    """

    status: LabelName | None = None
    """The label that tells the status; by default any that is known to."""
    errors: Pattern = HTTP_ERRORS
    fine: Pattern = HTTP_FINE


class LatencyHistogram(Metric):
    """How long answers took. ``metric``: without ``_bucket``; ``unit``: of its ``le``, by default as its name ends."""

    unit: Unit

    @model_validator(mode="before")
    @classmethod
    def _unit_by_name(cls, value: Any) -> Any:
        found = {"metric": value} if isinstance(value, str) else value
        if not isinstance(found, dict) or "unit" in found or "metric" not in found:
            return value
        units = [unit for end, unit in SUFFIXES.items() if str(found["metric"]).endswith(end)]
        if not units:
            raise ValueError(f"unit is missing: the name {found['metric']} does not tell it")
        return found | {"unit": units[0]}


class PodMetricsRules(Section):
    """How `handover.telemetry` reads what one pod says of itself."""

    path: UrlPath = "/metrics"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """By default ``cluster.port``."""
    max_bytes: Annotated[ByteSize, Field(gt=0, le=8_000_000)] = ByteSize(5_000_000)
    """A larger answer is not read."""
    requests: RequestCounter | None = None
    latency: LatencyHistogram | None = None
    cpu_seconds: Series | None = None
    memory_bytes: Series | None = None
    connections: Series | None = None
    """To the database."""
    client_connections: Series | None = None
    """Open ones of clients: a colour that serves no more is scaled down once they are closed, too, and not only once
    nobody asks.
    """
    own_connections: Annotated[int, Field(ge=0)] = 2
    """So many of each pod's are not clients', but the kubelet's, of who collects the metrics, and ours."""
    cache_hits: Series | None = None
    cache_misses: Series | None = None
    disk_bytes: Series | None = None
    network_bytes: Series | None = None
    leave_out: tuple[Annotated[Labels, Field(min_length=1)], ...] = ()
    """Requests that are not clients', by their labels: one that matches all labels of an entry is not judged, and keeps
    no colour busy. So are, without being named here, those whose labels tell the path of the health check, of the
    metrics, of draining and of the kubelet's probes.
    """
    counts_probes: bool = True
    """Whether the requests counter counts health checks at all, where none of its labels tells them: a service may
    leave them out by itself.
    """
    counts_kubelet: bool = True
    """The same of the kubelet's alone."""
