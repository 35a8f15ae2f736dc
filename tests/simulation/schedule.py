"""Who goes on at every call, and what that call meets: drawn from a seed, or written down.

A call is a round trip to the cluster. Its way there takes a moment that the schedule draws, so that the order in which
actors go on is the schedule's; with the same seed everything happens again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """What a call may meet. ``late``: after it took effect."""

    CONFLICT = "conflict"
    UNAVAILABLE = "5xx"
    TIMEOUT = "time-out"
    TIMEOUT_LATE = "time-out, late"
    STALE = "stale read"
    KILLED = "killed"
    KILLED_LATE = "killed, late"
    HELD_UP = "held up"
    HELD_UP_LATE = "held up, late"


READS = tuple(fault for fault in Fault if fault is not Fault.CONFLICT)
WRITES = tuple(fault for fault in Fault if fault is not Fault.STALE)
LATE = {Fault.TIMEOUT_LATE, Fault.KILLED_LATE}
"""A read has no effect that it could have had by then: the same as without."""
HELD_UP_SECONDS = 60.0
NO_ANSWER_SECONDS = 10.0
LATENCIES = (0.001, 0.002, 0.004, 0.01, 0.03, 0.1, 0.4)


@dataclass(frozen=True)
class Call:
    """The n-th call of an actor, counted from 0."""

    actor: str
    number: int


@dataclass
class Schedule:
    """By default nothing happens, and every call takes the same moment."""

    faults: Mapping[Call, Fault] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.met: list[tuple[Call, str, Fault]] = []
        self.writes: set[Call] = set()
        self.tell: Callable[[str], None] | None = None
        """Hears of every call and every change, where somebody wants to read them."""

    def next_call(self, actor: str) -> Call:
        call = Call(actor, self.calls[actor])
        self.calls[actor] += 1
        return call

    def latency(self) -> float:
        return LATENCIES[1]

    def fault(self, call: Call, *, write: bool) -> Fault | None:
        if write:
            self.writes.add(call)
        found = self.faults.get(call)
        return found if found in (WRITES if write else READS) else None

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in so many of all cases."""
        return False

    def moment(self, seconds: float) -> float:
        """Some moment within so many seconds."""
        return 0.0


class Drawn(Schedule):
    """Drawn from a seed. ``rate``: the share of calls that meet a fault."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._random = random.Random(seed)
        self._rate = self._random.choice((0.0, 0.01, 0.03, 0.08))

    def latency(self) -> float:
        return self._random.choice(LATENCIES)

    def fault(self, call: Call, *, write: bool) -> Fault | None:
        if self._random.random() >= self._rate:
            return None
        return self._random.choice(WRITES if write else READS)

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def moment(self, seconds: float) -> float:
        return self._random.random() * seconds
