"""What each monitor's answer has to be to be one number, and everything that is none."""

from __future__ import annotations

import datetime
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters import cloudwatch, datadog, newrelic, prometheus
from handover.adapters.json_number import picked
from handover.adapters.json_service import JsonService
from handover.adapters.query_source import number, number_in
from handover.ports.metrics import NoData
from tests.support.fuzz import fuzz

SERVICE = JsonService("monitor", seconds=1)


# --- numbers


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "true or false, not a number"), ("1", "text, not a number"), (None, "nothing, not a number"),
        ([1], "a list, not a number"), ({}, "a mapping, not a number"), (float("nan"), "nan is no value"),
        (float("-inf"), "-inf is no value"), (10**400, "inf is no value"),
    ],
)  # fmt: skip
def test_what_is_no_number(value, said):
    with pytest.raises(NoData, match=f"^{said}$"):
        number(value)


@fuzz("metrics")
@given(st.text() | st.floats().map(str) | st.integers())
def test_text_of_a_protocol_is_a_finite_number_or_no_data(text):
    with suppress(NoData):
        assert abs(number_in(text)) < float("inf")


# --- Prometheus


def answered(kind: str, result: Any, **more: Any) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}, **more}


def series(*values: Any) -> list[dict[str, Any]]:
    return [{"metric": {"pod": str(n)}, "value": [1.0, value]} for n, value in enumerate(values)]


@pytest.mark.parametrize("body", [answered("vector", series("0.5")), answered("scalar", [1.0, "0.5"])])
def test_prometheus_gives_the_one_sample(body):
    found = prometheus.sample(body, SERVICE)
    assert (found.value, found.at) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (answered("vector", []), "no series, exactly one is wanted"),
        (answered("vector", series("1", "2", "3")), "3 series, exactly one is wanted"),
        (answered("vector", series("NaN")), "nan is no value"),
        (answered("scalar", [1.0, "+Inf"]), "inf is no value"),
        (answered("vector", series("text")), "text, not a number"),
        (answered("vector", series(0.5)), "float, not a sample"),
        (answered("string", [1.0, "0.5"]), "a string, not one sample"),
        (answered("matrix", [{"metric": {}, "values": [[1, "2"]]}]), "a matrix, not one sample"),
        (answered("vector", [{"metric": {}, "histogram": [1.0, {}]}]), "a histogram, not a number"),
        (answered("vector", series("1"), warnings=["a store is away"]), "monitor warns: a store is away"),
        ({"status": "error", "errorType": "execution", "error": "found duplicate series"}, "found duplicate series"),
    ],
)
def test_prometheus_gives_nothing_else(body, said):
    with pytest.raises(NoData) as silence:
        prometheus.sample(body, SERVICE)
    assert said in str(silence.value)


# --- Datadog

NOW = 1_000.0


def points(*pairs: Any, **more: Any) -> dict[str, Any]:
    return {"status": "ok", "series": [{"interval": 20, "pointlist": [list(pair) for pair in pairs], **more}]}


def test_datadog_gives_the_newest_point_whose_interval_is_over():
    body = points((940_000, 1.0), (980_000, 2.0), (990_000, 99.0), (970_000, 3.0), (985_000, None))
    found = datadog.newest(body, NOW, SERVICE)
    assert (found.value, found.at) == (2.0, 980.0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"status": "ok", "series": []}, "no series, exactly one is wanted"),
        ({"status": "ok", "series": [{}, {}]}, "2 series, exactly one is wanted"),
        ({"status": "error", "error": "Rule 'x' did not match"}, "Rule 'x' did not match"),
        (points(), "no complete point in the window"),
        (points((990_000, 1.0)), "no complete point in the window"),
        (points((980_000, None)), "no complete point in the window"),
        (points((980_000, "1")), "text, not a number"),
        (points((980_000, float("nan"))), "nan is no value"),
    ],
)
def test_datadog_gives_nothing_else(body, said):
    with pytest.raises(NoData) as silence:
        datadog.newest(body, NOW, SERVICE)
    assert said in str(silence.value)


# --- New Relic


def rows(*found: Any) -> dict[str, Any]:
    return {"data": {"actor": {"account": {"nrql": {"results": list(found)}}}}}


@pytest.mark.parametrize(
    "row",
    [{"count": 3}, {"percentile.duration": {"99": 3}}, {"latest.x": 3, "beginTimeSeconds": 1, "endTimeSeconds": 2}],
)
def test_new_relic_gives_the_one_number_of_the_one_row(row):
    assert newrelic.single(rows(row), SERVICE).value == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (rows(), "no rows, exactly one is wanted"),
        (rows({"count": 1}, {"count": 2}), "2 rows, exactly one is wanted"),
        (rows({"count": 1, "average.duration": 2}), "2 values in the row, exactly one is wanted"),
        (rows({"percentile.duration": {"50": 1, "99": 2}}), "2 values in the row, exactly one is wanted"),
        (rows({"facet": "web", "count": 1}), "2 values in the row, exactly one is wanted"),
        (rows({"latest.version": "v1"}), "text, not a number"),
        (rows({"average.duration": None}), "nothing, not a number"),
        ({"errors": [{"message": "NRQL Syntax Error"}], "data": rows({"count": 1})["data"]}, "NRQL Syntax Error"),
    ],
)
def test_new_relic_gives_nothing_else(body, said):
    with pytest.raises(NoData) as silence:
        newrelic.single(body, SERVICE)
    assert said in str(silence.value)


# --- any JSON

BODY = {
    "queues": [{"name": "mail", "length": 4}, {"name": "sms", "waiting": 5}],
    "load": 0.5,
    "regions": {"eu": {"x": 1}},
}


@pytest.mark.parametrize(
    ("selector", "value"),
    [("load", 0.5), ("queues.0.length", 4), ("queues.*.length", 4), ("queues.*.waiting", 5), ("regions.*.x", 1)],
)
def test_a_path_leads_to_a_number(selector, value):
    assert picked(BODY, selector) == value


def test_the_whole_answer_may_be_the_number():
    assert picked(7, ".") == 7


@pytest.mark.parametrize(
    ("selector", "said"),
    [
        (".", "a mapping, not a number"),
        ("none", "no values at none, exactly one is wanted"),
        ("queues.2.length", "no values at"),
        ("queues.-1.waiting", "no values at"),
        ("queues.length", "no values at"),
        ("queues.*.name", "2 values at queues.*.name, exactly one is wanted"),
        ("queues.0.name", "text, not a number"),
        ("load.more", "no values at"),
    ],
)
def test_a_path_that_leads_elsewhere_is_no_data(selector, said):
    with pytest.raises(NoData) as silence:
        picked(BODY, selector)
    assert said in str(silence.value)


# --- CloudWatch


def result(*values: float, at: float = 0, **more: Any) -> dict[str, Any]:
    times = [datetime.datetime.fromtimestamp(at - 60 * n, datetime.UTC) for n in range(len(values))]
    return {"Id": "m", "Label": "m", "Timestamps": times, "Values": list(values), "StatusCode": "Complete", **more}


def test_cloudwatch_gives_the_newest_period_that_is_over():
    found = cloudwatch.newest([result(9, 3, 4, at=660), result(1, at=60)], 600)
    assert (found.value, found.at) == (3, 600)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "no series, exactly one is wanted"),
        ([result(1), result(2, Label="other")], "2 series, exactly one is wanted"),
        ([result()], "no complete period in the window"),
        ([result(1, at=660)], "no complete period in the window"),
        ([result(1, StatusCode="PartialData")], "the data is not complete: PartialData"),
        ([result(1, StatusCode="InternalError")], "the data is not complete: InternalError"),
        ([result(float("nan"))], "nan is no value"),
    ],
)
def test_cloudwatch_gives_nothing_else(results, said):
    with pytest.raises(NoData) as silence:
        cloudwatch.newest(results, 600)
    assert said in str(silence.value)
