"""What a judge says of a release, and which releases are bad by the plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sandbox.verdicts.series import BOUNDS, MEDIAN_SECONDS, RESTART_SECONDS, SLOW_SECONDS, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handover.plan.model import Plan
    from sandbox.verdicts.releases import Release

BACK_SECONDS = 0.1
"""From a verdict until traffic is back, for whoever gives it."""
LASTING_SECONDS = 120.0
"""What wants a whole window of bad values has to be there for two of them."""
COMPARED = 100
"""So many answers of it are enough to be compared."""


@dataclass(frozen=True)
class Said:
    """``at``: when the release was found bad, seconds after the cutover; None: it passed. ``why``: in a word."""

    at: float | None
    why: str = ""


def begins(one: Release, plan: Plan) -> float:
    """When the fault begins to break a limit of the plan."""
    assert one.fault
    if one.fault.kind == "leak":
        most = plan.thresholds.max_memory
        return one.fault.at + one.fault.size * max(0.0, most - one.memory) / (1 - one.memory)
    return one.fault.at


def shows(one: Release, steps: Sequence[Step], plan: Plan) -> bool:
    """Whether a fault broke a limit of the plan while it was watched: it harmed more guests than the plan allows, with
    all requests of the watch known. A share of errors of 0.2 % at one request a minute most often harms nobody.
    """
    fault, watch = one.fault, plan.watch
    assert fault
    begin = begins(one, plan)
    after = [step for step in steps if step.begin >= begin - 1e-9]
    pods = [pod for step in after for pod in step.pods]
    answers = sum(pod.requests for pod in pods)
    if fault.kind in ("errors", "slow", "p50"):
        if fault.kind == "errors":
            bad, allowed = sum(pod.errors for pod in pods), plan.thresholds.max_error_rate
        else:
            limit, allowed = (MEDIAN_SECONDS, 0.5) if fault.kind == "p50" else (SLOW_SECONDS, 0.01)
            bad = sum(sum(pod.times[_first_above(limit) :]) for pod in pods)
        seen_by_probes = fault.health and fault.size > 2 * allowed
        return seen_by_probes or (bad >= watch.min_bad_samples and bad > allowed * answers)
    if fault.kind in ("degraded", "cache") and answers < COMPARED:
        return False
    lasted = steps[-1].end - begin
    return lasted >= (RESTART_SECONDS if fault.kind == "restarts" else LASTING_SECONDS)


def _first_above(limit: float) -> int:
    """The first bucket whose answers surely took longer."""
    return next(i for i in range(1, len(BOUNDS)) if BOUNDS[i - 1] >= limit)


def harmed(steps: Sequence[Step], said: Said) -> float:
    """Guests' requests that the fault has harmed until traffic is back, or until the end of the watch."""
    until = float("inf") if said.at is None else said.at + BACK_SECONDS
    total = 0.0
    for step in steps:
        if step.begin < until:
            total += step.harmed * min(1.0, (until - step.begin) / step.seconds)
    return total
