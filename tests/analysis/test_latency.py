"""What histograms tell for sure: a limit inside a bucket is on neither side of its answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.analysis import judge
from handover.analysis.latency import Slower, histogram, slower, worse
from handover.analysis.metrics import Counters
from handover.analysis.observations import Probed
from handover.models import names
from handover.models.evidence import Verdict
from handover.models.measures import MeasureVerdict
from tests.analysis.made import plan_with, result, seen

BUCKETS = {0.1: 10.0, 0.5: 40.0, 1.0: 45.0, math.inf: 50.0}
BOUNDS = (0.1, 0.5, 1.0, math.inf)


def test_a_histogram_of_cumulative_buckets():
    assert histogram(BUCKETS) == {(0.0, 0.1): 10, (0.1, 0.5): 30, (0.5, 1.0): 5, (1.0, math.inf): 5}
    assert histogram({}) == {}
    assert histogram({0.1: 0.0, math.inf: 0.0}) == {}


@pytest.mark.parametrize(("limit", "bad", "unsure", "within"), [
    (0.05, 40, 10, 0.1), (0.1, 40, 0, 0), (0.2, 10, 30, 0.5), (0.5, 10, 0, 0), (0.7, 5, 5, 1.0), (1.0, 5, 0, 0),
    (9.0, 0, 5, math.inf),
])  # fmt: skip
def test_slower_for_sure(limit, bad, unsure, within):
    assert slower(histogram(BUCKETS), limit) == Slower(bad, 50, unsure, within)


@given(st.lists(st.floats(0.001, 20), max_size=60), st.lists(st.floats(0.01, 10), max_size=6), st.floats(0.01, 10))
def test_the_truth_is_never_outside_of_what_is_said(seconds, bounds, limit):
    buckets = {bound: float(sum(s <= bound for s in seconds)) for bound in [*bounds, math.inf]}
    found = slower(histogram(buckets), limit)
    truth = sum(s > limit for s in seconds)
    assert found.bad <= truth <= found.bad + found.unsure
    assert found.total == len(seconds)


def test_worse_is_by_a_share_and_at_least_by_so_much():
    assert worse([((0.0, 0.02), 1), ((0.1, 0.5), 2), ((1.0, math.inf), 3)], 0.5, 0.05) == [
        ((0.0, 0.07), 1), ((0.1, 0.75), 2), ((1.0, math.inf), 3),
    ]  # fmt: skip


def test_worse_by_so_much_is_a_bound_of_the_new_version_and_not_just_beside_it():
    assert worse([((0.05, 0.1), 1), ((0.5, 0.7), 1)], 0.0, 0.2) == [((0.05, 0.3), 1), ((0.5, 0.9), 1)]
    assert worse([((0.0, 0.7), 1)], 0.1, 0.0) == [((0.0, 0.77), 1)]


@pytest.mark.parametrize("limit", [30, 35, 70, 280, 550, 560, 700, 1100])
def test_a_limit_in_ms_tells_the_answers_of_its_own_bucket(limit):
    """All of them took longer than it."""
    entry = {"name": "p99_seconds", "source": "pods", "limit": {"above": limit}, "unit": "ms"}
    subject, bound = seen(plan_with(entry)), limit / 1000
    for now in range(1, 60):
        buckets = {bound: 0.0, 2 * bound: 100.0 * now, math.inf: 100.0 * now}
        subject.pod("a", Counters(float(now), 100.0 * now, 0.0, buckets))
    found = result(subject, now, "p99_seconds")
    assert (found.verdict, found.value) == (MeasureVerdict.BREACH, 1.0)


# --- verdicts


def watched(seconds: float, number: int = 40, bounds: tuple[float, ...] = BOUNDS, until: int = 60):
    """A version whose every answer takes so long; our own probes are fast."""
    subject = seen()
    for now in range(1, until):
        subject.ready(now, ["a"])
        subject.probe(now, Probed(0.01))
        total = float(now * number)
        subject.pod("a", Counters(now, total, 0, {bound: total * (seconds <= bound) for bound in bounds}))
        if found := judge.breach(subject, now):
            return subject, now, found
    return subject, now, None


@pytest.mark.parametrize(("seconds", "rule"), [
    (0.05, None), (0.12, None), (0.19, None), (0.3, None), (0.6, names.P50), (0.99, names.P50), (1.5, names.P99),
])  # fmt: skip
def test_a_limit_inside_of_a_bucket(seconds, rule):
    """Input 5: the limit is 0.2 s, and the buckets end at 0.1, 0.5 and 1 s."""
    subject, now, found = watched(seconds)
    assert (found.rule if found else None) == rule
    if not rule:
        assert judge.conclude(subject, now)[0] is Verdict.PASS


def test_what_the_buckets_cannot_tell_is_said():
    subject, now, _ = watched(0.12)
    why = "its buckets do not tell 0.2 s from 0.5 s"
    assert result(subject, now, names.P50).reason == why
    assert judge.told(subject, now).endswith(f"; p50_seconds of pods: {why}")
    subject, now, _ = watched(0.05)
    assert "buckets" not in judge.told(subject, now)


@pytest.mark.parametrize("seconds", [0.01, 9.0])
def test_a_histogram_without_buckets_tells_nothing(seconds):
    """Input 4: neither a breach of a fast service nor a pass of a slow one."""
    subject, now, found = watched(seconds, bounds=(math.inf,))
    assert found is None
    verdict, against = judge.conclude(subject, now)
    assert (verdict, against.rule, against.measure) == (Verdict.UNKNOWN, "no_data", names.P99)
    assert "answers are in a bucket without end" in against.reason


def test_versions_with_other_buckets_are_added_by_what_they_tell():
    subject = seen()
    for now in range(1, 30):
        total = float(now * 50)
        subject.pod("a", Counters(now, total, 0, {0.1: total, math.inf: total}))
        subject.pod("b", Counters(now, total, 0, {0.25: total, 2.5: total, math.inf: total}))
        subject.probe(now, Probed(0.01))
    assert subject.times.of(29) == {(0.0, 0.1): 250, (0.0, 0.25): 250}
    assert judge.breach(subject, 29) is None
