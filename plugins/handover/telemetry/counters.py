"""What one pod says of itself at one look, and what several looks say of the pod. Pure.

Times are seconds of a monotonic clock, as the caller gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from handover.models import names

Buckets = Mapping[float, float]
"""Upper bound in seconds to the number of requests that took at most so long; ``inf`` holds all."""
LATENCIES = (names.P50, names.P95, names.P99)
SAME_START_SECONDS = 1.0
"""A process cannot be born and born again within so long; clocks that tell its birth may differ by so much."""
SOON_SECONDS = 5.0
"""No container is started again twice within so long."""
JUMP = 3.0
"""Requests that come so many times faster than between all other looks are another process's."""
_USED = ("cpu_seconds", "hits", "misses", "disk_bytes", "network_bytes")
_GROWING = ("requests", "errors", "hung_up", *_USED)


class NoMetrics(ValueError):
    """The text does not tell requests: it is no metrics, or not in words that we know. The reason says which."""


class NoRequests(NoMetrics):
    """These are metrics, but none of them counts requests."""


@dataclass(frozen=True)
class Counters:
    """What one pod says about itself, since its process began. None: it does not say."""

    at: float
    requests: float = 0
    """Of clients, as far as the labels tell (see ``mixed``)."""
    errors: float = 0
    """Answers of 500 and above; nothing to rely on when ``lacking`` names the error rate."""
    buckets: Buckets = field(default_factory=dict)
    hits: float | None = None
    misses: float | None = None
    connections: float | None = None
    """To the database."""
    client_connections: float | None = None
    cpu_seconds: float | None = None
    memory_bytes: float | None = None
    disk_bytes: float | None = None
    network_bytes: float | None = None
    born: float | None = None
    """When the process began, seconds since the epoch."""
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Measures that this pod cannot tell (`handover.models.names`), each with the reason. They are no data: neither
    zero nor fine.
    """
    metric: str = ""
    """What the requests were counted by."""
    series: int = 0
    """How many series of it there are, of clients or not; 0 as long as nothing shows whether they tell the status."""
    mixed: str = ""
    """Why requests of the kubelet and of ours may be among them; "" when their labels tell them apart, or the plan says
    that they are not counted.
    """
    hung_up: float = 0
    """Clients that were gone before there was an answer, as far as a library says so: beside ``requests``."""
    strange: float = 0
    """Of the requests those that ended as nobody knows; ``inf`` where no label says how any of them ended."""


def fallen(new: Counters, old: Counters) -> str:
    """A counter that is lower than it was, in words; "" when all have kept or grown."""
    for what, after, before in _growing(new, old):
        if after < before - 1e-9 * max(1.0, before):
            return f"{what} fell from {before:g} to {after:g}"
    return ""


def started_again(new: Counters, old: Counters) -> bool:
    """Whether the process says that it was born later than the one of the last look."""
    return new.born is not None and old.born is not None and new.born > old.born + SAME_START_SECONDS


def several_processes(looks: Sequence[Counters]) -> str:
    """Why these looks at one pod, in their order, are not all at one process; "" when they may be.

    One process' counters never fall, and one that is started again is born later and begins at zero: what the old one
    had counted does not come back.
    """
    falls: list[int] = []
    for number, (old, new) in enumerate(pairwise(looks), start=1):
        if new.born is not None and old.born is not None:
            if new.born < old.born - SAME_START_SECONDS:
                return f"the process began at {old.born:.0f}, then at {new.born:.0f}, which is earlier"
            if not started_again(new, old) and (why := fallen(new, old)):
                return f"{why}, and the process was not started again"
        elif why := fallen(new, old):
            falls.append(number)
            if len(falls) > 1 and new.at - looks[falls[-2]].at < SOON_SECONDS:
                return f"counters fell twice in {new.at - looks[falls[-2]].at:.1f} s: {why}"
    return next((why for fall in falls if (why := _back(looks, fall))), "")


def _back(looks: Sequence[Counters], fall: int) -> str:
    """Whether what was counted before a fall has come back at once, and not by being counted again."""
    old = looks[fall - 1]
    for number in range(fall + 1, len(looks)):
        if not fallen(looks[number], old):
            others = [_speed(*pair) for n, pair in enumerate(pairwise(looks), start=1) if n not in (fall, number)]
            if _speed(looks[number - 1], looks[number]) > JUMP * max((0.0, *others)):
                low = looks[fall].requests
                return f"requests fell from {old.requests:g} to {low:g}, and {old.requests:g} came back"
            return ""
    return ""


def _speed(old: Counters, new: Counters) -> float:
    return (new.requests - old.requests) / max(new.at - old.at, 1e-3)


def _growing(new: Counters, old: Counters) -> Iterator[tuple[str, float, float]]:
    same = new.metric == old.metric
    for what in _GROWING if same else _USED:
        after, before = getattr(new, what), getattr(old, what)
        if after is not None and before is not None:
            yield what, after, before
    if same:
        for bound in new.buckets.keys() & old.buckets.keys():
            yield f"requests within {bound:g} s", new.buckets[bound], old.buckets[bound]
