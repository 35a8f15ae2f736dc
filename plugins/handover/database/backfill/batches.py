"""How large the next batch is. Pure; times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, replace

ALPHA = 0.4
GROWTH = 1.5
WELL_USED = 0.95
"""Share of the wanted time that a batch is made for, as GitLab's batched migrations do."""


@dataclass(frozen=True)
class Pace:
    """``per_row``: smoothed seconds of one row, None before the first batch. ``narrowing``: a row of what comes next
    fails; batches only shrink until it is found, or is passed.
    """

    size: int
    wanted_seconds: float
    most: int
    per_row: float | None = None
    narrowing: int = 0

    def after(self, rows: int, seconds: float) -> Pace:
        """After a batch of so many rows that was committed."""
        if self.narrowing:
            left = self.narrowing - rows
            return replace(self, narrowing=max(0, left), size=max(1, min(self.size, left)) if left > 0 else self.size)
        last = max(seconds, 1e-6) / max(1, rows)
        per_row = last if self.per_row is None else ALPHA * last + (1 - ALPHA) * self.per_row
        fits = self.wanted_seconds * WELL_USED / per_row
        size = int(min(max(fits, self.size / 2), self.size * GROWTH + 1))
        return replace(self, per_row=per_row, size=max(1, min(size, self.most)))

    def halved(self) -> Pace:
        """After a batch that was undone because somebody waited for it."""
        return replace(self, size=max(1, self.size // 2), per_row=None)

    def narrowed(self, rows: int) -> Pace:
        """After a batch of so many rows in which one failed."""
        left = min(rows, self.narrowing) if self.narrowing else rows
        return replace(self, size=max(1, rows // 2), narrowing=left)


def time_left(passed: int, total: int, rate: float) -> float | None:
    """Seconds, None when nobody can say."""
    return None if rate <= 0 else max(0, total - passed) / rate
