"""Verdicts from measurements: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.checks import verdicts
from handover.checks.client import Load
from handover.models.evidence import Measurement, Verdict
from handover.models.names import NEW_ERRORS, P50, P95, P99, THROUGHPUT
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE

LIMITS = load_plan(INCLUDE / "plans" / "pms.yaml").thresholds
BASE = {P50: 0.1, P95: 0.2, P99: 0.4, THROUGHPUT: 40.0}


def now(**changed: float | None) -> list[Measurement]:
    return [Measurement(what=name, value=value, source="test") for name, value in (BASE | changed).items()]


def compare(baseline=BASE, **changed):
    return verdicts.compare("performance", baseline, now(**changed), LIMITS, 4)


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([3.0, 1.0, 2.0], 0.5, 2.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(1, 101)], 0.95, 95.0),
        ([float(n) for n in range(1, 11)], 0.99, 10.0),
        ([1.0, 2.0], 0.0, 1.0),
        ([1.0, 2.0], 1.0, 2.0),
    ],
)
def test_percentiles(seconds, share, expected):
    assert verdicts.percentile(seconds, share) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0, 1))
def test_a_percentile_is_one_of_the_values_and_covers_its_share(seconds, share):
    found = verdicts.percentile(seconds, share)
    assert found in seconds
    assert sum(value <= found for value in seconds) >= share * len(seconds)


def test_as_before_is_a_pass():
    evidence = compare()
    assert evidence.verdict is Verdict.PASS
    assert "as before" in evidence.reason
    assert len(evidence.measurements) == 4


@pytest.mark.plan(
    "Compare with pre-deployment baseline",
    "Alert if degradation >10%",
    "Performance degradation >50%",
    "Performance acceptable",
    "Consistent performance",
)
@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ({P50: 0.14}, Verdict.PASS, "as before"),  # 40 % slower, but by less than the noise
        ({P99: 0.44}, Verdict.PASS, "as before"),
        ({P99: 0.46}, Verdict.PASS, "warning: worse by more than 10%: p99_seconds 400 ms -> 460 ms (+15%)"),
        ({P99: 0.59}, Verdict.PASS, "warning"),
        ({P99: 0.61}, Verdict.FAIL, "worse by more than 50%: p99_seconds 400 ms -> 610 ms (+52%)"),
        ({P50: 0.2}, Verdict.FAIL, "p50_seconds 100 ms -> 200 ms (+100%)"),
        ({P50: 0.01}, Verdict.PASS, "as before"),
        ({THROUGHPUT: 84.0}, Verdict.PASS, "as before the deployment: p50_seconds"),
        ({THROUGHPUT: 84.0}, Verdict.PASS, "requests_per_second 40/s -> 84/s (+110%)"),
        ({THROUGHPUT: 30.0}, Verdict.PASS, "40/s -> 30/s (within the noise)"),  # 0.033 s more per request
        ({THROUGHPUT: 20.0}, Verdict.FAIL, "requests_per_second 40/s -> 20/s (-50%)"),
        ({P50: 0.2, P95: 0.5}, Verdict.FAIL, "p95_seconds"),
    ],
)
def test_comparison(changed, verdict, said):
    evidence = compare(**changed)
    assert evidence.verdict is verdict
    assert said in evidence.reason


@pytest.mark.parametrize("name", list(BASE))
def test_without_a_number_there_is_nothing_to_compare(name):
    for evidence in (
        compare(**{name: None}),
        compare({k: v for k, v in BASE.items() if k != name}),
        compare(BASE | {name: 0.0}),
    ):
        assert evidence.verdict is Verdict.UNKNOWN
        assert name in evidence.reason


@given(st.floats(0.001, 5), st.floats(0.001, 5))
def test_faster_never_fails_and_slower_is_never_better(before, after):
    evidence = compare(dict.fromkeys(BASE, before) | {THROUGHPUT: 40.0}, **{P50: after, P95: before, P99: before})
    if after <= before + LIMITS.noise_floor_seconds:
        assert evidence.passed
    elif after > before * (1 + LIMITS.rollback_degradation) * 1.0001:
        assert evidence.verdict is Verdict.FAIL


def load(seconds, failures=(), elapsed=1.0):
    return Load(tuple(seconds), tuple(failures), elapsed)


@pytest.mark.plan("Response times within SLA")
@pytest.mark.parametrize(
    ("given_load", "verdict", "said"),
    [
        (load([0.1] * 100), Verdict.PASS, "p50_seconds 100 ms, p99_seconds 100 ms"),
        (load([0.1] * 98 + [2.0] * 2), Verdict.FAIL, "p99_seconds 2000 ms is not below 1000 ms"),
        (load([0.1] * 99 + [2.0]), Verdict.PASS, "p99_seconds 100 ms"),
        (load([0.3] * 100), Verdict.FAIL, "p50_seconds 300 ms is not below 200 ms"),
        (load([0.2] * 100), Verdict.FAIL, "p50_seconds"),
        (load([]), Verdict.UNKNOWN, "none of 0 requests"),
        (load([], ["GET /a: 500"] * 3), Verdict.UNKNOWN, "GET /a: 500 (3x)"),
        (load([0.1] * 99, ["GET /a: 500"]), Verdict.FAIL, "1 of 100 requests failed"),
        (load([0.1] * 9999, ["GET /a: 500"]), Verdict.PASS, "p50"),
    ],
)
def test_response_times(given_load, verdict, said):
    evidence = verdicts.response_times("times", given_load, LIMITS, "test")
    assert evidence.verdict is verdict
    assert said in evidence.reason


def test_a_summary_of_nothing_has_no_numbers():
    assert verdicts.values(verdicts.summary(load([]), "test")) == {}


@pytest.mark.plan("API latency percentiles (p50, p95, p99)", "Throughput (requests/second)")
def test_a_summary():
    found = verdicts.values(verdicts.summary(load([0.1, 0.2, 0.3, 0.4], ["x"], 2.0), "test"))
    assert found == {P50: 0.2, P95: 0.4, P99: 0.4, THROUGHPUT: 2.0, verdicts.FAILURE_RATE: 0.2}


@pytest.mark.parametrize(
    ("count", "most", "verdict"),
    [(0, 0, Verdict.PASS), (1, 0, Verdict.FAIL), (3, 3, Verdict.PASS), (None, 3, Verdict.UNKNOWN)],
)
def test_new_errors(count, most, verdict):
    measured = [Measurement(what=NEW_ERRORS, value=count, source="test")]
    assert verdicts.new_errors("errors", measured, most).verdict is verdict
