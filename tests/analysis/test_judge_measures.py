"""Measures as the plan lists them: phases, severities, silence, sources of any name; and the result of every one."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.analysis import judge
from handover.analysis.judge import Finding
from handover.analysis.metrics import Counters
from handover.analysis.observations import Observations, Probed
from handover.models import names
from handover.models.evidence import Measurement, Verdict
from handover.models.incident import Severity
from handover.models.measures import MeasureVerdict, Phase
from tests.analysis.made import ONE, PLAN, WATCH, counters, healthy, plan_with, probes, result, seen

QUEUE = {"name": "queue_depth", "source": "prometheus", "limit": {"above": 100}, "window": "fast"}


def told(subject: Observations, now: float, *values: float | None, unit: str = "", what: str = "queue_depth") -> None:
    """One look of another source; several values are several series."""
    found = [Measurement(what=what, value=value, unit=unit, source="prometheus: up") for value in values]
    subject.measured(now, "prometheus", found)


def good(subject: Observations, now: float) -> None:
    """Everybody but the other source is fine."""
    subject.ready(now, ["a"])
    subject.pod("a", counters(now, now * 50))
    subject.probe(now, Probed(0.01))


# --- every measure has a result


def test_every_measure_has_a_result_of_its_own():
    subject = seen()
    now = healthy(subject, 60)
    found = judge.results(subject, now)
    assert [(one.source, one.measure) for one in found] == [one.measure.key for one in subject.watched]
    assert Counter(one.verdict for one in found) == {MeasureVerdict.PASS: 9, MeasureVerdict.NO_DATA: 8}
    lacking = {(one.source, one.measure): one.reason for one in found if one.verdict is MeasureVerdict.NO_DATA}
    assert lacking["pods", "restarts"] == "no value"
    assert lacking["database", names.REPLICATION_LAG] == "nobody asks for it"
    assert lacking["pods", names.P95] == "nothing to compare with, or too few answers"
    shown = result(subject, now, names.CPU)
    assert (shown.value, shown.limit, shown.unit) == (pytest.approx(0.1), 0.7, "")
    assert result(subject, now, names.ERROR_RATE).value == 0
    assert shown.measurement.source == "pods: pass"


def test_all_that_is_broken_is_told_and_the_first_decides():
    subject = seen()
    now = probes(subject, [False] * 40, seconds=2.0)
    broken = [one for one in judge.results(subject, now) if one.verdict is MeasureVerdict.BREACH]
    assert [(one.source, one.measure) for one in broken] == [
        ("probe", names.ERROR_RATE), ("probe", names.P99), ("probe", names.P50),
    ]  # fmt: skip
    assert judge.breach(subject, now).rule == names.ERROR_RATE


def test_a_finding_carries_measure_source_and_severity_as_values():
    subject = seen()
    found = judge.fast_breach(subject, probes(subject, [True] * 40, seconds=0.3))
    assert (found.rule, found.measure, found.source, found.severity) == ("p50_seconds", "p50_seconds", "probe", "high")
    subject = seen()
    healthy(subject, 60)
    found = judge.breach(subject, 200)
    assert (found.rule, found.measure, found.source) == ("no_data", "error_rate", "pods")
    assert found.severity is Severity.CRITICAL


@pytest.mark.parametrize(
    ("what", "severity"), [(names.CPU, "high"), (names.CACHE_HIT_RATE, "low"), (names.P99, "critical")]
)
def test_a_rule_that_is_broken_at_the_end_is_not_lost_on_the_way(what, severity):
    """Input 21: a finding of the conclusion is that measure's, with its severity, and never becomes `no_data`."""
    subject, now = seen(), 0.0
    while now < 100:
        now += 0.5
        total = now * 100
        subject.ready(now, ["a"])
        many = {"misses": total, "hits": 0} if what == names.CACHE_HIT_RATE else {}
        slow = total / 20 if what == names.P99 else 0
        subject.pod("a", counters(now, total, slow=slow, cpu_seconds=now * (0.9 if what == names.CPU else 0.1), **many))
        subject.probe(now, Probed(0.01))
        subject.resources(now, ONE)
    verdict, found = judge.conclude(subject, now)
    assert (verdict, found.rule, found.severity) == (Verdict.FAIL, what, severity)


# --- phases


def test_a_measure_counts_in_its_phases():
    entry = {"name": "error_rate", "source": "probe", "phases": ["stabilization", "monitoring"]}
    subject = seen(plan_with(entry), phase=Phase.TESTING)
    now = probes(subject, [False] * 10)
    assert judge.breach(subject, now) is None
    shown = result(subject, now, names.ERROR_RATE, "probe")
    assert (shown.verdict, shown.value) == ("not in this phase", 1.0)
    assert shown.reason == "counts in stabilization, monitoring"
    subject.phase = Phase.MONITORING
    assert judge.breach(subject, now).rule == names.ERROR_RATE
    subject.phase = None
    assert judge.breach(subject, now).rule == names.ERROR_RATE, "nobody says where the deployment is"


def test_a_measure_of_no_phase_never_counts_and_its_silence_neither():
    out = [{"name": name, "source": "database", "phases": []} for name in (names.REPLICATION_LAG, names.CONNECTIONS)]
    subject = seen(plan_with(*out), sources=("database",))
    for second in range(1, 100):
        good(subject, second)
    assert judge.breach(subject, 99) is None
    assert result(subject, 99, names.REPLICATION_LAG, "database").reason == "counts in no phase"


# --- other sources


def test_a_source_of_any_name_is_judged_by_what_it_gives():
    subject, found = seen(plan_with(QUEUE)), []
    for second, value in enumerate([10, 101, 102, 50, 101, 102, 103], start=1):
        good(subject, second)
        told(subject, second, value)
        found.append(judge.breach(subject, second))
    assert found[:-1] == [None] * 6, "three in a row"
    assert found[-1] == Finding("queue_depth", "prometheus: up: queue_depth 103 above 100")
    assert (found[-1].source, found[-1].severity) == ("prometheus", "critical")


def test_a_sustained_measure_of_another_source():
    subject = seen(plan_with(QUEUE | {"window": "sustained", "limit": {"below": 5}, "severity": "low", "unit": "ms"}))
    for second in range(1, 80):
        good(subject, second)
        told(subject, second, 0.002, unit="s")
        found = judge.breach(subject, second)
        if found:
            break
    assert second == 55
    assert found.reason == "prometheus: up: queue_depth 2 ms below 5 for 54 s"
    assert found.severity is Severity.LOW


BUSY = {"name": "busy", "source": "prometheus", "limit": {"above": 10}, "samples": 3}


def points(subject: Observations, now: float, value: float, at: float) -> None:
    """A look that finds the point of so many seconds after the watch began."""
    point = Measurement(what="busy", value=value, source="prometheus", at=subject.began + at)
    subject.measured(now, "prometheus", [point])


@pytest.mark.parametrize(("window", "seconds"), [("fast", 120), ("sustained", 120)])
def test_a_point_counts_once_however_often_it_is_seen(window, seconds):
    """Of a monitor that has one for each minute."""
    subject = seen(plan_with(BUSY | {"window": window}))
    for now in range(0, 600, 2):
        good(subject, now)
        points(subject, now, 50, now // 60 * 60)
        if found := judge.breach(subject, now):
            break
    assert (found and found.rule, now) == ("busy", seconds)


@pytest.mark.parametrize("value", [50, 0], ids=["bad", "good"])
@pytest.mark.parametrize("window", ["fast", "sustained"])
def test_what_was_before_the_watch_is_neither_a_breach_nor_a_pass(window, value):
    subject = seen(plan_with(BUSY | {"window": window}))
    for now in range(0, 300, 2):
        good(subject, now)
        points(subject, now, value, -200)
        assert judge.breach(subject, now) is None
    found = result(subject, now, "busy", "prometheus")
    assert (found.verdict, found.value) == (MeasureVerdict.NO_DATA, None)
    assert found.reason == "its newest value is 200 s older than the watch"
    points(subject, now, 0, 0)
    assert result(subject, now, "busy", "prometheus").verdict == MeasureVerdict.PASS
    points(subject, now, 50, -60)  # of another replica of the monitor
    found = result(subject, now, "busy", "prometheus")
    assert (found.verdict, found.value) == (MeasureVerdict.PASS, 0)


def test_growth_over_what_was_normal():
    entry = QUEUE | {"limit": {"growth": 1.0, "at_least": 10}, "samples": 1}
    for normal, value, broken in ((50, 100, False), (50, 101, True), (2, 12, False), (2, 13, True)):
        subject = seen(plan_with(entry), baseline={"queue_depth": normal})
        told(subject, 1, value)
        found = judge.breach(subject, 1)
        assert (found is not None) == broken
        assert not found or found.reason.endswith(f"(was {normal})")
    subject = seen(plan_with(entry))
    told(subject, 1, 1e9)
    assert judge.breach(subject, 1) is None
    assert result(subject, 1, "queue_depth", "prometheus").reason == "nothing to compare with"


NO_VALUES = [
    ((None,), "", "no value"), ((), "", "no value"), ((1, 2), "", "queue_depth: two values"),
    ((math.nan,), "", "queue_depth: nan is no value"), ((math.inf,), "s", "queue_depth: inf is no value"),
    ((1,), "B", "queue_depth: it is in 'B', the plan has it in 's'"),
    ((1,), "parsec", "queue_depth: it is in 'parsec', the plan has it in 's'"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "unit", "why"), NO_VALUES, ids=[why for _, _, why in NO_VALUES])
def test_what_is_no_value_is_no_data_with_the_reason(values, unit, why):
    subject = seen(plan_with(QUEUE | {"unit": "s"}))
    longest = int(WATCH.no_data_seconds)
    for second in range(1, longest + 2):
        good(subject, second)
        told(subject, second, *values, unit=unit)
        assert (judge.breach(subject, second) is None) == (second <= longest)
    found = judge.breach(subject, second)
    assert found == Finding("no_data", f"prometheus gave no data for 31.0 s ({why})")
    assert (found.measure, found.source) == ("queue_depth", "prometheus")


def test_another_source_that_nobody_asks_is_no_pass():
    subject = seen(plan_with(QUEUE))
    now = healthy(subject, 20)
    verdict, found = judge.conclude(subject, now)
    assert (verdict, found.reason) == (Verdict.UNKNOWN, "prometheus: queue_depth: no value")


@pytest.mark.parametrize(("silence", "breached", "told_of"), [("breach", 1, 0), ("incident", 0, 1), ("ignore", 0, 0)])
def test_silence_means_what_the_plan_says(silence, breached, told_of):
    subject = seen(plan_with(QUEUE | {"silence": silence}))
    for second in range(1, 100):
        good(subject, second)
    assert (judge.breach(subject, 99) is not None) == breached
    assert len(judge.incidents(subject, 99)) == told_of
    assert judge.conclude(subject, 99)[0] is (Verdict.FAIL if breached else Verdict.PASS)


def test_a_measure_that_may_be_silent_does_not_silence_the_others_of_its_source():
    other = QUEUE | {"name": "workers", "silence": "ignore"}
    subject = seen(plan_with(QUEUE, other))
    for second in range(1, 100):
        good(subject, second)
        subject.measured(second, "prometheus", [
            Measurement(what="queue_depth", value=1, source="p"), Measurement(what="workers", value=None, source="p"),
        ])  # fmt: skip
    assert judge.conclude(subject, 99) == (Verdict.PASS, None)
    assert result(subject, 99, "workers", "prometheus").verdict == "no data"


def test_sources_may_use_the_same_name_for_different_things():
    subject = seen(plan_with(QUEUE | {"name": "cpu", "samples": 1}))
    told(subject, 1, 5000, what="cpu")
    assert judge.breach(subject, 1).source == "prometheus"
    assert result(subject, 1, "cpu", "pods").verdict == "no data"
    assert "cpu" not in subject.last


# --- what pods cannot tell


def test_what_pods_cannot_tell_is_no_data_and_neither_zero_nor_fine():
    subject, why = seen(), "http_requests_total has no label that tells the status"
    longest = int(WATCH.no_data_seconds)
    for second in range(1, longest + 2):
        subject.ready(second, ["a", "b"])
        subject.probe(second, Probed(0.01))
        subject.pod("a", counters(second, second * 50, lacking={names.ERROR_RATE: why}))
        subject.pod("b", counters(second, second * 50))
        assert (judge.breach(subject, second) is None) == (second <= longest)
        if second == 20:
            assert judge.conclude(subject, second)[0] is Verdict.UNKNOWN
    found = judge.breach(subject, second)
    assert found == Finding("no_data", f"pods gave no error_rate for 31.0 s (a: {why})")
    assert result(subject, second, names.ERROR_RATE).verdict == "no data"
    assert result(subject, second, names.P99).verdict == "pass"


@pytest.mark.parametrize("entry", [{"silence": "ignore"}, {"phases": []}])
def test_the_plan_may_do_without_what_pods_cannot_tell(entry):
    subject = seen(plan_with({"name": "error_rate", "source": "pods"} | entry))
    for second in range(1, 100):
        subject.ready(second, ["a"])
        subject.probe(second, Probed(0.01))
        subject.pod("a", counters(second, second * 50, lacking={names.ERROR_RATE: "no status"}))
    assert judge.conclude(subject, 99) == (Verdict.PASS, None)


@pytest.mark.parametrize("buckets", [{}, {math.inf: 1.0}])
def test_response_times_that_nobody_can_tell_are_no_pass(buckets):
    """Input 4: a summary, or a histogram of one bucket: 9 s as well as 9 ms."""
    subject = seen()
    for second in range(1, 100):
        subject.ready(second, ["a"])
        subject.probe(second, Probed(0.01))
        total = second * 50.0
        subject.pod("a", Counters(second, total, 0, {bound: share * total for bound, share in buckets.items()}))
        assert judge.breach(subject, second) is None
    verdict, found = judge.conclude(subject, 99)
    assert (verdict, found.rule, found.measure) == (Verdict.UNKNOWN, "no_data", names.P99)


@given(st.lists(st.tuples(st.integers(-5, 50), st.integers(-5, 50)), max_size=20))
def test_counters_that_cannot_be_are_never_an_error_nor_a_pass(looks):
    subject = seen()
    for second, (requests, errors) in enumerate(looks, start=1):
        subject.pod("a", Counters(second, requests, errors))
        assert 0 <= subject.served.bad <= subject.served.total
    assert judge.conclude(subject, len(looks))[0] is not Verdict.PASS


def test_severities_of_an_entry_win_over_those_of_the_incidents():
    subject = seen(plan_with({"name": "error_rate", "source": "probe", "severity": "low"}))
    assert judge.breach(subject, probes(subject, [False] * 10)).severity is Severity.LOW
    assert PLAN.incidents.severity_of("error_rate") is Severity.CRITICAL


# --- what is not guests'


@pytest.mark.parametrize("requests", [0.5, 12])
def test_our_probes_and_the_kubelets_do_not_thin_out_the_errors_of_guests(requests):
    """Input 8: all guests' requests fail, so many a minute; the same counter counts ours and the kubelet's."""
    subject, found, guests, now = seen(), None, 0.0, 0.0
    while found is None and now < 1000:
        now = round(now + 0.1, 1)
        subject.ready(now, ["a"])
        subject.probe(now, Probed(0.01))
        guests = now * requests // 60
        others = now // 0.1 + now // 5
        subject.pod("a", Counters(now, others + guests, guests, mixed="no label tells who asked"), others=1 / 5)
        found = judge.breach(subject, now)
    assert (found.rule, found.source) == (names.ERROR_RATE, "pods")
    assert guests == 3


def test_good_requests_of_ours_are_no_obstacle_to_a_pass_and_bad_ones_are_errors():
    for bad in (False, True):
        subject = seen(plan_with(*({"name": name, "source": "pods", "phases": []} for name in (names.P50, names.P99))))
        for second in range(1, 61):
            subject.ready(second, ["a"])
            subject.probe(second, Probed(0.01))
            subject.pod("a", Counters(second, second, second * bad, mixed="no label tells who asked"), others=0.0)
        assert judge.conclude(subject, 60)[0] is (Verdict.FAIL if bad else Verdict.PASS)


def test_a_counter_that_leaves_health_checks_out_is_found_out():
    """Clients come more seldom than probes: if these were taken off, only errors would be left."""
    subject = seen()
    for second in range(1, 3001):
        for tenth in range(10):
            subject.probe(second + tenth / 10, Probed(0.01))
        subject.pod("a", Counters(second, second, second // 1000, mixed="no label tells who asked"), others=0.2)
        assert judge.breach(subject, second) is None, second
    assert (subject.served.bad, subject.served.total) == (3, 2999)
