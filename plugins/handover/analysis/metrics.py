"""One pod's counters: what changed between two looks, and what a histogram tells. Pure.

Times are seconds of a monotonic clock, as the caller gives them.
"""

from __future__ import annotations

from dataclasses import dataclass

from handover.models import names
from handover.telemetry.counters import Buckets as Buckets
from handover.telemetry.counters import Counters as Counters
from handover.telemetry.counters import started_again


@dataclass(frozen=True)
class Delta:
    """What one pod did between two looks."""

    requests: float
    errors: float
    buckets: Buckets
    hits: float = 0
    misses: float = 0


def restarted(new: Counters, old: Counters) -> bool:
    """Whether the process was restarted between the looks: it says so, a counter fell, or the sums do not add up."""
    requests, errors = new.requests - old.requests, new.errors - old.errors
    used_less = None not in (new.cpu_seconds, old.cpu_seconds) and (new.cpu_seconds or 0) < (old.cpu_seconds or 0)
    return started_again(new, old) or requests < 0 or errors < 0 or used_less or errors > requests


def since(new: Counters, old: Counters) -> Delta:
    """What the pod did between two looks; after a restart, what it did since. Where the requests are counted by another
    metric than before, counting begins anew: nothing.
    """
    if new.metric != old.metric:
        return Delta(0, 0, {})
    if restarted(new, old):
        old = Counters(new.at, born=new.born, metric=new.metric)
    return Delta(
        requests=new.requests - old.requests,
        errors=new.errors - old.errors,
        buckets=_grown(new.buckets, old.buckets),
        hits=(new.hits or 0.0) - (old.hits or 0.0),
        misses=(new.misses or 0.0) - (old.misses or 0.0),
    )


def _grown(new: Buckets, old: Buckets) -> Buckets:
    """Where the bounds have changed, those that both have: of others nobody knows what was in them."""
    return {bound: count - old.get(bound, 0.0) for bound, count in new.items() if not old or bound in old}


def rate(new: Counters, old: Counters, what: str) -> float | None:
    """Growth of a counter per second between two looks; None when it cannot be told."""
    after, before = getattr(new, what), getattr(old, what)
    if after is None or before is None or new.at <= old.at or restarted(new, old) or after < before:
        return None
    return (after - before) / (new.at - old.at)


def observed(buckets: Buckets) -> float:
    """How many requests a histogram holds."""
    return max(buckets.values(), default=0.0)


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


def summed(pairs: list[tuple[Counters, Counters]], what: str) -> float | None:
    """The rates of all pods together; None where nobody tells."""
    rates = [found for new, old in pairs if (found := rate(new, old, what)) is not None]
    return sum(rates) if rates else None


def share(used: list[float], limit: float) -> float | None:
    """Of its limit that the busiest pod uses; None where there is none."""
    return max(used) / limit if used and limit else None
