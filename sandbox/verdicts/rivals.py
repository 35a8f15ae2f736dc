"""How Argo Rollouts and Kayenta judge the same minutes, by their own rules as far as those are published.

Argo: each measure is asked for every minute over that minute, and its condition is the plan's limit; the analysis fails
with more failures of one measure than ``failureLimit``, or with more errors in a row than ``consecutiveErrorLimit`` (4;
after an error it asks again in 10 s). A minute without requests is no failure: templates guard against NaN. The first
minute is left out (``initialDelay``), since any new version is slow in it.

Kayenta: Mann and Whitney's test of each measure's minutes against the stable version's hour before, confidence 0.98,
tolerance 0.25; the score is the share of measures that pass, 0 when a critical one does not. It is judged every ten
minutes over all minutes so far, fails below 75, and at the end below 95.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.verdicts.minutes import (
    CONNECTIONS,
    CPU,
    ERRORS,
    HITS,
    ISSUES,
    LAG,
    MEMORY,
    MINUTE,
    NOTHING,
    P50,
    P95,
    P99,
    RESTARTS,
    SOURCES,
    Minute,
)  # fmt: skip
from sandbox.verdicts.verdict import Said

if TYPE_CHECKING:
    from handover.plan.model import Plan

CONSECUTIVE_ERRORS = 4
AFTER_ERROR_SECONDS = 10.0
Z, TOLERANCE = 2.326, 0.25
"""Of a confidence of 0.98, on both sides."""
JUDGED_EVERY = 10
MARGINAL, PASS = 75.0, 95.0
CRITICAL = frozenset({ERRORS, P99})


def argo(told: Sequence[Minute], stable: Sequence[Minute], plan: Plan, failure_limit: int) -> Said:
    limits = _limits(stable, plan)
    failures = dict.fromkeys(limits, 0)
    for number, minute in enumerate(told[1:], start=2):
        for what, (low, high) in limits.items():
            value = minute[what]
            if value is None:  # five errors in a row, ten seconds apart
                return Said(number * MINUTE + CONSECUTIVE_ERRORS * AFTER_ERROR_SECONDS, f"{what}: errors")
            if not isinstance(value, str) and not low <= value <= high:
                failures[what] += 1
                if failures[what] > failure_limit:
                    return Said(number * MINUTE, what)
    return Said(None)


def _limits(stable: Sequence[Minute], plan: Plan) -> dict[str, tuple[float, float]]:
    """The plan's, with those that are relative made numbers beforehand."""
    t = plan.thresholds

    def slower(what: str) -> float:
        known = [value for minute in stable if isinstance(value := minute[what], float)]
        normal = sum(known) / len(known) if known else math.inf
        return normal + max(normal * t.rollback_degradation, t.noise_floor_seconds)

    connections = float(stable[-1][CONNECTIONS] or 0)
    highest = {
        ERRORS: t.max_error_rate, P50: min(t.max_p50_seconds, slower(P50)), P95: slower(P95), P99: t.max_p99_seconds,
        CPU: t.max_cpu, MEMORY: t.max_memory, LAG: t.max_replication_lag_seconds, ISSUES: 0.0, RESTARTS: 0.0,
        CONNECTIONS: connections + max(connections * t.max_connection_growth, t.min_connection_growth),
    }  # fmt: skip
    return {what: (-math.inf, limit) for what, limit in highest.items()} | {HITS: (t.min_cache_hit_rate, math.inf)}


def kayenta(told: Sequence[Minute], stable: Sequence[Minute]) -> Said:
    before = {what: _known(stable, what) for what in SOURCES}
    for number in [*range(JUDGED_EVERY, len(told), JUDGED_EVERY), len(told)]:
        so_far = told[:number]
        passed, broken, missing = 0, [], 0
        for what in SOURCES:
            canary = _known(so_far, what)
            if not canary or not before[what]:
                missing += 1
            elif _worse(canary, before[what], decrease=what == HITS):
                broken.append(what)
            else:
                passed += 1
        judged = passed + len(broken)
        score = 0.0 if not judged or missing >= judged or CRITICAL & set(broken) else 100 * passed / judged
        if score < (PASS if number == len(told) else MARGINAL):
            return Said(number * MINUTE, ", ".join(broken) or "no data")
    return Said(None)


def _known(told: Sequence[Minute], what: str) -> list[float]:
    return [value for minute in told if (value := minute[what]) is not None and value != NOTHING]  # type: ignore[misc]


def _worse(canary: Sequence[float], stable: Sequence[float], *, decrease: bool) -> bool:
    """Kayenta's classification as High (or Low): the shift's confidence interval is beyond the tolerance, and so is the
    ratio of the means.
    """
    sign = -1.0 if decrease else 1.0
    n, m = len(canary), len(stable)
    spread = math.sqrt(n * m * (n + m + 1) / 12)
    if _wins([sign * one for one in canary], [sign * one for one in stable]) - n * m / 2 <= Z * spread:
        return False
    shifts = sorted(sign * (one - other) for one in canary for other in stable)
    lower = shifts[max(0, math.floor(n * m / 2 - Z * spread))]
    estimate = shifts[n * m // 2]
    ratio = sign * (sum(canary) / n - sum(stable) / m) >= 0
    return lower > TOLERANCE * abs(estimate) and ratio


def _wins(canary: Sequence[float], stable: Sequence[float]) -> float:
    """In how many pairs the canary's is the higher one; ties are half."""
    both = sorted([(one, 0) for one in canary] + [(one, 1) for one in stable])
    wins, below, i = 0.0, 0, 0
    while i < len(both):
        end = i
        while end < len(both) and both[end][0] == both[i][0]:
            end += 1
        ours = sum(1 for _, whose in both[i:end] if whose == 0)
        theirs = end - i - ours
        wins += ours * (below + theirs / 2)
        below += theirs
        i = end
    return wins
