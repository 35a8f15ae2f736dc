"""Response times as histograms tell them: how many answers are surely slower than a limit, and how many nobody can
tell. Pure.

An answer of a bucket took more than the bound below and at most the bucket's own. Where a limit lies inside a bucket,
its answers may be on either side: no verdict rests on a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from handover.analysis.statistics import Interval

DIGITS = 12
"""Of seconds: of 0.1 and 0.2 there is more than 0.3 otherwise, which may be the bound of a bucket."""
Histogram = Mapping[Interval, float]
"""How many answers took so long; unlike buckets they do not contain each other, so that any two can be added."""


def histogram(buckets: Mapping[float, float]) -> Histogram:
    """Of cumulative buckets (upper bound in seconds to the number of answers within it)."""
    found: dict[Interval, float] = {}
    below, before = 0.0, 0.0
    for bound in sorted(buckets):
        count = buckets[bound]
        if count > before:
            found[below, bound] = count - before
        below, before = bound, max(before, count)
    return found


def cumulated(times: Histogram) -> dict[float, float]:
    """As buckets, for a plot."""
    total, found = 0.0, {}
    for (_, high), count in sorted(times.items(), key=lambda one: one[0][1]):
        total += count
        found[high] = total
    return found


@dataclass(frozen=True)
class Slower:
    """``bad``: surely slower than the limit. ``unsure``: in the bucket that the limit lies in, of which ``within`` is
    the upper bound (the highest of several).
    """

    bad: float
    total: float
    unsure: float = 0.0
    within: float = 0.0


def slower(times: Histogram, limit: float) -> Slower:
    """How many answers took longer than ``limit`` seconds."""
    bad = total = unsure = within = 0.0
    for (low, high), count in times.items():
        total += count
        if low >= limit:
            bad += count
        elif high > limit:
            unsure += count
            within = max(within, high)
    return Slower(bad, total, unsure, within)


def worse(times: Iterable[tuple[Interval, float]], share: float, at_least: float) -> list[tuple[Interval, float]]:
    """The same answers, each slower by so much: what may be without being a degradation."""
    return [((low, round(high + max(high * share, at_least), DIGITS)), n) for (low, high), n in times]
