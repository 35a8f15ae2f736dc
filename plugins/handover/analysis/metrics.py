"""One pod's metrics: from Prometheus' text to counters, and what changed between two looks. Pure.

Times are seconds of a monotonic clock, as the caller gives them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from handover.models import names

REQUESTS = "http_requests_total"
BUCKETS = "http_request_duration_seconds_bucket"
Buckets = Mapping[float, float]
"""Upper bound in seconds to the number of requests that took at most so long; ``inf`` holds all."""
_SUMS = {
    "cache_hits_total": "hits",
    "cache_misses_total": "misses",
    "database_connections": "connections",
    "process_cpu_seconds_total": "cpu_seconds",
    "process_resident_memory_bytes": "memory_bytes",
    "disk_bytes_total": "disk_bytes",
    "network_bytes_total": "network_bytes",
    "process_start_time_seconds": "born",
}


class NoMetrics(ValueError):
    """The text does not tell requests: not our metrics."""


@dataclass(frozen=True)
class Counters:
    """What one pod says about itself, since its process began. None: it does not say."""

    at: float
    requests: float = 0
    errors: float = 0
    """Answers of 500 and above."""
    buckets: Buckets = field(default_factory=dict)
    hits: float | None = None
    misses: float | None = None
    connections: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: float | None = None
    disk_bytes: float | None = None
    network_bytes: float | None = None
    born: float | None = None
    """When the process began, seconds since the epoch."""


@dataclass(frozen=True)
class Delta:
    """What one pod did between two looks."""

    requests: float
    errors: float
    buckets: Buckets
    hits: float = 0
    misses: float = 0


def parse(text: str, at: float) -> Counters:
    """Raises `NoMetrics`, also for text that is no metrics at all."""
    from prometheus_client.parser import text_string_to_metric_families

    buckets: defaultdict[float, float] = defaultdict(float)
    sums: dict[str, float] = {}
    requests = errors = 0.0
    found = False
    try:
        for family in text_string_to_metric_families(text):
            found = found or family.name in (REQUESTS, REQUESTS.removesuffix("_total"))
            for sample in family.samples:
                if sample.name == REQUESTS:
                    requests += sample.value
                    errors += sample.value if sample.labels.get("code", "").startswith("5") else 0
                elif sample.name == BUCKETS:
                    buckets[float(sample.labels["le"])] += sample.value
                elif sample.name in _SUMS:
                    key = _SUMS[sample.name]
                    sums[key] = sums.get(key, 0.0) + sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise NoMetrics(f"unreadable metrics: {error}") from None
    if not found or not math.isfinite(requests + errors):
        raise NoMetrics(f"no {REQUESTS} in the metrics")
    return Counters(at, requests, errors, dict(buckets), **sums)


def restarted(new: Counters, old: Counters) -> bool:
    """Whether the process was restarted between the looks: it says so, a counter fell, or the sums do not add up."""
    requests, errors = new.requests - old.requests, new.errors - old.errors
    fell = requests < 0 or errors < 0 or (new.cpu_seconds or 0) < (old.cpu_seconds or 0)
    return new.born != old.born or fell or errors > requests


def since(new: Counters, old: Counters) -> Delta:
    """What the pod did between two looks; after a restart, what it did since."""
    if restarted(new, old):
        old = Counters(new.at, born=new.born)
    return Delta(
        requests=new.requests - old.requests,
        errors=new.errors - old.errors,
        buckets={bound: count - old.buckets.get(bound, 0.0) for bound, count in new.buckets.items()},
        hits=(new.hits or 0.0) - (old.hits or 0.0),
        misses=(new.misses or 0.0) - (old.misses or 0.0),
    )


def rate(new: Counters, old: Counters, what: str) -> float | None:
    """Growth of a counter per second between two looks; None when it cannot be told."""
    after, before = getattr(new, what), getattr(old, what)
    if after is None or before is None or new.at <= old.at or restarted(new, old) or after < before:
        return None
    return (after - before) / (new.at - old.at)


def added(parts: Iterable[Buckets]) -> Buckets:
    total: defaultdict[float, float] = defaultdict(float)
    for part in parts:
        for bound, count in part.items():
            total[bound] += count
    return total


def observed(buckets: Buckets) -> float:
    """How many requests a histogram holds."""
    return max(buckets.values(), default=0.0)


def slower_than(buckets: Buckets, seconds: float) -> float:
    """How many requests took longer; inside a bucket they count as spread evenly."""
    below, last_bound, last_count = 0.0, 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if bound <= seconds:
            below = count
        else:
            if bound != float("inf"):
                below = last_count + (count - last_count) * (seconds - last_bound) / (bound - last_bound)
            break
        last_bound, last_count = bound, count
    return max(0.0, observed(buckets) - below)


def quantile(buckets: Buckets, q: float) -> float | None:
    """Seconds below which a fraction ``q`` of the requests stayed, as Prometheus' histogram_quantile tells it."""
    total = observed(buckets)
    if not total:
        return None
    last_bound, last_count = 0.0, 0.0
    for bound, count in sorted(buckets.items()):
        if count >= q * total and count > last_count:
            if bound == float("inf"):
                return last_bound
            return last_bound + (bound - last_bound) * (q * total - last_count) / (count - last_count)
        last_bound, last_count = bound, count
    return last_bound


def latencies(buckets: Buckets) -> dict[str, float]:
    """p50, p95 and p99 in seconds, by measurement name; empty without requests."""
    found = {name: quantile(buckets, q) for name, q in ((names.P50, 0.5), (names.P95, 0.95), (names.P99, 0.99))}
    return {name: value for name, value in found.items() if value is not None}


def cores(quantity: str) -> float:
    """CPU cores of a Kubernetes quantity: ``500m`` is 0.5."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "m": 1e-3}


def size(quantity: str) -> float:
    """Bytes of a Kubernetes quantity: ``512Mi`` is 536870912."""
    for unit, factor in _UNITS.items():
        if quantity.endswith(unit):
            return float(quantity.removesuffix(unit)) * factor
    return float(quantity)
