"""What is remembered of the last seconds, with its sums kept. Pure: the caller says what time it is (seconds of a
monotonic clock).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from handover.analysis.statistics import beyond, highest, surely_above

T = TypeVar("T")
NOTHING = 1e-9
"""Counts are whole numbers: a sum that is smaller is what rounding has left over."""
MOST = 0.9
"""Of a window: the first and the last value that lie in it are nearer to each other than its ends."""


class Window(Generic[T]):
    """The samples that are not older than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._samples: deque[tuple[float, T]] = deque()

    def add(self, at: float, sample: T) -> None:
        self._samples.append((at, sample))
        self._forget(at)

    def since(self, now: float) -> Iterator[T]:
        """The samples of the window that ends now."""
        self._forget(now)
        return (sample for _, sample in self._samples)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - self.seconds:
            self._samples.popleft()


class Sums(Generic[T]):
    """How many there were of each kind in the last seconds: one sum for each kind, whatever came in.

    :param at_least: so many are kept, however old they are: the window grows when few come
    """

    def __init__(self, seconds: float, at_least: float = 0.0) -> None:
        self.seconds, self._at_least = seconds, at_least
        self._samples: deque[tuple[float, Mapping[T, float], float]] = deque()
        self._sums: dict[T, float] = {}
        self._total = 0.0

    def add(self, at: float, amounts: Mapping[T, float]) -> None:
        total = sum(amounts.values())
        if total <= 0:
            return
        self._samples.append((at, amounts, total))
        self._total += total
        for kind, amount in amounts.items():
            if amount:
                self._sums[kind] = self._sums.get(kind, 0.0) + amount
        self._forget(at)

    def of(self, now: float) -> Mapping[T, float]:
        """The sums of the window that ends now; they go on changing."""
        self._forget(now)
        return self._sums

    def total(self, now: float) -> float:
        self._forget(now)
        return self._total if self._samples else 0.0

    def few(self, now: float) -> bool:
        """Whether the last seconds alone would not be enough."""
        self._forget(now)
        return self._total < self._at_least or (bool(self._samples) and self._samples[0][0] <= now - self.seconds)

    def _forget(self, now: float) -> None:
        while (
            self._samples
            and self._samples[0][0] <= now - self.seconds
            and self._total - self._samples[0][2] >= self._at_least - NOTHING
        ):
            _, amounts, total = self._samples.popleft()
            self._total -= total
            for kind, amount in amounts.items():
                if not amount:
                    continue
                left = self._sums[kind] - amount
                if left > NOTHING:
                    self._sums[kind] = left
                else:
                    del self._sums[kind]


class Lasting:
    """Since when every value is bad."""

    def __init__(self) -> None:
        self._good: float | None = None
        self._began = self._last = 0.0
        self.number = 0
        """How many are bad in a row."""

    def add(self, at: float, bad: bool) -> None:
        self._last = at
        if not bad:
            self._good, self.number = at, 0
        elif self.number == 0:
            self._began, self.number = at, 1
        else:
            self.number += 1

    @property
    def seconds(self) -> float:
        """Between the first and the last bad one of the row."""
        return self._last - self._began if self.number else 0.0

    def throughout(self, now: float, seconds: float, samples: int) -> bool:
        """Whether there was nothing else in the last ``seconds``, nor less of it, in ``samples`` values or more: a new
        version that has to warm up first is no bad one.
        """
        only_bad = self._good is None or self._good <= now - seconds
        return only_bad and self.number >= max(1, samples) and self.seconds >= MOST * seconds - NOTHING


@dataclass(frozen=True)
class Share:
    """How many of some answers were bad."""

    bad: float
    total: float

    @property
    def rate(self) -> float:
        return self.bad / self.total if self.total else 0.0

    def at_most(self, z: float) -> float:
        """With confidence ``z`` (standard deviations) the true rate is not above this (Clopper and Pearson)."""
        return highest(self.bad, self.total, beyond(z))

    def over(self, limit: float, z: float, min_bad: float) -> bool:
        """Whether the rate is above its limit for sure, by this one look, and was seen often enough."""
        return self.bad >= min_bad and surely_above(self.bad, self.total, limit, beyond(z))

    def __add__(self, other: Share) -> Share:
        return Share(self.bad + other.bad, self.total + other.total)
