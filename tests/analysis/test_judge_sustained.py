"""Measures that want a whole window of bad values, and the comparison with the stable version."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.analysis import judge
from handover.analysis.latency import histogram
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, PodLimits, Probed
from handover.models import names
from tests.analysis.made import ONE, SUSTAINED, counters, result, seen, series, sustained

BASE = {names.CONNECTIONS: 30, names.POD_CONNECTIONS: 30, names.DISK_IO: 1e6, names.NETWORK_IO: 1e8}
RULES = [  # measurement, a value that is fine, one that is not
    (names.CPU, 0.69, 0.71), (names.MEMORY, 0.74, 0.76), (names.REPLICATION_LAG, 1.9, 2.1), (names.NEW_ERRORS, 0, 1),
    (names.CONNECTIONS, 50, 51), (names.POD_CONNECTIONS, 50, 51), (names.DISK_IO, 9e6, 1.1e7),
    (names.NETWORK_IO, 4e8, 6e8),
]  # fmt: skip


@pytest.mark.plan(
    "Check: CPU/Memory usage normal",
    "Database connections: Stable",
    "CPU usage: <70%",
    "Memory usage: <75%",
    "Disk I/O: Normal",
    "Network throughput: Normal",
)
@pytest.mark.parametrize(("what", "fine", "bad"), RULES)
def test_slow_rules_want_a_whole_window(what, fine, bad):
    def found(values: list[float], over: float = SUSTAINED * 0.9):
        subject = seen(baseline=dict(BASE))
        now = series(subject, what, values, over)
        return sustained(subject, now)

    assert found([bad] * 10).rule == what
    assert found([fine] * 10) is None
    assert found([bad] * 9 + [fine]) is None
    assert found([fine] + [bad] * 9) is None
    assert found([fine] + [bad] * 9, over=SUSTAINED * 1.2).rule == what
    assert found([bad] * 10, over=SUSTAINED * 0.8) is None, "too short"
    assert found([bad, bad]) is None, "too few"
    assert found([bad]) is None


def test_without_a_baseline_nothing_is_compared():
    for what in (names.CONNECTIONS, names.DISK_IO):
        subject = seen()
        now = series(subject, what, [1e12] * 10, SUSTAINED * 0.9)
        assert sustained(subject, now) is None


def looked_up(
    hits: float, misses: float, seconds: int, begin: int = 0, subject: Observations | None = None
) -> Observations:
    """So many a second."""
    subject = subject or seen()
    had = subject._pods["a"] if begin else Counters(0, 0, hits=0, misses=0)
    subject.pod("a", had)
    for second in range(1, seconds + 1):
        more = {"hits": (had.hits or 0) + hits * second, "misses": (had.misses or 0) + misses * second}
        subject.pod("a", Counters(begin + second, 0, **more))
        subject.resources(begin + second, ONE)
    return subject


@pytest.mark.plan("Cache hit rate: >80%")
@pytest.mark.parametrize(("hits", "misses", "seconds", "breached"), [
    (10, 0, 70, False), (7.5, 2.5, 70, False), (4, 6, 80, True), (4, 6, 60, False), (0, 0, 70, False),
    (8.2, 1.8, 70, False), (0.1, 0.1, 600, False), (0.1, 0.1, 1600, True),
])  # fmt: skip
def test_cache(hits, misses, seconds, breached):
    found = sustained(looked_up(hits, misses, seconds), seconds)
    assert (found and found.rule) == (names.CACHE_HIT_RATE if breached else None)


def test_an_empty_cache_of_a_new_version_is_no_breach_when_it_fills():
    subject = looked_up(10, 90, 20)
    assert sustained(looked_up(90, 10, 60, 20, subject), 80) is None


@pytest.mark.plan("CPU usage: <70%", "Memory usage: <75%")
def test_what_pods_use_is_measured_against_their_limits():
    subject = seen()
    for now in (10.0, 12.0):
        for pod, cpu in (("a", 0.1), ("b", 0.8)):
            subject.pod(
                pod, counters(now, 0, cpu_seconds=cpu * now, memory_bytes=60, disk_bytes=10 * now, connections=4)
            )
        subject.resources(now, PodLimits(cores=2, memory_bytes=80))
    values = {what: m.value for what, m in subject.last.items()}
    assert values == {
        names.CPU: pytest.approx(0.4), names.MEMORY: 0.75, names.DISK_IO: pytest.approx(20),
        "pod_database_connections": 8,
    }  # fmt: skip


# --- beside the stable version

BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, math.inf)
STABLE = {0.05: 700.0, 0.1: 900.0, 0.2: 990.0, 0.5: 1000.0, 1.0: 1000.0, math.inf: 1000.0}
"""p50 in the first bucket, p95 in the third."""


def answered(subject: Observations, each_second: dict[float, float], seconds: float, begin: float = 0.0) -> float:
    """So many answers a second within each bound (not cumulative)."""
    total = dict(subject._pods["a"].buckets) if begin else dict.fromkeys(BOUNDS, 0.0)
    now = begin
    if not begin:
        subject.pod("a", Counters(0, 0, 0, dict(total)))
    while now < begin + seconds:
        now += 1
        for bound in BOUNDS:
            total[bound] += sum(count for high, count in each_second.items() if high <= bound)
        subject.pod("a", Counters(now, total[math.inf], 0, dict(total)))
        subject.resources(now, ONE)
    return now


def compared(each_second: dict[float, float], seconds: float = SUSTAINED) -> str | None:
    """Which percentile is worse than the stable version's, if one is; far below the limits that are absolute."""
    subject = seen(stable=histogram(STABLE))
    found = sustained(subject, answered(subject, each_second, seconds))
    return found.rule if found else None


@pytest.mark.plan("Performance degradation >50%")
@pytest.mark.parametrize(("each_second", "rule"), [
    ({0.05: 70, 0.1: 20, 0.2: 9, 0.5: 1}, None),  # as it was
    ({0.1: 90, 0.2: 9, 0.5: 1}, None),  # slower, though nobody can tell whether by half
    ({0.2: 100}, "p50_seconds"),  # 0.1 s and more where it was 0.05 s: more than 50 ms slower for sure
    ({0.05: 85, 0.5: 15}, None),  # 0.2 s and more where 5 % were above 0.1 s, and might have had 0.3 s
    ({0.05: 85, 1.0: 15}, "p95_seconds"),
    ({0.05: 96, 1.0: 4}, None),  # not one of twenty
])  # fmt: skip
def test_what_is_slower_for_sure_than_the_stable_version_by_more_than_the_plan_allows(each_second, rule):
    assert compared(each_second) == rule


@pytest.mark.plan("Performance degradation >50%")
def test_a_degradation_has_to_last():
    bad, good = {0.2: 100.0}, {0.05: 100.0}
    assert compared(bad, SUSTAINED * 0.8) is None
    subject = seen(stable=histogram(STABLE))
    now = answered(subject, bad, 25)
    now = answered(subject, good, 10, now)
    now = answered(subject, bad, 40, now)
    assert sustained(subject, now) is None
    assert sustained(subject, answered(subject, bad, 30, now)).rule == names.P50


@pytest.mark.parametrize(("each_second", "seconds", "rule"), [
    ({0.2: 1.0}, 40, None), ({0.2: 1.0}, 150, "p50_seconds"), ({0.05: 1.0}, 300, None),
])  # fmt: skip
def test_few_answers_are_compared_over_a_longer_window(each_second, seconds, rule):
    assert compared(each_second, seconds) == rule


@pytest.mark.parametrize(("within", "verdict"), [(0.05, "pass"), (0.2, "unknown")])
def test_too_few_to_be_sure_are_a_doubt_where_they_are_slower(within, verdict):
    subject = seen(stable=histogram(STABLE))
    now = answered(subject, {within: 1.0}, 30)
    for _ in range(20):
        subject.probe(now, Probed(0.01))
    assert judge.conclude(subject, now)[0] == verdict


def test_answers_that_do_not_come_any_more_do_not_last():
    subject = seen(stable=histogram(STABLE))
    now = answered(subject, {0.2: 1000.0}, 5)
    assert sustained(subject, answered(subject, {}, 60, now)) is None


def test_where_only_the_number_is_known_it_is_compared_with():
    for normal, rule in ((0.04, names.P50), (0.06, None)):
        subject = seen(baseline={names.P50: normal})
        found = sustained(subject, answered(subject, {0.2: 100.0}, SUSTAINED))
        assert (found.rule if found else None) == rule


def test_without_the_stable_version_there_is_nothing_to_compare_with():
    subject = seen()
    now = answered(subject, {0.2: 100.0}, SUSTAINED * 0.9)
    assert sustained(subject, now) is None
    assert result(subject, now, names.P95).verdict == "no data"
    assert result(subject, now, names.P50).verdict == "pass", "its limit in seconds is judged"


@pytest.mark.plan("Alert if degradation >10%")
def test_ten_percent_worse_is_worth_a_note_and_no_more():
    subject = seen(baseline={names.P95: 0.4})
    now = answered(subject, {0.05: 80.0, 1.0: 20.0}, SUSTAINED)  # surely above 0.5 s, not above 0.6 s
    assert sustained(subject, now) is None
    (note,) = judge.notes(subject, now)
    assert note.startswith("p95_seconds is more than 10% above the old version's 0.4 s: 0.")


@given(st.lists(st.integers(0, 40), min_size=6, max_size=6))
def test_the_same_answers_are_never_slower_than_themselves(counts):
    each_second = dict(zip(BOUNDS, map(float, counts), strict=True))
    subject = seen(stable=histogram({bound: sum(counts[: i + 1]) * 50.0 for i, bound in enumerate(BOUNDS)}))
    now = answered(subject, each_second, SUSTAINED * 0.6)
    assert not any(comparison.over(now) for _, comparison in subject.comparisons)
