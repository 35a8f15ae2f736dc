"""A release's minutes, as a monitoring system shows them to judges that ask it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from handover.analysis.metrics import quantile
from sandbox.verdicts.series import BOUNDS, Step

MINUTE = 60.0
ERRORS, P50, P95, P99, CPU, MEMORY, LAG, CONNECTIONS, HITS, ISSUES, RESTARTS = (
    "errors", "p50", "p95", "p99", "cpu", "memory", "lag", "connections", "hits", "issues", "restarts",
)  # fmt: skip
SOURCES = {
    **dict.fromkeys((ERRORS, P50, P95, P99, CPU, MEMORY, HITS, RESTARTS), "pods"),
    **dict.fromkeys((LAG, CONNECTIONS), "database"), ISSUES: "error_tracker",
}  # fmt: skip
NOTHING = "nothing"
"""The source answers, and has nothing to tell: no requests, so no share of them."""
Minute = Mapping[str, float | str | None]
"""By measure; None: the source says nothing."""


def minutes(steps: Sequence[Step]) -> list[Minute]:
    """One of each minute that is whole."""
    found: dict[int, list[Step]] = defaultdict(list)
    for step in steps:
        found[math.floor((step.begin + step.end) / 2 / MINUTE)].append(step)
    before = 0
    told = []
    for number in sorted(found):
        told.append(_minute(found[number], before))
        before = found[number][-1].restarts
    return told


def _minute(steps: Sequence[Step], restarts: int) -> Minute:
    whole = sum(step.seconds for step in steps)

    def mean(what: str) -> float:
        return float(sum(getattr(step, what) * step.seconds for step in steps)) / whole

    pods = [pod for step in steps for pod in step.pods]
    requests = sum(pod.requests for pod in pods)
    buckets, total = {}, 0
    for number, bound in enumerate(BOUNDS):
        total += sum(pod.times[number] for pod in pods)
        buckets[bound] = float(total)
    told: dict[str, float | str | None] = {
        ERRORS: sum(pod.errors for pod in pods) / requests if requests else NOTHING,
        P50: _or_nothing(quantile(buckets, 0.5)), P95: _or_nothing(quantile(buckets, 0.95)),
        P99: _or_nothing(quantile(buckets, 0.99)), CPU: mean("cpu"), MEMORY: steps[-1].memory,
        LAG: steps[-1].lag, CONNECTIONS: mean("connections"),
        HITS: sum(pod.hits for pod in pods) / requests if requests else NOTHING, ISSUES: float(steps[-1].new_errors),
        RESTARTS: float(steps[-1].restarts - restarts),
    }  # fmt: skip
    silent = {source for step in steps for source in step.silent}
    return {what: None if SOURCES[what] in silent else value for what, value in told.items()}


def _or_nothing(value: float | None) -> float | str:
    return NOTHING if value is None else value
