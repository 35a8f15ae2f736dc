"""How services commonly count and time their requests: a table, and the only place that knows names of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from handover.plan.pod_metrics import HTTP_ERRORS, HTTP_FINE, SUFFIXES, LatencyHistogram, RequestCounter, Series

NEVER = "(?!)"


@dataclass(frozen=True)
class Status:
    """A label that tells how a request ended: which of its values are errors, and which are fine. ``hung_up``: what a
    library writes where the client was gone before there was an answer.
    """

    label: str
    errors: str = HTTP_ERRORS
    fine: str = HTTP_FINE
    hung_up: str = NEVER
    alone: bool = False
    """What it says counts only where no other label is there: what came of an error is told by the status."""


@dataclass(frozen=True)
class Convention:
    """``family``: conventions of one family count the same requests, and the first of them is taken. ``generic``: the
    name is anybody's, so that a convention of a name of its own comes first.
    """

    name: str
    family: str
    requests: str
    status: tuple[Status, ...]
    latency: tuple[LatencyHistogram, ...] = ()
    generic: bool = False


def _timed(*metrics: str, **unit: str) -> tuple[LatencyHistogram, ...]:
    return tuple(LatencyHistogram.model_validate({"metric": metric} | unit) for metric in metrics)


ANY_STATUS = tuple(
    Status(label)
    for label in (
        "code", "status", "status_code", "http_status", "http_status_code", "http_code", "response_code", "statusCode",
        "http_response_status_code", "status_class",
    )
)  # fmt: skip
MICROMETER = (
    Status("status", hung_up="UNKNOWN"),
    Status("outcome", "SERVER_ERROR", "INFORMATIONAL|SUCCESS|REDIRECTION|CLIENT_ERROR", hung_up="UNKNOWN"),
)
OPENTELEMETRY = (Status("http_response_status_code"), Status("error_type", errors=".+", fine=NEVER, alone=True))
"""A request that fails before there is an answer has an error's type and no status."""
_ASPNET = "microsoft_aspnetcore_hosting_http_server_request_duration"
_SECONDS = _timed(
    "http_request_duration_seconds", "http_request_duration_milliseconds", "http_request_duration_ms",
    "http_request_latency_seconds", "http_requests_duration_seconds", "http_response_time_seconds",
)  # fmt: skip


def _anybody(name: str, requests: str, *latency: LatencyHistogram) -> Convention:
    return Convention(name, "anybody", requests, ANY_STATUS, latency, generic=True)


CONVENTIONS = (
    _anybody("Prometheus client libraries", "http_requests_total", *_SECONDS),
    _anybody("ASP.NET (prometheus-net)", "http_requests_received_total", *_SECONDS),
    *(_anybody("a histogram alone", f"{timed.metric}_count", timed) for timed in _SECONDS),
    Convention(
        "OpenTelemetry", "opentelemetry", "http_server_request_duration_seconds_count", OPENTELEMETRY,
        _timed("http_server_request_duration_seconds"),
    ),
    Convention(
        "OpenTelemetry, before 1.23", "opentelemetry", "http_server_duration_milliseconds_count",
        (Status("http_status_code"), OPENTELEMETRY[0]), _timed("http_server_duration_milliseconds"),
    ),
    Convention(
        "OpenTelemetry, before 1.23, without units", "opentelemetry", "http_server_duration_count",
        (Status("http_status_code"), OPENTELEMETRY[0]), _timed("http_server_duration", unit="milliseconds"),
    ),
    Convention(
        "ASP.NET (meters of .NET 8)", "opentelemetry", f"{_ASPNET}_count", OPENTELEMETRY,
        _timed(_ASPNET, unit="seconds"),
    ),
    Convention(
        "Micrometer", "micrometer", "http_server_requests_seconds_count", MICROMETER,
        _timed("http_server_requests_seconds"),
    ),
    Convention(
        "Starlette (starlette_exporter)", "starlette", "starlette_requests_total", ANY_STATUS,
        _timed("starlette_request_duration_seconds", "starlette_requests_processing_time_seconds"),
    ),
    Convention(
        "Starlette (starlette-prometheus)", "starlette", "starlette_responses_total", ANY_STATUS,
        _timed("starlette_requests_processing_time_seconds"),
    ),
    Convention(
        "Flask", "flask", "flask_http_request_total", ANY_STATUS, _timed("flask_http_request_duration_seconds")
    ),
    Convention(
        "Django", "django", "django_http_responses_total_by_status_total", ANY_STATUS,
        _timed("django_http_requests_latency_including_middlewares_seconds"),
    ),
)  # fmt: skip

ROUTES = (
    "path", "handler", "route", "uri", "url", "endpoint", "http_route", "http_target", "url_path", "path_template",
    "http_path", "resource", "template",
)  # fmt: skip
"""Labels that tell which path was asked for."""

RESOURCES: Mapping[str, tuple[Series, ...]] = {
    "cpu_seconds": (
        Series(metric="process_cpu_seconds_total"),
        Series(metric="process_cpu_time_seconds_total"),
        Series(metric="process_cpu_time_ns_total", times=1e-9),
    ),
    "memory_bytes": (
        Series(metric="process_resident_memory_bytes"),
        Series(metric="process_working_set_bytes"),
        Series(metric="process_memory_usage_bytes"),
    ),
    "connections": (Series(metric="hikaricp_connections"),),
    "client_connections": (),
    "cache_hits": (),
    "cache_misses": (),
    "disk_bytes": (),
    "network_bytes": (),
}
"""What a pod uses, by its key in the plan: the first that is there. Of clients' connections, caches, disks and
networks the plan says which count.
"""
BORN = Series(metric="process_start_time_seconds")


def counter_of(requests: RequestCounter) -> Convention:
    """The plan's own counter as a convention, with what is known of its name."""
    known = next((one for one in CONVENTIONS if one.requests == requests.metric), None)
    labels = [requests.status] if requests.status else [s.label for s in (known.status if known else ANY_STATUS)]
    if known and requests.status is None and (requests.errors, requests.fine) == (HTTP_ERRORS, HTTP_FINE):
        status = known.status
    else:
        status = tuple(Status(label, requests.errors, requests.fine) for label in labels)
    latency = known.latency if known else _timed_with(requests.metric)
    return Convention("the plan's", "plan", requests.metric, status, latency)


def _timed_with(metric: str) -> tuple[LatencyHistogram, ...]:
    """The histogram that a ``_count`` belongs to, if its name tells the unit."""
    base = metric.removesuffix("_count")
    return _timed(base) if base != metric and base.endswith(tuple(SUFFIXES)) else ()
