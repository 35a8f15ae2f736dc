"""How late this process itself was. What its event loop makes others wait for is not the release's time. Pure."""

from __future__ import annotations

from collections import deque

KEPT_SECONDS = 10.0
NOISE_SECONDS = 0.001
TURNS = 5
"""Of the event loop, from a request to its answer: connect, send, read, and what lies between."""


class Holds:
    """Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()

    def add(self, now: float, late: float) -> None:
        """Something was done so many seconds after it was due."""
        if late > NOISE_SECONDS:
            self._late.append((now, late))
        while self._late and self._late[0][0] < now - KEPT_SECONDS:
            self._late.popleft()

    def ours(self, sent: float) -> float:
        """How much of the time since a request was sent may have been ours, in seconds: each of its turns may have
        waited as long as the longest.
        """
        return TURNS * max((late for at, late in self._late if at >= sent), default=0.0)
