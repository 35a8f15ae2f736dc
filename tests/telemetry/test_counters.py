"""Several looks at one pod: one process, one that was started again, or several behind one port."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handover.telemetry.counters import Counters, several_processes

INF = float("inf")
EVERY = 0.25


def looks(*requests: float, born: tuple[float, ...] = (), **more: list[float]) -> list[Counters]:
    """Looks that have counted so many requests; ``more``: other counters."""
    others = [{what: values[i] for what, values in more.items()} for i in range(len(requests))]
    births = born or [None] * len(requests)
    return [
        Counters(i * EVERY, n, born=births[i], metric="m", **other)
        for i, (n, other) in enumerate(zip(requests, others, strict=True))
    ]


def workers(number: int, count: int, seed: int, born: str, rate: float = 40.0) -> Iterator[Counters]:
    """Looks by chance at worker processes behind one port, each of which has its own counters."""
    draw = random.Random(seed)
    begun = [draw.uniform(20, 500) for _ in range(number)]  # how busy each was before
    births = {"none": [None] * number, "same": [1e9] * number, "forked": [1e9 + 0.1 * n for n in range(number)]}[born]
    for look in range(count):
        which = draw.randrange(number)
        requests = float(int(begun[which] + rate / number * look * EVERY))
        yield Counters(
            look * EVERY, requests, errors=which % 2 * 3.0, cpu_seconds=begun[which] / 50 + look * EVERY / 10,
            buckets={0.1: requests // 2, INF: requests}, born=births[which], metric="m",
        )  # fmt: skip


@pytest.mark.parametrize("born", ["none", "same", "forked"])
@pytest.mark.parametrize("number", [2, 4, 8])
def test_processes_that_answer_by_turns_are_told(born, number):
    told = [bool(several_processes(list(workers(number, 12, seed, born)))) for seed in range(200)]
    assert sum(told) >= 0.95 * len(told)


def test_of_processes_that_are_told_it_is_said_why():
    assert several_processes(looks(100, 57, born=(1e9, 1e9))) == (
        "requests fell from 100 to 57, and the process was not started again"
    )
    assert several_processes(looks(100, 57, 103)) == "requests fell from 100 to 57, and 100 came back"
    assert several_processes(looks(100, 120, 150, born=(1e9, 1e9 + 50, 1e9))).endswith("which is earlier")
    assert several_processes(looks(100, 57, 30)).startswith("counters fell twice in 0.2 s: requests fell from 57 to 30")


@pytest.mark.parametrize("what", ["errors", "cpu_seconds", "hits", "misses", "disk_bytes", "network_bytes"])
def test_any_counter_that_falls_tells(what):
    assert several_processes(looks(5, 5, born=(1.0, 1.0), **{what: [3.0, 2.9]})).startswith(
        f"{what} fell from 3 to 2.9"
    )


def test_a_bucket_that_falls_tells():
    old, new = Counters(0, 5, buckets={0.1: 4, INF: 5}, born=1), Counters(1, 5, buckets={0.1: 3, INF: 5}, born=1)
    assert several_processes([old, new]).startswith("requests within 0.1 s fell from 4 to 3")


# --- one process


@pytest.mark.parametrize("seen", [
    [], looks(100), looks(100, 100, 100), looks(100, 120, 150, born=(1e9,) * 3),
    looks(100, 120, 150, born=(1e9, 1e9 + 0.9, 1e9)),  # a machine's clock that drifts
    looks(100, 3, 20, born=(1e9, 1e9 + 60, 1e9 + 60)), looks(100, 3, 20, 40, 41), looks(100, 0, 0, 0),
    looks(100, 3, 90, 2, born=(1e9, 1e9 + 60, 1e9 + 60, 1e9 + 90)),
    looks(0.1 + 0.2, 0.3, born=(1.0, 1.0)),  # the same sum in another order
])  # fmt: skip
def test_one_process_even_when_it_was_started_again(seen):
    assert several_processes(seen) == ""


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**9), st.booleans(), st.integers(1, 2000))
def test_a_restart_is_never_taken_for_several_processes(seed, tells_birth, rate):
    """At the same traffic as before, for as long as it takes to count more than the old process had."""
    draw, born, at, seen = random.Random(seed), 1e9, 0.0, []
    for _ in range(draw.randint(1, 3)):  # lives, each longer than a container's restart takes
        began = at
        for _ in range(draw.randint(24, 60)):
            requests = float(int((at - began) * rate))
            seen.append(Counters(at, requests, cpu_seconds=(at - began) / 10, born=born if tells_birth else None))
            at += EVERY
        at += draw.uniform(1, 3)
        born += at - began
    assert several_processes(seen) == ""


def test_another_counter_than_before_has_not_fallen():
    assert several_processes([Counters(0, 100, metric="a", born=1), Counters(1, 5, metric="b", born=1)]) == ""
