"""What answers prove, few or many. Pure, and of nothing but the standard library.

Three questions have three tests. Is a share above its limit, by one look at so many answers: the exact binomial
(Clopper and Pearson). The same, looked at as often as one likes while answers come in: `SequentialTest`, a mixture of
likelihood ratios over how bad the share may be and when it began, whose false alarms are bounded over all looks
together (Ville's inequality). Are the new version's answers slower than the stable one's: `slower_pairs`, Mann and
Whitney's count of pairs, of those pairs alone that buckets tell apart for sure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

Interval = tuple[float, float]
"""An answer took more than the first and at most the second: seconds, as a histogram's bucket tells it."""

ODDS = ((2.0, 0.15), (6.0, 0.15), (30.0, 0.15), (250.0, 0.15), (100_000.0, 0.4))
"""The shares that the sequential test looks for: so much above the limit, in odds, and how much each is expected.
Between two of them it loses little.
"""
AT_ONCE = 0.3
"""How much it is expected that what is wrong is wrong from the first answer on, rather than from some later moment."""
LATER_SECONDS = 7200.0
"""Half of what goes wrong later goes wrong in so long."""
_EXPECTED = tuple(math.log(expected) for _, expected in ODDS)
_MOMENT = 1e-9
_TINY, _STEPS, _CLOSE = 1e-300, 20_000, 1e-14


def beyond(z: float) -> float:
    """How likely a normal value is more than ``z`` standard deviations above its mean: 0.00135 for 3."""
    return 0.5 * math.erfc(z / math.sqrt(2))


def at_least_so_many(bad: float, total: float, rate: float) -> float:
    """How likely ``bad`` or more of ``total`` are bad when each one is with probability ``rate``: a binomial's tail."""
    if bad <= 0 or rate >= 1:
        return 1.0
    if bad > total or rate <= 0:
        return 0.0
    return _beta_share(bad, total - bad + 1, rate)


def surely_above(bad: float, total: float, limit: float, alpha: float) -> bool:
    """Whether the true rate is above ``limit``, and that wrongly with probability ``alpha`` at most, by one look."""
    return total > 0 and bad / total > limit and at_least_so_many(bad, total, limit) < alpha


def highest(bad: float, total: float, alpha: float) -> float:
    """Clopper and Pearson's upper bound: the true rate is above it with probability ``alpha`` at most."""
    if bad >= total:
        return 1.0
    low, high = bad / total, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if at_least_so_many(total - bad, total, 1 - middle) < alpha else (middle, high)
    return high


class SequentialTest:
    """Whether a share of bad ones is above ``limit``: may be asked after every answer, at any traffic, for any time.

    Its evidence is a weighted mean of likelihood ratios, each "bad with probability p since moment m" against "bad with
    probability ``limit``". While the true share is at most the limit, the chance that it ever reaches 1 / ``alpha`` is
    at most ``alpha``: it is a non-negative supermartingale that begins at 1. Nothing has to be remembered but a number
    for each of `ODDS`, and no window has to be chosen: a few bad answers an hour apart add up where nothing good lies
    between them.

    Times are seconds of a monotonic clock.
    """

    def __init__(self, limit: float, alpha: float) -> None:
        self.limit, self._needed = limit, -math.log(alpha)
        rates = [limit * odds / (1 - limit + limit * odds) for odds, _ in ODDS]
        self._gains = [(math.log(rate / limit), math.log((1 - rate) / (1 - limit))) for rate in rates]
        self._began: float | None = None
        self._last = 0.0
        self._runs: list[_Run] = []

    def add(self, at: float, bad: float, total: float) -> None:
        """What came in since the last call."""
        if total <= 0:
            return
        for run, (gain, loss) in zip(self._restarted(at), self._gains, strict=True):
            run.add(at, bad, total, bad * gain + (total - bad) * loss)

    def above(self, at_least: float, bad: float = 0.0) -> bool:
        """Whether the share is above the limit for sure, and was seen bad ``at_least`` so often since that began.

        :param bad: so many more that are bad already, though they are not in yet
        """
        runs = self._runs or self._fresh(self._last)
        found = [(run.evidence + bad * gain, run.bad + bad) for run, (gain, _) in zip(runs, self._gains, strict=True)]
        return max(found)[1] >= at_least and _log_sum([evidence for evidence, _ in found]) >= self._needed

    def since(self) -> tuple[float, float, float]:
        """Bad ones and all of them in the stretch that says the most, and when it began."""
        runs = [(run.evidence, run.bad, run.total, run.began) for run in self._runs]
        return max(runs)[1:] if runs else (0.0, 0.0, self._last)

    @staticmethod
    def _fresh(at: float) -> list[_Run]:
        return [_Run(math.log(AT_ONCE * expected), at) for _, expected in ODDS]

    def _restarted(self, at: float) -> Sequence[_Run]:
        """What may have begun since the last call has the weight of that time."""
        if self._began is None:
            self._began = self._last = at
            self._runs = self._fresh(at)
        elif at - self._last > _MOMENT:
            before, after = (1 + (t - self._began) / LATER_SECONDS for t in (self._last, at))
            weight = math.log((1 - AT_ONCE) * (at - self._last) / LATER_SECONDS / (before * after))
            self._last = at
            for run, expected in zip(self._runs, _EXPECTED, strict=True):
                run.may_begin(at, weight + expected)
        return self._runs


class _Run:
    """The evidence for one rate (logarithm), and what it rests on since the last moment that was as good as any."""

    __slots__ = ("bad", "began", "evidence", "total")

    def __init__(self, evidence: float, began: float) -> None:
        self.evidence, self.began, self.bad, self.total = evidence, began, 0.0, 0.0

    def may_begin(self, at: float, weight: float) -> None:
        if self.evidence <= weight:
            self.began, self.bad, self.total = at, 0.0, 0.0
        high, low = max(self.evidence, weight), min(self.evidence, weight)
        self.evidence = high + math.log1p(math.exp(low - high))

    def add(self, at: float, bad: float, total: float, gain: float) -> None:
        self.evidence += gain
        self.bad += bad
        self.total += total


def slower_pairs(
    new: Iterable[tuple[Interval, float]], stable: Iterable[tuple[Interval, float]], tail: float = 1.0
) -> tuple[float, float]:
    """Mann and Whitney's effect size: in how many of all pairs the new answer is slower than the stable one, for sure.

    Gives that share, and how many pairs of different answers there can be: min of both, which bounds its variance
    (Birnbaum and Klose). Equal distributions have a share of at most ``tail / 2``.

    :param tail: only the slowest of the stable answers, such as 0.1 for a comparison of the 95th percentiles
    """
    theirs = sorted(((high, count) for (_, high), count in stable if count > 0), reverse=True)
    ours = sorted(((low, count) for (low, _), count in new if count > 0), reverse=True)
    their_total, our_total = sum(count for _, count in theirs), sum(count for _, count in ours)
    if not their_total or not our_total:
        return 0.0, 0.0
    kept, left = [], tail * their_total
    for high, count in theirs:
        kept.append((high, min(count, left)))
        left -= kept[-1][1]
        if left <= 0:
            break
    pairs, slower, i = 0.0, 0.0, 0
    for high, count in kept:
        while i < len(ours) and ours[i][0] >= high:
            slower += ours[i][1]
            i += 1
        pairs += slower * count
    return pairs / (our_total * tail * their_total), min(our_total, their_total)


def _log_sum(logs: Sequence[float]) -> float:
    highest = max(logs)
    return highest + math.log(sum(math.exp(one - highest) for one in logs))


def _beta_share(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by Lentz's continued fraction where it converges fast."""
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_share(b, a, 1 - x)
    front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if front < -700:
        return 0.0
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _STEPS):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _not_zero(1 + step * d), _not_zero(1 + step / c)
            fraction *= c * d
        if abs(c * d - 1) < _CLOSE:
            break
    return math.exp(front) * fraction / a


def _not_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
