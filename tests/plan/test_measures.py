"""The measures of a plan: what every plan has, what its list changes, and what is refused when the plan is read."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from handover.models.incident import Severity
from handover.models.measures import Phase, Silence
from handover.plan.load import load_plan
from handover.plan.measures import UNITS, Limit, Measure, MeasureEntry, in_unit, measures_of, others_of, quantile_of
from tests.plan.test_plan import GOOD, PMS, error_of, written

PLAN = load_plan(PMS)


def listed(*entries: dict[str, Any]) -> dict[tuple[str, str], Measure]:
    """All measures of the plan with this list."""
    plan = PLAN.model_copy(update={"measures": tuple(MeasureEntry.model_validate(entry) for entry in entries)})
    return {(one.source, one.name): one for one in measures_of(plan)}


USUAL = listed()


@pytest.mark.plan("CPU usage: <70%", "Memory usage: <75%", "Cache hit rate: >80%", "Response time p99: <1000ms")
def test_what_every_plan_has_comes_from_its_thresholds():
    limits = {key: one.limit for key, one in USUAL.items()}
    assert limits["probe", "error_rate"] == limits["pods", "error_rate"] == Limit(above=0.001)
    assert limits["probe", "p99_seconds"] == limits["pods", "p99_seconds"] == Limit(above=1.0)
    assert limits["probe", "p50_seconds"] == Limit(above=0.2)
    assert limits["pods", "p50_seconds"] == Limit(above=0.2, relative=0.5, at_least=0.05)
    assert limits["pods", "p95_seconds"] == Limit(relative=0.5, at_least=0.05)
    assert limits["pods", "cpu"] == Limit(above=0.7)
    assert limits["pods", "memory"] == Limit(above=0.75)
    assert limits["pods", "cache_hit_rate"] == Limit(below=0.8)
    assert limits["pods", "restarts"] == Limit(above=0)
    assert limits["database", "replication_lag_seconds"] == Limit(above=2.0)
    assert len(USUAL) == 17


def test_what_every_plan_has_would_be_accepted_as_a_list():
    for measure in USUAL.values():
        assert Measure.model_validate(measure.model_dump()) == measure


def test_limits_from_what_is_normal():
    assert USUAL["database", "database_connections"].limit.over(30) == 50
    assert USUAL["database", "database_connections"].limit.over(100) == 150
    assert USUAL["pods", "disk_bytes_per_second"].limit.over(1e6) == 1e7
    assert USUAL["pods", "disk_bytes_per_second"].limit.over(1e7) == 5e7
    assert USUAL["error_tracker", "new_errors"].limit.over(3) == 3
    assert Limit(relative=0.5, at_least=0.05).over(0.02) == pytest.approx(0.07)


def test_severities_are_those_of_the_incidents():
    assert USUAL["pods", "cpu"].severity is Severity.HIGH
    assert USUAL["pods", "cache_hit_rate"].severity is Severity.LOW
    assert USUAL["pods", "error_rate"].severity is Severity.CRITICAL


def test_an_entry_replaces_what_it_says_and_nothing_else():
    entry = {"name": "error_rate", "source": "pods", "limit": {"above": 0.5}, "unit": "%", "phases": ["migration"]}
    found = listed(entry)
    changed = found["pods", "error_rate"]
    assert (changed.limit, changed.unit, changed.phases) == (Limit(above=0.5), "%", (Phase.MIGRATION,))
    usual = USUAL["pods", "error_rate"]
    same = ("window", "samples", "severity", "silence")
    assert [getattr(changed, name) for name in same] == [getattr(usual, name) for name in same]
    assert {k: v for k, v in found.items() if k != ("pods", "error_rate")} == {
        k: v for k, v in USUAL.items() if k != ("pods", "error_rate")
    }


def test_an_entry_adds_a_measure_of_any_source():
    found = listed({"name": "queue_depth", "source": "prometheus", "limit": {"above": 1000, "growth": 2}})
    added = found["prometheus", "queue_depth"]
    assert (added.window, added.samples, added.silence) == ("sustained", PLAN.watch.min_bad_samples, Silence.BREACH)
    assert added.phases == tuple(Phase)
    assert added.severity is Severity.CRITICAL
    assert list(found)[-1] == ("prometheus", "queue_depth")
    assert others_of(found.values()) == ("prometheus",)


def test_the_list_that_the_plan_of_the_repository_shows_can_be_used(tmp_path):
    shown = [
        line.removeprefix("# ") for line in PMS.read_text().splitlines() if line.startswith(("# measures:", "#   - {"))
    ]
    entries = yaml.safe_load("\n".join(shown))["measures"]
    assert len(entries) == 3
    plan = load_plan(written(tmp_path, GOOD | {"measures": entries}))
    found = {(one.source, one.name): one for one in measures_of(plan)}
    assert found["pods", "p99_9_seconds"].unit == "s"
    assert Phase.MIGRATION not in found["database", "replication_lag_seconds"].phases


def test_an_empty_list_of_phases_leaves_a_measure_out():
    assert listed({"name": "cpu", "source": "pods", "phases": []})["pods", "cpu"].phases == ()


def of(source: str, name: str, **limit: float) -> dict[str, Any]:
    return {"name": name, "source": source} | ({"limit": limit} if limit else {})


WRONG = [
    ({"name": "cpu"}, "measures.0.source: Field required"),
    (of("Pods", "cpu"), "measures.0.source"),
    (of("probe", "cpu", above=1), "unknown measure 'cpu' of source 'probe'"),
    (of("pods", "latency", above=1), "unknown measure 'latency' of source 'pods', which has error_rate, cpu"),
    (of("pods", "p100_seconds", above=1), "unknown measure 'p100_seconds'"),
    (of("database", "lag", above=1), "unknown measure 'lag' of source 'database'"),
    (of("pods", "cpu") | {"phases": ["lunch"]}, "measures.0.phases.0: Input should be 'cutover'"),
    (of("pods", "cpu") | {"silence": "golden"}, "measures.0.silence: Input should be 'breach'"),
    (of("pods", "cpu") | {"severity": "urgent"}, "measures.0.severity"),
    (of("pods", "cpu") | {"window": "slow"}, "measures.0.window"),
    (of("pods", "cpu") | {"samples": 0}, "measures.0.samples"),
    (of("pods", "cpu") | {"unit": "furlong"}, "unknown unit 'furlong'; known are"),
    (of("pods", "cpu") | {"unit": "MB"}, "cpu of pods is in 'no unit', which 'MB' does not measure"),
    (of("pods", "p99_seconds") | {"unit": "B/s"}, "which 'B/s' does not measure"),
    (of("pods", "cpu") | {"limit": {}}, "a limit is one of above, below, relative and growth"),
    (of("pods", "cpu", above=float("nan")), "measures.0.limit.above"),
    (of("pods", "cpu", under=1), "measures.0.limit.under: Extra inputs"),
    (of("pods", "cpu", above=1, below=2), "no value would be good"),
    (of("pods", "cpu", above=1, at_least=2), "are of a limit that is relative"),
    (of("pods", "error_rate", above=2), "a share between 0 and 1, this is 2"),
    (of("pods", "error_rate", above=0), "a share between 0 and 1, this is 0"),
    (of("pods", "error_rate", growth=2), "the limit of error_rate of pods is above, not growth"),
    (of("pods", "cache_hit_rate", above=0.5), "cache_hit_rate of pods is below, not above"),
    (of("probe", "p50_seconds", relative=0.5), "p50_seconds of probe is above, not relative"),
    (of("pods", "p99_seconds", above=-1), "the limit of p99_seconds of pods must be above 0"),
    (of("other", "no_data", above=1), "what a measure without data is called"),
    (of("prometheus", "depth"), "depth of prometheus has no limit"),
]


@pytest.mark.parametrize(("entry", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_cannot_be_judged_is_refused_when_the_plan_is_read(tmp_path, entry, said):
    assert said in error_of(tmp_path, GOOD | {"measures": [entry]})


def test_a_measure_that_is_there_twice_is_refused(tmp_path):
    entry = {"name": "cpu", "source": "pods", "limit": {"above": 0.9}}
    assert "measures: cpu of pods is there twice" in error_of(tmp_path, GOOD | {"measures": [entry, entry]})


def test_a_plan_crosses_task_boundaries_as_json(tmp_path):
    entry = {"name": "p99_9_seconds", "source": "pods", "unit": "ms", "limit": {"above": 2500}}
    plan = load_plan(written(tmp_path, GOOD | {"measures": [entry]}))
    again = type(plan).model_validate(plan.model_dump(mode="json"))
    assert again == plan
    assert measures_of(again) == measures_of(plan)


@pytest.mark.parametrize(("name", "share"), [
    ("p50_seconds", 0.5), ("p99_seconds", 0.99), ("p99_9_seconds", 0.999), ("p5_seconds", 0.05), ("p0_seconds", None),
    ("p100_seconds", None), ("p_seconds", None), ("cpu", None), ("p99_seconds_total", None),
])  # fmt: skip
def test_percentiles_by_name(name, share):
    assert quantile_of(name) == share


@given(st.sampled_from(sorted(UNITS)), st.sampled_from(sorted(UNITS)), st.floats(-1e6, 1e6))
def test_units_are_converted_there_and_back_or_not_at_all(one, other, value):
    there = in_unit(value, one, other)
    if one and other and UNITS[one][0] != UNITS[other][0]:
        assert there is None
    elif there is not None and one and other:
        assert in_unit(there, other, one) == pytest.approx(value)


@pytest.mark.parametrize(("value", "given", "wanted", "found"), [
    (250, "ms", "s", 0.25), (1, "MiB", "B", 2**20), (60, "1/min", "1/s", 1), (50, "%", "", 0.5), (3, "", "ms", 3),
    (1, "parsec", "s", None), (1, "s", "B", None),
])  # fmt: skip
def test_some_units(value, given, wanted, found):
    assert in_unit(value, given, wanted) == (None if found is None else pytest.approx(found))


@pytest.mark.parametrize(("given", "wanted", "per"), [
    ("ms", "s", 1000), ("us", "s", 10**6), ("ns", "s", 10**9), ("us", "ms", 1000), ("s", "min", 60), ("%", "", 100),
    ("1/h", "1/s", 3600),
])  # fmt: skip
def test_a_converted_value_is_the_number_that_is_written_in_the_other_unit(given, wanted, per):
    """A limit in ms is a bound of a histogram in s, and not just beside it."""
    for value in range(1, 3001):
        assert in_unit(value, given, wanted) == value / per
