"""What is remembered of the last seconds: what adding all up again would give, at a cost that does not grow."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from handover.analysis import judge
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, Probed
from handover.analysis.window import Lasting, Sums, Window
from tests.analysis.made import ONE, seen

SAMPLES = st.lists(
    st.tuples(st.floats(0, 20), st.dictionaries(st.sampled_from("abc"), st.integers(0, 50), max_size=3)), max_size=40
)


@given(st.lists(st.floats(0, 100)), st.floats(0.1, 50))
def test_a_window_holds_what_is_not_too_old(times, seconds):
    window: Window[float] = Window(seconds)
    for at in sorted(times):
        window.add(at, at)
    now = max(times, default=0.0)
    assert list(window.since(now)) == [at for at in sorted(times) if at > now - seconds]


@given(SAMPLES, st.floats(0.1, 30), st.integers(0, 100), st.floats(0, 60))
def test_sums_are_what_adding_up_again_would_give(samples, seconds, at_least, later):
    sums: Sums[str] = Sums(seconds, at_least)
    now, kept = 0.0, []
    for after, amounts in samples:
        now += after
        sums.add(now, amounts)
        kept += [(now, amounts)] if sum(amounts.values()) else []
        while kept and kept[0][0] <= now - seconds and sum(sum(a.values()) for _, a in kept[1:]) >= at_least:
            kept.pop(0)
    now += later
    while kept and kept[0][0] <= now - seconds and sum(sum(a.values()) for _, a in kept[1:]) >= at_least:
        kept.pop(0)
    wanted: Counter[str] = Counter()
    for _, amounts in kept:
        wanted.update(amounts)
    assert dict(sums.of(now)) == {kind: count for kind, count in wanted.items() if count}
    assert sums.total(now) == sum(wanted.values())


@given(st.lists(st.tuples(st.floats(0.1, 20), st.booleans()), max_size=40), st.floats(1, 60), st.integers(1, 5))
def test_lasting_is_what_looking_at_the_whole_window_would_say(values, seconds, samples):
    lasting, now, all_of_them = Lasting(), 0.0, []
    for after, bad in values:
        now += after
        lasting.add(now, bad)
        all_of_them.append((now, bad))
    row = []
    for at, bad in reversed(all_of_them):
        if not bad:
            break
        row.append(at)
    only_bad = all(bad for at, bad in all_of_them if at > now - seconds)
    wanted = only_bad and len(row) >= samples and row[0] - row[-1] >= 0.9 * seconds - 1e-9
    assert lasting.throughout(now, seconds, samples) == wanted


# --- cost: in calls, which no machine makes slower


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many calls are made meanwhile."""
    found: Counter[str] = Counter()

    def note(_frame: Any, event: str, _arg: Any) -> None:
        if event in ("call", "c_call"):
            found["calls"] += 1

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


BOUNDS = [0.005 * 1.5**i for i in range(20)] + [float("inf")]


def look(subject: Observations, now: float, pods: int, bounds: list[float]) -> None:
    """What one second brings: four looks at each pod, ten probes, and all the verdicts."""
    for quarter in range(4):
        at = now + quarter / 4
        for pod in range(pods):
            total = at * 40
            buckets = {bound: total * min(1.0, (i + 1) / 5) for i, bound in enumerate(bounds)}
            subject.pod(f"pod-{pod}", Counters(at, total, 0, buckets, cpu_seconds=at / 10, memory_bytes=20))
            judge.fast_breach(subject, at)
    for tenth in range(10):
        subject.probe(now + tenth / 10, Probed(0.01))
    subject.resources(now + 0.99, ONE)
    judge.breach(subject, now + 0.99)
    judge.conclude(subject, now + 0.99)
    subject.sample(now + 0.99)
    subject.summary(now + 0.99)


def work(after: int, pods: int = 2, bounds: list[float] = BOUNDS) -> int:
    """Calls that one second costs when a watch has gone on for so long."""
    subject = seen()
    subject.ready(0, [f"pod-{pod}" for pod in range(pods)])
    for second in range(1, after):
        look(subject, second, pods, bounds)
    with counted() as calls:
        look(subject, after, pods, bounds)
    return calls["calls"]


def test_a_second_costs_the_same_however_long_the_watch_is():
    assert work(600) <= work(70) * 1.02


def test_four_times_as_much_costs_at_most_four_times_as_much():
    assert work(20, pods=8) <= work(20, pods=2) * 4.4
    assert work(20, bounds=[bound / 2 for bound in BOUNDS[:-1]] + BOUNDS) <= work(20) * 2.2


def test_one_look_at_one_of_fifty_pods_is_little_work():
    subject = seen()
    subject.ready(0, [f"pod-{pod}" for pod in range(50)])
    for second in range(1, 10):
        look(subject, second, 50, BOUNDS)
    buckets = dict.fromkeys(BOUNDS, 500.0)
    with counted() as calls:
        subject.pod("pod-7", Counters(10.0, 500, 0, buckets))
        judge.fast_breach(subject, 10.0)
    assert calls["calls"] < 1500
