"""What a release does while it is watched, step by step: the same for everybody who judges it.

Steps are short where something happens (from a fault on, and at a moment drawn like one where there is no fault) and
long where nothing does, so that two hours are a few hundred steps.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

from sandbox.verdicts.chance import between, binomial, poisson, spread
from sandbox.verdicts.releases import Fault, Release

BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, math.inf)
"""Of the response times' buckets: the usual ones of Prometheus' clients, seconds."""
SHORT, MIDDLE, LONG = 0.25, 1.0, 15.0
"""Seconds of a step: as often as pods are looked at, as values are, and where nothing happens."""
SHORT_FOR, MIDDLE_FOR = 20.0, 300.0
PROBES_PER_SECOND = 10
COLD_SECONDS = 20.0
"""A new version is slow and its cache empty for so long, more or less."""
RESTART_SECONDS = 0.5
"""What one restart loses: the requests of so long to that pod. Its counters lose them too."""
MOST_ERRORS = 0.0008
"""Of a healthy version at any moment: below the plan's limit of 0.001."""
MEDIAN_SECONDS = 0.2
SLOW_SECONDS = 1.0
"""A request that takes longer has harmed whoever sent it."""
PODS_SILENT, ONE_SILENT, DATABASE_SILENT, TRACKER_SILENT = range(4)


@dataclass
class PodStep:
    """What one pod did. ``times``: answers within each of `BOUNDS`, one by one and not cumulative."""

    requests: int
    errors: int
    times: list[int]
    hits: int


@dataclass
class Step:
    """What happened between ``begin`` and ``end``, seconds after the cutover.

    :param bad_probes: when a probe was answered badly or slowly, how long that took, and why it is bad ("": only slow)
    :param silent: sources that say nothing
    :param harmed: guests' requests that the fault has broken or made slow
    """

    begin: float
    end: float
    pods: list[PodStep]
    bad_probes: list[tuple[float, float, str]]
    cpu: float
    memory: float
    lag: float
    connections: float
    new_errors: int
    restarts: int
    harmed: float
    silent: frozenset[str] = field(default_factory=frozenset)

    @property
    def seconds(self) -> float:
        return self.end - self.begin


def moments(one: Release, watch: float, draw: Random) -> Iterator[tuple[float, float]]:
    """Begin and end of every step."""
    around = one.fault.at if one.fault else (0.0 if draw.random() < 0.5 else between(draw, 1, 0.8 * watch))
    now = 0.0
    while now < watch:
        since = now - around
        step = LONG if since < 0 or since >= MIDDLE_FOR else SHORT if since < SHORT_FOR else MIDDLE
        end = min(watch, (math.floor(now / step + 1e-9) + 1) * step)
        if now < around < end:
            end = around
        yield now, end
        now = end


def series(one: Release, watch: float) -> list[Step]:
    """The whole watch. A healthy version is like the stable one, within what the plan allows; see `baseline`."""
    draw = Random(one.seed)
    noise, found, restarts = 0.0, [], 0
    for begin, end in moments(one, watch, draw):
        seconds = end - begin
        keeps = math.exp(-seconds / 60)
        noise = noise * keeps + draw.gauss(0, 0.1) * math.sqrt(1 - keeps * keeps)
        step = _step(one, begin, end, math.exp(noise), draw)
        restarts = step.restarts = max(restarts, _restarts(one.fault, end))
        found.append(step)
    return found


def baseline(one: Release, minutes: int = 60) -> list[Step]:
    """The stable version's minutes before: the same service without the release."""
    draw = Random(f"{one.seed}:stable")
    stable = Release(**{**one.__dict__, "fault": None, "change": 1.0, "bursts": (), "blips": ()})
    noise, found = 0.0, []
    for minute in range(-minutes, 0):
        noise = noise * math.exp(-1) + draw.gauss(0, 0.1) * math.sqrt(1 - math.exp(-2))
        found.append(_step(stable, minute * 60.0, minute * 60.0 + 60, math.exp(noise), draw))
    return found


def _step(one: Release, begin: float, end: float, noise: float, draw: Random) -> Step:
    middle, seconds = (begin + end) / 2, end - begin
    fault = one.fault if one.fault and begin >= one.fault.at - 1e-9 else None
    cold = math.exp(-begin / COLD_SECONDS) if begin >= 0 else 0.0
    busy = one.burst(middle) if begin >= 0 else 1.0
    rate = one.rate(middle) * noise
    slower = min(_room(one), one.change * (1 + 1.5 * cold) * (1 + 0.06 * (busy - 1)))
    pods, harmed = [], 0.0
    for pod in range(one.pods):
        requests = poisson(draw, rate * seconds / one.pods)
        hit = fault is not None and (fault.pods == 0 or pod < fault.pods)
        answered, hurt = _answers(one, fault if hit else None, requests, slower, draw)
        hits = binomial(draw, requests, _hit_rate(one, fault, cold))
        pods.append(PodStep(requests, answered[0], answered[1], hits))
        harmed += hurt
    if fault and fault.kind == "restarts":
        came = _restarts(fault, end) - _restarts(fault, begin)
        harmed += came * RESTART_SECONDS * rate / one.pods
    use = one.cpu * (0.7 + 0.3 * rate / one.traffic) * (1 + 0.3 * cold)
    return Step(
        begin, end, pods, _bad_probes(one, fault, begin, end, slower, draw),
        cpu=min(1.0, _or(fault, "cpu", min(0.6, use)) * draw.gauss(1, 0.02)),
        memory=min(1.0, _memory(one, fault, middle) + draw.gauss(0, 0.005)),
        lag=_or(fault, "lag", draw.uniform(0, 0.3) if draw.random() > 0.002 else draw.uniform(0.5, 4)),
        connections=max(1.0, one.connections * (1 + _or(fault, "connections", 0.0)) * draw.gauss(1, 0.05)),
        new_errors=int(_or(fault, "tracker", 0.0)), restarts=0, harmed=harmed, silent=_silent(fault),
    )  # fmt: skip


def _answers(
    one: Release, fault: Fault | None, requests: int, slower: float, draw: Random
) -> tuple[tuple[int, list[int]], float]:
    """Errors, response times, and how many of the guests the fault has harmed."""
    share = min(MOST_ERRORS, one.errors * math.exp(draw.gauss(0, 0.4)))
    errors, broken, late = binomial(draw, requests, share), 0, 0
    median, times = one.median * slower, [0] * len(BOUNDS)
    if fault and fault.kind == "errors":
        broken = binomial(draw, requests, fault.size * fault.route)
    elif fault and fault.kind == "slow":
        late = binomial(draw, requests, fault.size)
    elif fault and fault.kind in ("p50", "degraded"):
        median = slowed(one, fault)
    for within, count in enumerate(spread(draw, requests - late, within_bounds(round(math.log(median), 2), one.sigma))):
        times[within] += count
    for _ in range(min(late, 50)):
        times[bisect_left(BOUNDS, draw.uniform(1.1, 4.0))] += max(1, late // 50)
    harmed = broken + late
    if median > one.median * slower:
        harmed += sum(times[bisect_left(BOUNDS, SLOW_SECONDS) + 1 :])
    return (min(requests, errors + broken), times), harmed


def _room(one: Release) -> float:
    """How much slower a healthy version may be at any moment and keep the plan's limits, by a little."""
    return 0.8 * min(MEDIAN_SECONDS / one.median, SLOW_SECONDS / (one.median * math.exp(2.33 * one.sigma)))


def slowed(one: Release, fault: Fault) -> float:
    """What a fault makes of the median: a time, or so many times what it was, so that `BOUNDS` tell it: 0.09 s are the
    same to them as 0.08 s, and 0.24 s the same as 0.11 s.
    """
    if fault.kind == "p50":
        return fault.size
    return max(one.median * fault.size, 0.17 if one.median < 0.03 else 0.4)


@lru_cache(maxsize=100_000)
def within_bounds(log_median: float, sigma: float) -> tuple[float, ...]:
    """Which share of the answers lies in each bucket."""
    below = [0.5 * (1 + math.erf((math.log(b) - log_median) / sigma / math.sqrt(2))) for b in BOUNDS[:-1]] + [1.0]
    return tuple(high - low for low, high in zip([0.0, *below[:-1]], below, strict=True))


def _bad_probes(
    one: Release, fault: Fault | None, begin: float, end: float, slower: float, draw: Random
) -> list[tuple[float, float, str]]:
    """Our own requests for the health check; those that are neither bad nor slow are not listed."""
    if begin < 0:
        return []
    found = [(at, 0.01, "connection reset") for at in one.blips if begin <= at < end]
    if fault and fault.health:
        number = round((end - begin) * PROBES_PER_SECOND) or 1
        bad = fault.size if fault.kind == "errors" else 1.0
        met = fault.pods / one.pods if fault.pods else 1.0
        for i in range(number):
            if draw.random() < bad * met:
                at = begin + i * (end - begin) / number
                seconds = min(2.0, slowed(one, fault)) if fault.kind == "p50" else 0.01
                found.append((at, seconds, "status 500" if fault.kind == "errors" else ""))
    return sorted(found)


def _hit_rate(one: Release, fault: Fault | None, cold: float) -> float:
    return _or(fault, "cache", one.hit_rate * (1 - 0.6 * cold))


def _memory(one: Release, fault: Fault | None, at: float) -> float:
    if not fault or fault.kind != "leak":
        return one.memory
    return min(1.0, one.memory + (1 - one.memory) * (at - fault.at) / fault.size)


def _restarts(fault: Fault | None, at: float) -> int:
    """How many there were until then: the first one with the fault, then one every ``size`` seconds."""
    if not fault or fault.kind != "restarts" or at <= fault.at:
        return 0
    return 1 + int((at - fault.at) / fault.size)


def _silent(fault: Fault | None) -> frozenset[str]:
    if not fault or fault.kind != "silent":
        return frozenset()
    return frozenset({("pods", "one pod", "database", "error_tracker")[int(fault.size)]})


def _or(fault: Fault | None, kind: str, healthy: float) -> float:
    return fault.size if fault and fault.kind == kind else healthy
