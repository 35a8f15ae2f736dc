"""Samples of the last seconds. Pure: the caller says what time it is (seconds of a monotonic clock)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


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

    def covered(self, now: float) -> float:
        """Seconds between the first and the last sample of the window that ends now."""
        self._forget(now)
        return self._samples[-1][0] - self._samples[0][0] if self._samples else 0.0

    def __len__(self) -> int:
        return len(self._samples)

    def _forget(self, now: float) -> None:
        while self._samples and self._samples[0][0] <= now - self.seconds:
            self._samples.popleft()


@dataclass(frozen=True)
class Share:
    """How many of some samples were bad."""

    bad: float
    total: float

    @property
    def rate(self) -> float:
        return self.bad / self.total if self.total else 0.0

    def at_least(self, z: float) -> float:
        """Lower Wilson bound: with confidence ``z`` (standard deviations) the true rate is not below it.

        Few samples give a low bound, so that neither one bad answer of three nor one of a thousand says much.
        """
        if self.total <= 0:
            return 0.0
        n, p = self.total, min(1.0, self.rate)
        spread = z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
        return max(0.0, (p + z * z / (2 * n) - spread) / (1 + z * z / n))

    def over(self, limit: float, z: float, min_bad: float) -> bool:
        """Whether the rate is above its limit for sure, and was seen often enough."""
        return self.bad >= min_bad and self.at_least(z) > limit
