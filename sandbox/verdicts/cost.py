"""What watching costs: processor time of the judge for one second of a watch, with everything that it looks at."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from handover.analysis import judge
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, PodLimits, Probed

if TYPE_CHECKING:
    from handover.plan.model import Plan

SIZES = ((2, 15), (10, 15), (50, 15), (50, 200))
"""Pods, and buckets of their histograms."""
SECONDS = 10


def cost(plan: Plan, pods: int, buckets: int) -> dict[str, float]:
    """Milliseconds of processor time for a second, and for the longest piece that lets nobody else have a turn."""
    names = [f"pod-{number}" for number in range(pods)]
    bounds = [0.001 * 1.05**number for number in range(buckets - 1)] + [math.inf]
    looks = [
        Counters(second / 4, 40.0 * second, 0, {b: 10.0 * second * min(4, i + 1) for i, b in enumerate(bounds)})
        for second in range(4 * SECONDS)
    ]
    seen, whole, longest = Observations(plan, 0.0), 0.0, 0.0

    def took(begun: float) -> None:
        nonlocal whole, longest
        spent = time.process_time() - begun
        whole, longest = whole + spent, max(longest, spent)

    for quarter, look in enumerate(looks):
        now = quarter / 4
        for name in names:
            begun = time.process_time()
            seen.pod(name, look)
            judge.fast_breach(seen, now)
            took(begun)
        begun = time.process_time()
        if quarter % 4 == 3:
            for _ in range(10):
                seen.probe(now, Probed(0.01))
            seen.ready(now, names)
            seen.resources(now, PodLimits(1.0, 1.0))
            judge.breach(seen, now)
            judge.conclude(seen, now)
        took(begun)
    return {"cpu_ms_per_second": round(1000 * whole / SECONDS, 2), "longest_ms": round(1000 * longest, 2)}


def costs(plan: Plan) -> list[dict[str, float]]:
    """The better of two times, of each size: other programs cost time too."""
    found = []
    for pods, buckets in SIZES:
        one, other = cost(plan, pods, buckets), cost(plan, pods, buckets)
        found.append(
            {"pods": pods, "buckets": buckets} | {what: min(value, other[what]) for what, value in one.items()}
        )
    return found
