"""Releases as they might be: the traffic they meet, how a healthy one behaves, and what is wrong with a bad one.

Everything is drawn from the number of the release and a seed, so that any of them can be made again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

from sandbox.verdicts.chance import between

TRAFFIC = (0.02, 0.2, 1.0, 10.0, 100.0, 1000.0, 5000.0)
"""Guests' requests a second, on average."""
ERROR_SHARES = (0.002, 0.005, 0.01, 0.05, 0.2, 1.0)
SLOW_SHARES = (0.02, 0.05, 0.2)
DAY = 86_400.0


@dataclass(frozen=True)
class Fault:
    """What is wrong, from ``at`` on (seconds after the cutover). ``size`` is what it says for its kind; ``kind`` and
    ``what`` name it in the table.

    :param route: the share of requests that it meets
    :param pods: how many pods it meets; 0: all
    :param health: whether the health check sees it
    """

    kind: str
    what: str
    at: float
    size: float
    route: float = 1.0
    pods: int = 0
    health: bool = True


@dataclass(frozen=True)
class Release:
    """A release and the world that it meets."""

    number: int
    traffic: float
    pods: int
    fault: Fault | None
    errors: float
    """The share of answers that are 5xx in a healthy version: below the plan's limit."""
    median: float
    """Seconds that half of the answers stay below."""
    sigma: float
    """How far the others are from it, as a lognormal distribution has it."""
    change: float
    """How much slower than the stable version it is where that is within the plan: 1.1 for 10 %."""
    cpu: float
    memory: float
    connections: float
    hit_rate: float
    phase: float
    """Of the day, at the cutover."""
    swing: float
    """Of the day's curve."""
    bursts: tuple[tuple[float, float, float], ...] = ()
    """When traffic rises at once, for how long, how many times."""
    blips: tuple[float, ...] = ()
    """When one probe is lost on the way, with nobody to blame."""
    seed: str = field(default="", compare=False)

    def rate(self, at: float) -> float:
        """Requests a second at this time, without the noise."""
        curve = 1 + self.swing * math.sin(2 * math.pi * (at / DAY + self.phase))
        return self.traffic * curve * self.burst(at)

    def burst(self, at: float) -> float:
        return next((times for begin, seconds, times in self.bursts if begin <= at < begin + seconds), 1.0)


def release(seed: int, number: int, watch: float) -> Release:
    """The release of this number: every other one is bad. ``watch``: seconds that it is watched."""
    draw = Random(f"{seed}:{number}")
    traffic = TRAFFIC[number // 2 % len(TRAFFIC)]
    pods = draw.choice((2, 2, 3, 4, 6))
    fault = None if number % 2 == 0 else _fault(draw, number // 2 // len(TRAFFIC), pods, watch)
    bursts, at = [], draw.expovariate(1 / 1800)
    while at < watch:
        bursts.append((at, draw.uniform(10, 60), draw.uniform(2, 6)))
        at += draw.expovariate(1 / 1800)
    blips, at = [], draw.expovariate(1 / 3000)
    while at < watch:
        blips.append(at)
        at += draw.expovariate(1 / 3000)
    return Release(
        number=number, traffic=traffic, pods=pods, fault=fault, errors=between(draw, 1e-6, 5e-4),
        median=between(draw, 0.015, 0.09), sigma=draw.uniform(0.4, 0.7),
        change=draw.choice((1.0, draw.uniform(0.9, 1.2))),
        cpu=draw.uniform(0.1, 0.5), memory=draw.uniform(0.25, 0.6), connections=draw.uniform(20, 120),
        hit_rate=draw.uniform(0.86, 0.99), phase=draw.random(), swing=draw.uniform(0, 0.6), bursts=tuple(bursts),
        blips=tuple(blips), seed=f"{seed}:{number}:series",
    )  # fmt: skip


def _fault(draw: Random, turn: int, pods: int, watch: float) -> Fault:
    """One of each kind in turn; half of them from the first request on, the others later: after a second as likely as
    after ten, a hundred or a thousand.
    """
    kinds = [
        *(("errors", f"{share:.1%} errors", share) for share in ERROR_SHARES),
        ("errors", "one route", 0.0), ("errors", "one pod", 0.0),
        *(("slow", f"{share:.0%} slower than 1 s", share) for share in SLOW_SHARES),
        ("p50", "p50", draw.uniform(0.3, 2.0)), ("degraded", "slower than before", draw.uniform(3, 8)),
        ("leak", "memory leak", between(draw, 600, 5400)), ("cpu", "CPU", draw.uniform(0.78, 1.0)),
        ("connections", "connections", draw.uniform(0.8, 3.0)), ("lag", "replication lag", between(draw, 3, 60)),
        ("restarts", "restarts", between(draw, 20, 300)), ("cache", "cache", draw.uniform(0.3, 0.7)),
        ("tracker", "new errors", 1.0), ("silent", "a source dies", float(draw.randrange(4))),
    ]  # fmt: skip
    kind, what, size = kinds[turn % len(kinds)]
    at = 0.0 if draw.random() < 0.5 else between(draw, 1, 0.8 * watch)
    health = kind in ("errors", "p50") and draw.random() < 0.5
    if what == "one route":
        return Fault(kind, what, at, between(draw, 0.1, 1.0), route=between(draw, 0.03, 0.3), health=False)
    if what == "one pod":
        return Fault(kind, what, at, between(draw, 0.1, 1.0), pods=1, health=health)
    return Fault(kind, what, at, size, health=health)
