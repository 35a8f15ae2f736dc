"""Verdicts from samples: the fast measures, silence and the end, and what must hold for any samples at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handover.analysis import judge
from handover.analysis.judge import Finding
from handover.analysis.metrics import Counters
from handover.analysis.observations import PODS, PROBE, Probed
from handover.analysis.window import Share
from handover.models import names
from handover.models.evidence import Measurement, Verdict
from tests.analysis.made import WATCH, counters, healthy, probes, seen

# --- errors


@pytest.mark.parametrize(("bad", "good", "breached"), [
    (0, 50, False), (1, 0, False), (1, 49, False), (2, 0, False), (2, 48, False), (3, 0, True), (3, 47, True),
    (50, 0, True),
])  # fmt: skip
def test_errors_of_probes(bad, good, breached):
    subject = seen()
    now = probes(subject, [True] * good + [False] * bad)
    found = judge.fast_breach(subject, now)
    assert (found is not None) == breached
    if found:
        assert (found.rule, found.reason.startswith("probe: ")) == (names.ERROR_RATE, True)
        assert "status 500" in found.reason


@pytest.mark.plan("Error rate: <0.1%", "Error rates normal", "Error rate <0.1%")
@pytest.mark.parametrize(("errors", "total", "breached"), [
    (0, 1000, False), (1, 10, False), (2, 2, False), (3, 3, True), (3, 1000, False), (3, 300, False), (6, 300, True),
    (20, 1000, True), (5, 5000, False), (1000, 1000, True),
])  # fmt: skip
def test_errors_of_pods(errors, total, breached):
    subject = seen()
    subject.pod("a", counters(1, 0))
    subject.pod("a", counters(2, total, errors))
    found = judge.fast_breach(subject, 2)
    assert (found is not None) == breached
    if found:
        assert found.reason.startswith("pods: ")


def test_a_bad_pod_is_a_breach_though_every_probe_reaches_the_good_one():
    subject = seen()
    probes(subject, [True] * 50)
    for at in (1, 2):
        subject.pod("good", counters(at, at * 100))
        subject.pod("bad", counters(at, at * 10, errors=at * 10))
    found = judge.fast_breach(subject, 5)
    assert found
    assert found.rule == names.ERROR_RATE
    assert found.reason.startswith("pods: 10 of 110")


def test_what_happened_before_the_watch_does_not_count():
    subject = seen()
    subject.pod("a", counters(1, 1000, errors=500))
    assert subject.served == Share(0, 0)
    subject.pod("a", counters(2, 2000, errors=500))
    assert judge.fast_breach(subject, 2) is None


def test_few_bad_answers_count_less_the_more_good_ones_have_come_since():
    subject, total, errors = seen(), 0.0, 0.0
    for now in range(1, 3000):
        total += 100
        errors += now % 300 == 0  # one of 30,000
        subject.pod("a", counters(now, total, errors=errors))
        assert judge.fast_breach(subject, now) is None


@pytest.mark.parametrize("minutes", [1, 5])
def test_one_request_in_minutes_is_judged_by_what_it_proves(minutes):
    """Beside probes that are all good, as the health check answers whatever the service is like."""
    subject, found = seen(), []
    for now in range(0, 3600, 60 * minutes):
        subject.probe(now, Probed(0.01))
        asked = now // 60 // minutes
        subject.pod("a", counters(now, asked, errors=max(0, asked - 5)))
        found.append(judge.fast_breach(subject, now) is not None)
    assert found.index(True) == 8, "the third bad answer"


def test_a_restarted_pod_counts_from_zero():
    subject = seen()
    subject.pod("a", counters(1, 1000, errors=0))
    subject.pod("a", counters(2, 8, errors=8))
    assert subject.served == Share(8, 8)


def test_a_pod_that_is_gone_and_comes_back_is_a_new_one():
    subject = seen()
    subject.pod("a", counters(1, 1000, errors=10))
    subject.ready(2, ["b"])
    subject.ready(3, ["a", "b"])
    subject.pod("a", counters(3, 2000, errors=900))
    assert subject.served == Share(0, 0)


# --- latency


@pytest.mark.plan("Response time p99: <1000ms", "Performance within SLA")
@pytest.mark.parametrize(("slow", "total", "breached"), [
    (0, 100, False), (2, 100, False), (3, 100, False), (10, 100, True), (2, 2, False), (3, 3, True), (20, 20, True),
])  # fmt: skip
def test_p99_of_pods(slow, total, breached):
    subject = seen()
    subject.pod("a", counters(1, 0))
    subject.pod("a", counters(2, total, slow=slow))
    found = judge.fast_breach(subject, 2)
    assert ((found is not None) and found.rule == names.P99) == breached


@pytest.mark.plan("Response time p50: <200ms", "Performance within SLA")
def test_p50_of_pods_and_probes():
    subject = seen()
    between = {0.1: 0.0, 0.2: 0.0, 0.5: 60.0, 1.0: 60.0, float("inf"): 60.0}
    subject.pod("a", Counters(1, 0, 0, dict.fromkeys(between, 0.0)))
    subject.pod("a", Counters(2, 60, 0, between))
    assert judge.fast_breach(subject, 2).rule == names.P50
    subject = seen()
    now = probes(subject, [True] * 40, seconds=0.3)
    assert judge.fast_breach(subject, now).reason.startswith("probe: 40 of 40")
    subject = seen()
    now = probes(subject, [True] * 10, seconds=0.3)
    assert judge.fast_breach(subject, now) is None, "too few to tell"


def test_probes_that_wait_too_long_are_slow_before_they_answer():
    subject = seen()
    subject.waiting = {1: 0.0, 2: 0.1, 3: 0.2}
    assert judge.fast_breach(subject, 1.15) is None
    assert judge.fast_breach(subject, 1.25).rule == names.P99


# --- silence


@pytest.mark.parametrize("source", [PODS, PROBE, "database"])
def test_a_silent_source_is_a_breach(source):
    subject = seen(sources=("database",))
    healthy(subject, 100)
    subject.heard[source] -= WATCH.no_data_seconds
    subject.silence[source] = "connection refused"
    assert judge.breach(subject, 100) is None
    assert judge.breach(subject, 100.1).rule == "no_data"
    assert f"{source} gave no data for" in judge.breach(subject, 100.1).reason
    assert "(connection refused)" in judge.breach(subject, 100.1).reason


def test_the_pods_are_as_silent_as_the_most_silent_of_them():
    subject = seen()
    for now in range(0, 40, 2):
        subject.ready(now, ["a", "b"])
        subject.pod("a", counters(now, now))
        subject.probe(now, Probed(0.01))
    assert judge.breach(subject, 38).reason.startswith("pods gave no data")
    subject.ready(38, ["a"])
    subject.pod("a", counters(38, 38))
    assert judge.breach(subject, 38) is None


def test_no_pods_at_all_are_silence():
    subject = seen()
    for now in range(40):
        subject.ready(now, [])
        subject.probe(now, Probed(0.01))
    assert judge.breach(subject, 39).reason.startswith("pods gave no data")


def test_a_source_without_a_value_is_silent():
    subject = seen(sources=("database",))
    subject.measured(5, "database", [Measurement(what="lag", value=None, source="database")])
    subject.measured(6, "database", [])
    assert subject.heard["database"] == 0


# --- the end


def test_a_good_release_passes():
    subject = seen(sources=("database", "error_tracker"))
    now = healthy(subject, 300)
    assert judge.conclude(subject, now) == (Verdict.PASS, None)
    assert "0 bad" in judge.told(subject, now)


def test_too_few_requests_are_no_data():
    subject = seen()
    for now in range(10):
        subject.ready(now, ["a"])
        subject.pod("a", counters(now, now))
        subject.probe(now, Probed(0.01))
    few = Finding(judge.NO_DATA, "pods: only 9 answers seen, 20 are needed")
    assert judge.conclude(subject, 9) == (Verdict.UNKNOWN, few)


def test_a_doubtful_error_rate_is_not_a_pass():
    def concluded(bad: int):
        """One answer of a pod a second for ten minutes."""
        subject = seen()
        for now in range(1, 601):
            subject.ready(now, ["a"])
            subject.probe(now, Probed(0.01))
            subject.pod("a", counters(now, now, errors=now * bad // 600))
        return judge.conclude(subject, 600)

    verdict, doubt = concluded(3)
    assert (verdict, doubt.rule) == (Verdict.UNKNOWN, names.ERROR_RATE)
    assert doubt.reason == "pods: 3 of 599 were bad (limit 0.10%)"
    assert concluded(2)[0] is Verdict.PASS, "two bad answers are no breach"


def test_a_source_that_never_spoke_is_no_pass_however_short_the_watch_was():
    subject = seen(sources=("database",))
    healthy(subject, 15)
    subject.heard["database"] = 0.0
    assert judge.conclude(subject, 15) == (Verdict.UNKNOWN, Finding(judge.NO_DATA, "database never gave data"))


# --- for any samples at all

OUTCOMES = st.lists(st.booleans(), max_size=120)


@given(OUTCOMES, st.floats(0, 0.1))
def test_less_than_min_bad_samples_never_break_the_error_rate(outcomes, seconds):
    subject = seen()
    allowed = WATCH.min_bad_samples - 1
    for_sure = [good or (allowed := allowed - 1) < 0 for good in outcomes]
    now = probes(subject, for_sure, seconds=seconds)
    assert judge.fast_breach(subject, now) is None


@given(st.integers(3, 200))
def test_nothing_but_bad_answers_always_break_it(number):
    subject = seen()
    now = probes(subject, [False] * number)
    assert judge.fast_breach(subject, now).rule == names.ERROR_RATE
    assert judge.conclude(subject, now)[0] is Verdict.FAIL


@given(OUTCOMES)
def test_probes_alone_never_pass(outcomes):
    subject = seen()
    now = probes(subject, outcomes)
    assert judge.conclude(subject, now)[0] is not Verdict.PASS


@given(st.lists(st.tuples(st.floats(0.1, 5), st.integers(0, 100), st.integers(0, 100)), max_size=40))
def test_pods_alone_never_pass_and_totals_never_shrink(looks):
    subject, now, before = seen(), 0.0, 0.0
    for seconds, requests, errors in looks:
        now += seconds
        subject.ready(now, ["a"])
        subject.pod("a", counters(now, requests, min(errors, requests)))
        assert subject.served.total >= before
        assert 0 <= subject.served.bad <= subject.served.total
        before = subject.served.total
    assert judge.conclude(subject, now)[0] is not Verdict.PASS


@given(st.sets(st.sampled_from([PODS, PROBE, "database", "error_tracker"]), min_size=1))
@settings(max_examples=20)
def test_no_data_never_passes(silent):
    subject = seen(sources=("database", "error_tracker"))
    now = healthy(subject, 120)
    for source in silent:
        subject.heard[source] = now - WATCH.no_data_seconds - 0.1
    assert judge.conclude(subject, now)[0] is Verdict.FAIL


@given(st.integers(0, 1000), st.integers(1, 1000), st.floats(1, 6))
def test_the_upper_bound_is_above_the_rate_and_grows_with_certainty(bad, good, z):
    share = Share(bad, bad + good)
    bound = share.at_most(z)
    assert share.rate - 1e-12 <= bound <= 1
    assert Share(bad * 10, (bad + good) * 10).at_most(z) <= bound + 1e-12
    assert share.at_most(z + 1) >= bound - 1e-12


def test_a_pass_says_what_few_answers_prove():
    subject = seen()
    for now in range(1, 60):
        subject.ready(now, ["a"])
        subject.probe(now, Probed(0.01))
        subject.pod("a", counters(now, now))
    assert judge.conclude(subject, 59)[0] is Verdict.PASS
    assert "error_rate of pods: few answers, which prove no more than that it is below 0.11" in judge.told(subject, 59)
