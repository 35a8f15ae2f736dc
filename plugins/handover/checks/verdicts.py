"""Verdicts on what was measured. Pure functions: measurements in, evidence out; no data is never a pass."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.models.names import NEW_ERRORS, P50, P95, P99, THROUGHPUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from handover.checks.client import Load
    from handover.plan.model import Thresholds

LATENCIES = {P50: 0.50, P95: 0.95, P99: 0.99}
FAILURE_RATE = "failed_requests"
MOST_SILENT = 0.1
"""So many requests of a series may say nothing (see `handover.models.answers`): the others still say enough."""


def percentile(seconds: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that ``share`` of all values do not exceed. Needs at least one value."""
    return sorted(seconds)[max(0, math.ceil(share * len(seconds)) - 1)]


def summary(load: Load, source: str) -> list[Measurement]:
    """Percentiles, throughput and failures of a series; values are None when nothing was answered."""
    answered = bool(load.seconds)
    measured = [
        Measurement(what=name, value=percentile(load.seconds, share) if answered else None, unit="s", source=source)
        for name, share in LATENCIES.items()
    ]
    rate = len(load.seconds) / load.elapsed if answered and load.elapsed > 0 else None
    lost = len(load.failures) / load.requests if load.requests else None
    measured.append(Measurement(what=THROUGHPUT, value=rate, unit="1/s", source=source))
    measured.append(Measurement(what=FAILURE_RATE, value=lost, source=source))
    return measured


def values(measurements: Sequence[Measurement]) -> dict[str, float]:
    """By name, without those that gave no data; a later one of the same name wins."""
    return {m.what: m.value for m in measurements if m.value is not None}


def answered(check: str, load: Load, thresholds: Thresholds, source: str) -> Evidence | None:
    """What is wrong with a series before one looks at its speed; None when nothing is."""
    measured = summary(load, source)
    asked = load.requests + len(load.silences)
    if len(load.silences) > MOST_SILENT * asked:
        text = f"{len(load.silences)} of {asked} requests were answered by nothing that says anything"
        return unknown(check, f"{text}: {_common(load.silences)}", *measured)
    if not load.seconds:
        return unknown(check, f"none of {load.requests} requests was answered: {_common(load.failures)}", *measured)
    lost = len(load.failures) / load.requests
    if lost > thresholds.max_error_rate:
        return failed(
            check, f"{len(load.failures)} of {load.requests} requests failed: {_common(load.failures)}", *measured
        )
    return None


def response_times(check: str, load: Load, thresholds: Thresholds, source: str) -> Evidence:
    """Plan 2.3: p50 and p99 within the limits."""
    if wrong := answered(check, load, thresholds, source):
        return wrong
    measured = summary(load, source)
    found = values(measured)
    limits = {P50: thresholds.max_p50_seconds, P99: thresholds.max_p99_seconds}
    slow = [
        f"{name} {_ms(found[name])} is not below {_ms(limit)}" for name, limit in limits.items() if found[name] >= limit
    ]
    if slow:
        return failed(check, "; ".join(slow), *measured)
    return passed(check, ", ".join(f"{name} {_ms(found[name])}" for name in limits), *measured)


def compare(
    check: str, baseline: Mapping[str, float], now: Sequence[Measurement], thresholds: Thresholds, concurrency: int
) -> Evidence:
    """Plan 4.2 and "When to Rollback": fails above ``rollback_degradation``, warns above ``alert_degradation``.

    Slower by less than ``noise_floor_seconds`` is noise, whatever the ratio. Throughput is compared as seconds per
    request, ``concurrency`` being how many requests were under way at a time.
    """
    found = values(now)
    missing = [n for n in (*LATENCIES, THROUGHPUT) if not baseline.get(n) or not found.get(n)]
    if missing:
        return unknown(check, f"nothing to compare: no {', '.join(missing)}", *now)
    worse = {name: _slower(baseline[name], found[name], thresholds.noise_floor_seconds) for name in LATENCIES}
    worse[THROUGHPUT] = _slower(
        concurrency / baseline[THROUGHPUT], concurrency / found[THROUGHPUT], thresholds.noise_floor_seconds
    )
    told = {
        name: f"{name} {_value(name, baseline[name])} -> {_value(name, found[name])} "
        f"({_percent(ratio and found[name] / baseline[name] - 1)})"
        for name, ratio in worse.items()
    }
    bad = [told[name] for name, ratio in worse.items() if ratio > thresholds.rollback_degradation]
    if bad:
        return failed(check, f"worse by more than {thresholds.rollback_degradation:.0%}: {', '.join(bad)}", *now)
    alert = [told[name] for name, ratio in worse.items() if ratio > thresholds.alert_degradation]
    if alert:
        return passed(
            check, f"warning: worse by more than {thresholds.alert_degradation:.0%}: {', '.join(alert)}", *now
        )
    return passed(check, f"as before the deployment: {', '.join(told.values())}", *now)


def new_errors(check: str, measurements: Sequence[Measurement], most: int) -> Evidence:
    """Plan 2.3: new issues in the error tracker."""
    count = values(measurements).get(NEW_ERRORS)
    if count is None:
        return unknown(check, "the error tracker gave no number", *measurements)
    text = f"{count:.0f} new errors, at most {most} are allowed"
    return (passed if count <= most else failed)(check, text, *measurements)


def _slower(before: float, now: float, noise: float) -> float:
    """How much slower as a fraction (0.1 = 10 %), 0 within the noise; faster is negative."""
    return 0.0 if 0 <= now - before <= noise else now / before - 1


def _percent(ratio: float) -> str:
    return f"{ratio:+.0%}" if ratio else "within the noise"


def _common(texts: Sequence[str]) -> str:
    return ", ".join(f"{text} ({count}x)" for text, count in Counter(texts).most_common(3)) or "nothing was asked"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _value(name: str, value: float) -> str:
    return f"{value:.0f}/s" if name == THROUGHPUT else _ms(value)
