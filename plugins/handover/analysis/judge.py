"""The verdict on what a watch has seen, by the plan's thresholds. Pure.

While the watch goes on, `breach` names the first rule that is broken. Fast rules (errors, latency, silence) look at
seconds and are sure by statistics; slow rules (resources, database, degradation) want a whole window of bad values.
At the end, `conclude` passes only what was seen to be good: silence, too few requests or a doubtful error rate are
UNKNOWN, and only PASS is a pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from handover.analysis.observations import PODS, PROBE, Observations
from handover.analysis.window import Share
from handover.models import names
from handover.models.evidence import Verdict

NEVER_SLOWER = 0.01
"""p99: at most one answer of a hundred is slower than the limit."""
HALF = 0.5
NO_DATA = "no_data"


@dataclass(frozen=True)
class Finding:
    """One rule of the plan that is broken or cannot be judged, and what shows it. ``rule``: the measurement that it is
    about, or `NO_DATA`.
    """

    rule: str
    reason: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.reason}"


def breach(seen: Observations, now: float) -> Finding | None:
    """The first broken rule, or None."""
    return next((f for rules in (errors, latency, silence, sustained) for f in rules(seen, now)), None)


def fast_breach(seen: Observations, now: float) -> Finding | None:
    """The same for what can break between two samples."""
    return next((f for rules in (errors, latency) for f in rules(seen, now)), None)


def errors(seen: Observations, now: float) -> Iterator[Finding]:
    """Error rate (plan 5.1), of our probes and of all answers of the pods, each by itself."""
    limit = seen.plan.thresholds.max_error_rate
    for source, share in ((PROBE, seen.recent_probes(now)), (PODS, seen.recent_pods(now))):
        if _over(seen, share, limit):
            last = f", the last one: {seen.problem}" if source == PROBE else ""
            yield Finding(names.ERROR_RATE, f"{source}: {_bad_of(seen, share)} bad{last} (limit {limit:.2%})")


def latency(seen: Observations, now: float) -> Iterator[Finding]:
    """p99 and p50 (plan 2.3): more answers above the limit than there may be, for sure."""
    limits = seen.plan.thresholds
    for rule, limit, allowed in (
        (names.P99, limits.max_p99_seconds, NEVER_SLOWER),
        (names.P50, limits.max_p50_seconds, HALF),
    ):
        probes, answers = seen.slow_probes(now, limit), seen.slow_answers(now, limit)
        if rule == names.P99 or probes.total >= seen.plan.watch.min_requests:
            yield from _slow(seen, rule, PROBE, probes, limit, allowed)
        if answers.total >= seen.plan.watch.min_requests:
            yield from _slow(seen, rule, PODS, answers, limit, allowed)


def _slow(seen: Observations, rule: str, source: str, share: Share, limit: float, allowed: float) -> Iterator[Finding]:
    if _over(seen, share, allowed):
        yield Finding(rule, f"{source}: {_bad_of(seen, share)} slower than {limit:g} s ({allowed:.0%} may be)")


def silence(seen: Observations, now: float) -> Iterator[Finding]:
    """A source that says nothing is a breach: nobody knows whether the release is good."""
    for source, heard in seen.heard.items():
        if now - heard > seen.plan.watch.no_data_seconds:
            why = f" ({seen.silence[source]})" if seen.silence.get(source) else ""
            yield Finding(NO_DATA, f"{source} gave no data for {now - heard:.1f} s{why}")


def sustained(seen: Observations, now: float) -> Iterator[Finding]:
    """Resources, database, error tracker and degradation: every value of the window is beyond its limit."""
    misses = seen.cache_misses(now)
    limits, watch = seen.plan.thresholds, seen.plan.watch
    if (
        misses.total >= watch.min_requests
        and seen.lookups.covered(now) >= watch.sustained_seconds / 2
        and _over(seen, misses, 1 - limits.min_cache_hit_rate)
    ):
        yield Finding(
            names.CACHE_HIT_RATE, f"{PODS}: {1 - misses.rate:.1%} cache hits (at least {limits.min_cache_hit_rate:.0%})"
        )
    for what, limit, why in _limits(seen):
        if _throughout(seen, what, now, limit):
            m = seen.last[what]
            seconds = seen.series[what].covered(now)
            yield Finding(
                what, f"{m.source}: {what} {m.value:.4g} {m.unit} above {limit:.4g} for {seconds:.0f} s {why}"
            )


def notes(seen: Observations, now: float) -> list[str]:
    """Degradation that is worth an alert, but no breach (plan 4.2: more than 10 %)."""
    alert = seen.plan.thresholds.alert_degradation
    return [
        f"{what} {seen.last[what].value:.3g} s is more than {alert:.0%} above the old version's {base:.3g} s"
        for what, base in _baselines(seen)
        if _throughout(seen, what, now, _slower(seen, base, alert))
    ]


def conclude(seen: Observations, now: float) -> tuple[Verdict, Finding | None]:
    """The verdict at the end of the soak, with what is against a pass."""
    if found := breach(seen, now):
        return Verdict.FAIL, found
    watch, limit = seen.plan.watch, seen.plan.thresholds.max_error_rate
    for source, share in ((PODS, seen.served), (PROBE, seen.probed)):
        if not share.total >= watch.min_requests:
            few = f"{source}: only {share.total:g} answers seen, {watch.min_requests} are needed"
            return Verdict.UNKNOWN, Finding(NO_DATA, few)
        if share.bad >= watch.min_bad_samples and share.rate > limit:
            doubt = f"{source}: {share.bad:g} of {share.total:g} answers were bad (limit {limit:.2%})"
            return Verdict.UNKNOWN, Finding(names.ERROR_RATE, doubt)
    for source in seen.sources:
        if seen.heard[source] <= seen.started:
            return Verdict.UNKNOWN, Finding(NO_DATA, f"{source} never gave data")
    return Verdict.PASS, None


def told(seen: Observations, now: float) -> str:
    """What a pass rests on."""
    return (
        f"{now - seen.started:.0f} s, {seen.served.total:g} answers of pods ({seen.served.bad:g} bad), "
        f"{seen.probed.total:g} probes ({seen.probed.bad:g} bad)"
    )


def _limits(seen: Observations) -> Iterator[tuple[str, float, str]]:
    """Measurement, the value that it must not be above, and where that comes from."""
    t, base = seen.plan.thresholds, seen.baseline
    yield names.CPU, t.max_cpu, "(share of the pod's limit)"
    yield names.MEMORY, t.max_memory, "(share of the pod's limit)"
    yield names.REPLICATION_LAG, t.max_replication_lag_seconds, ""
    yield names.NEW_ERRORS, base.get(names.NEW_ERRORS, 0.0) + seen.plan.health.max_new_errors, ""
    for what in (names.CONNECTIONS, f"pod_{names.CONNECTIONS}"):
        if what in base:
            growth = max(base[what] * t.max_connection_growth, t.min_connection_growth)
            yield what, base[what] + growth, f"(was {base[what]:g})"
    for what in (names.DISK_IO, names.NETWORK_IO):
        if what in base:
            limit = max(base[what] * (1 + t.max_io_growth), float(t.min_io_bytes_per_second))
            yield what, limit, f"(was {base[what]:.4g})"
    for what, normal in _baselines(seen):
        yield what, _slower(seen, normal, t.rollback_degradation), f"(old version: {normal:.3g})"


def _baselines(seen: Observations) -> list[tuple[str, float]]:
    return [(what, seen.baseline[what]) for what in (names.P50, names.P95) if what in seen.baseline]


def _slower(seen: Observations, normal: float, degradation: float) -> float:
    return normal + max(normal * degradation, seen.plan.thresholds.noise_floor_seconds)


def _throughout(seen: Observations, what: str, now: float, limit: float) -> bool:
    """Whether every value of the window is above the limit, enough of them, over at least half of it."""
    window = seen.series.get(what)
    if window is None or window.covered(now) < seen.plan.watch.sustained_seconds / 2:
        return False
    return len(window) >= seen.plan.watch.min_bad_samples and all(value > limit for value in window.since(now))


def _over(seen: Observations, share: Share, limit: float) -> bool:
    return share.over(limit, seen.plan.watch.confidence_z, seen.plan.watch.min_bad_samples)


def _bad_of(seen: Observations, share: Share) -> str:
    return f"{share.bad:.4g} of {share.total:.4g} in {seen.plan.watch.window_seconds:g} s were"
