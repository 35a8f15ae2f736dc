"""What is remembered of each measure while a watch goes on: enough to judge it at any moment at the same small cost,
however long the watch is. Pure; times are seconds of a monotonic clock.

A track says whether its limit is broken (`over`) and by what (`reason`), and why it cannot be judged (`nothing`, ""
when it can).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from handover.analysis.latency import Histogram, Slower, slower, worse
from handover.analysis.statistics import SequentialTest, beyond, slower_pairs
from handover.analysis.window import Lasting, Share, Sums
from handover.models import names
from handover.plan.measures import in_first

if TYPE_CHECKING:
    from handover.plan.measures import Measure
    from handover.plan.watch import WatchRules

BAD, GOOD = "bad", "good"
IN_THE_TAIL = 30
"""How many of the answers that are judged together may be bad: of fewer, one more or less would say too much."""
MUCH = 10
"""So many times the limit: what proves no more than that is few answers."""
EXACTLY = 1e12
"""How many answers stand behind a number that is given without its distribution."""


class Track(Protocol):
    def over(self, now: float) -> bool: ...

    def doubtful(self, now: float) -> bool:
        """Whether it looks as if the limit were broken, though not for sure: no breach, and no pass."""

    def doubt(self, now: float) -> str: ...

    def reason(self, now: float) -> str: ...

    def nothing(self, now: float) -> str: ...

    def shown(self, now: float) -> tuple[float | None, float | None]:
        """The value at this moment and its limit, as the measure has them."""


class ShareTrack:
    """How many of all answers are bad: errors, or slower than the limit, or missed the cache."""

    def __init__(self, measure: Measure, watch: WatchRules) -> None:
        self.measure, self._watch = measure, watch
        limit, unit = measure.limit, measure.unit
        self.seconds = in_first(limit.above or 0.0, unit)
        """A percentile's limit."""
        if measure.quantile is not None:
            self.may = 1 - measure.quantile
        else:
            self.may = 1 - in_first(limit.below or 0.0, unit) if limit.above is None else in_first(limit.above, unit)
        self._fast = measure.window == "fast"
        self._test = SequentialTest(self.may, beyond(watch.confidence_z)) if self._fast and self.may < 1 else None
        self._wanted = 0 if self._fast else _enough(min(self.may, 1 - self.may))
        self._recent: Sums[str] = Sums(watch.window_seconds, self._wanted)
        self._bad, self._news = Lasting(), False
        self.whole, self.besides = Share(0, 0), 0.0
        self._unsure, self._lost, self._within = 0.0, 0.0, 0.0
        self.waiting = 0
        """Answers that are overdue, and so bad already."""
        self.last = ""
        """Why the last bad one was bad."""

    def add(self, at: float, bad: float, total: float, besides: float = 0.0) -> None:
        """``besides``: good answers to others than clients, which show no more than that the service answers. What
        cannot be counted so is no data.
        """
        self.besides += besides
        if not 0 <= bad <= total < math.inf or not total:
            return
        self._recent.add(at, {BAD: bad, GOOD: total - bad})
        self.whole += Share(bad, total)
        self._news = True
        if self._test:
            self._test.add(at, bad, total)

    def look(self, now: float) -> None:
        """Judges what came in since the last look, if it is enough, where only a bad share that lasts is a breach."""
        if not self._fast and self._news and self._recent.total(now) >= self._wanted:
            self._news = False
            self._bad.add(now, self.recent(now).over(self.may, self._watch.confidence_z, self.measure.samples))

    def add_times(self, at: float, times: Histogram) -> None:
        found = slower(times, self.seconds)
        self.add(at, found.bad, found.total)
        self._not_told(found)

    def recent(self, now: float) -> Share:
        sums = self._recent.of(now)
        return Share(sums.get(BAD, 0.0), sums.get(BAD, 0.0) + sums.get(GOOD, 0.0))

    def over(self, now: float) -> bool:
        if self._test:
            return self._test.above(self.measure.samples, self.waiting)
        return self._bad.throughout(now, self._watch.sustained_seconds, self.measure.samples)

    def doubtful(self, now: float) -> bool:
        """Whether more were bad than there may be, though not for sure; or of too few to see that it lasts."""
        if self._fast:
            return self.whole.bad >= self.measure.samples and self.whole.rate > self.may
        return self._recent.few(now) and self.recent(now).over(self.may, self._watch.confidence_z, self.measure.samples)

    def reason(self, now: float) -> str:
        share, seconds = self._telling(now)
        share = Share(share.bad + self.waiting, share.total + self.waiting)
        return f"{self.measure.source}: {self._text(share, f' in {seconds:.3g} s')}"

    def doubt(self, now: float) -> str:
        return f"{self.measure.source}: {self._text(self.whole, '')}"

    def nothing(self, now: float) -> str:
        if not self.whole.total + self.besides:
            return "no answers"
        if self._lost and self.whole.bad + self._lost > self.may * self.whole.total:
            return f"{self._lost:g} of {self.whole.total:g} answers are in a bucket without end"
        return ""

    @property
    def coarse(self) -> str:
        """What the buckets cannot tell, where that matters; "" otherwise."""
        if not self._unsure or self.whole.bad + self._unsure <= self.may * self.whole.total:
            return ""
        return f"its buckets do not tell {self.seconds:g} s from {self._within:g} s"

    @property
    def proves(self) -> str:
        """What all answers prove of errors, where that is much less than the limit says."""
        most = (
            self.whole.at_most(self._watch.confidence_z) if self.whole.total and self.measure.quantile is None else 0.0
        )
        return (
            f"few answers, which prove no more than that it is below {most:.2g}"
            if self._fast and most > self.may
            else ""
        )

    def shown(self, now: float) -> tuple[float | None, float | None]:
        """Of a percentile: how many answers are slower than its limit, and how many may be."""
        rate = self.recent(now).rate if self.recent(now).total else self.whole.rate if self.whole.total else None
        if self.measure.limit.below is not None:
            return (None if rate is None else 1 - rate), 1 - self.may
        return rate, self.may

    def _not_told(self, found: Slower) -> None:
        if math.isinf(found.within):
            self._lost += found.unsure
        elif found.unsure:
            self._unsure += found.unsure
            self._within = max(self._within, found.within)

    def _telling(self, now: float) -> tuple[Share, float]:
        """The stretch that shows it: the last seconds, or a longer one if less of it lies in them."""
        recent = self.recent(now)
        if not self._fast:
            return recent, self._bad.seconds
        bad, total, since = self._test.since() if self._test else (0.0, 0.0, now)
        if recent.bad >= bad:
            return recent, self._recent.seconds
        return Share(bad, total), max(now - since, self._recent.seconds)

    def _text(self, share: Share, when: str) -> str:
        some = f"{share.bad:.4g} of {share.total:.4g}{when} were"
        if self.measure.quantile is not None:
            return f"{some} slower than {self.seconds:g} s ({self.may:.3g} of all may be)"
        if self.measure.limit.below is not None:
            return f"{self.measure.name} {1 - share.rate:.1%}{when} (at least {1 - self.may:.0%})"
        last = f", the last one: {self.last}" if self.last else ""
        return f"{some} bad{last} (limit {self.may:.2%})"


class ComparisonTrack:
    """A percentile of response times beside the stable version's: pairs of answers that are surely slower than they may
    be (Mann and Whitney), among the stable version's slowest for a percentile above the median.
    """

    def __init__(self, measure: Measure, watch: WatchRules, alert: float) -> None:
        assert measure.quantile is not None and measure.limit.relative is not None
        self.measure, self._watch, self._alert = measure, watch, alert
        self.may = 1 - measure.quantile
        self._wanted = _enough(self.may)
        self._recent: Sums[tuple[float, float]] = Sums(watch.window_seconds, self._wanted)
        self._bad, self._alerting = Lasting(), Lasting()
        self._news = False
        self._effect: tuple[float, float] | None = None

    def add_times(self, at: float, times: Histogram) -> None:
        self._recent.add(at, times)
        self._news = self._news or bool(times)

    def look(self, now: float, stable: Histogram | None, normal: float | None) -> None:
        """Compares what came in since the last look, if it is enough.

        :param normal: the percentile itself, where nobody knows the distribution
        """
        if not stable and normal is not None:
            stable = {(normal, normal): EXACTLY}
        total = self._recent.total(now)
        if not self._news or not stable or total < self._watch.min_requests:
            return
        self._news = False
        limit = self.measure.limit
        at_least = in_first(limit.at_least, self.measure.unit)
        self._effect = self._pairs(now, stable, limit.relative or 0.0, at_least)
        if total < self._wanted:
            return
        self._bad.add(now, self._sure(self._effect))
        self._alerting.add(now, self._sure(self._pairs(now, stable, self._alert, at_least)))

    def over(self, now: float) -> bool:
        return self._bad.throughout(now, self._watch.sustained_seconds, self.measure.samples)

    def doubtful(self, now: float) -> bool:
        """Whether more were slower than there may be, of too few to be sure."""
        share, number = self._effect or (0.0, 0.0)
        return self._recent.few(now) and share > self.may and share * number >= self.measure.samples

    def alerting(self, now: float) -> bool:
        """The same for a degradation that is worth no more than an alert (plan 4.2)."""
        return self._alerting.throughout(now, self._watch.sustained_seconds, self.measure.samples)

    def reason(self, now: float) -> str:
        share, limit = (self._effect or (0.0, 0.0))[0], self.measure.limit
        least = f" and {limit.at_least:g} {self.measure.unit}" if limit.at_least else ""
        return (
            f"{self.measure.source}: {share:.1%} of {self._recent.total(now):.4g} answers are slower than the stable "
            f"version's by more than {limit.relative:.0%}{least}, for {self._bad.seconds:.0f} s ({self.may:.1%} may be)"
        )

    def doubt(self, now: float) -> str:
        return self.reason(now)

    def nothing(self, now: float) -> str:
        return "" if self._effect else "nothing to compare with, or too few answers"

    def shown(self, now: float) -> tuple[float | None, float | None]:
        return (self._effect[0] if self._effect else None), self.may

    def _pairs(self, now: float, stable: Histogram, share: float, at_least: float) -> tuple[float, float]:
        return slower_pairs(self._recent.of(now).items(), worse(stable.items(), share, at_least), 2 * self.may)

    def _sure(self, effect: tuple[float, float]) -> bool:
        share, number = effect
        return Share(share * number, number).over(self.may, self._watch.confidence_z, self.measure.samples)


class ValueTrack:
    """Values of a measure, one after the other."""

    def __init__(self, measure: Measure, watch: WatchRules) -> None:
        self.measure, self._watch = measure, watch
        self._bad = Lasting()
        self._value: float | None = None
        self._source, self._at = measure.source, -math.inf
        self._limit: float | None = None
        self._why = ""

    def add(self, at: float, value: float, normal: float | None, source: str) -> None:
        """``normal``: what it was before the deployment, None: not known; ``source``: in its own words."""
        self._value, self._source, self._at = value, source, at
        limits = [(limit, value > limit, f"above {limit:.4g}{was}") for limit, was in self._highest(normal)]
        if (below := self.measure.limit.below) is not None:
            limits.append((below, value < below, f"below {below:.4g}"))
        if limits:
            broken = next((one for one in limits if one[1]), None)
            self._limit, _, self._why = broken or limits[0]
            self._bad.add(at, broken is not None)

    def over(self, now: float) -> bool:
        if self.measure.window == "fast":
            return self._bad.number >= self.measure.samples
        return self._bad.throughout(now, self._watch.sustained_seconds, self.measure.samples)

    def doubtful(self, now: float) -> bool:
        return False

    def doubt(self, now: float) -> str:
        return ""

    def reason(self, now: float) -> str:
        value = f"{self._value:.4g} {self.measure.unit}".rstrip()
        lasting = f" for {self._bad.seconds:.0f} s" if self.measure.window == "sustained" else ""
        return f"{self._source}: {self.measure.name} {value} {self._why}{lasting}"

    def nothing(self, now: float) -> str:
        if self._value is None:
            return "no value"
        return "" if self._limit is not None else "nothing to compare with"

    def shown(self, now: float) -> tuple[float | None, float | None]:
        return self._value, self._limit

    def _highest(self, normal: float | None) -> list[tuple[float, str]]:
        limit = self.measure.limit
        found = [] if limit.above is None else [(limit.above, "")]
        known = limit.normal if normal is None else normal
        if limit.compares is not None and known is not None:
            found.append((limit.over(known), "" if normal is None else f" (was {normal:.4g})"))
        return found


def _enough(share: float) -> float:
    """Answers that tell whether more of them than this share are bad."""
    return round(IN_THE_TAIL / share) if share > 0 else math.inf


def tracks_of(measure: Measure, watch: WatchRules, alert: float) -> tuple[Track, ...]:
    """What a measure is judged by: the first has to have data."""
    if not measure.is_share:
        return (ValueTrack(measure, watch),)
    limit = measure.limit
    found: list[Track] = []
    if limit.above is not None or limit.below is not None:
        found.append(ShareTrack(measure, watch))
    if limit.relative is not None and measure.source == names.PODS:
        found.append(ComparisonTrack(measure, watch, alert))
    return tuple(found)
