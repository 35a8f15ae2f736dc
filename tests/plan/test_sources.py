"""Section `sources` of the plan, the queries of its measures, and what may be left open in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.placeholders import filled
from handover.plan.sources import metric_of

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
METRIC = "{namespace: AWS/RDS, metric: CPUUtilization, statistic: Average, dimensions: {DBInstanceIdentifier: pms}}"


def planned(sources: dict, *measures: dict) -> Plan:
    return Plan.model_validate(PLAN.model_dump(mode="json") | {"sources": sources, "measures": measures})


def asking(kind: str, query: str | None, **more) -> Plan:
    measure = {"name": "queue", "source": "mine", "limit": {"above": 1}} | ({} if query is None else {"query": query})
    return planned({"mine": {"type": kind, "connection": "monitor", **more}}, measure)


def test_a_plan_without_sources_is_as_it_was():
    assert PLAN.sources == {}
    assert Plan.model_validate(PLAN.model_dump(mode="json")) == PLAN


@pytest.mark.parametrize(
    ("kind", "query", "more"),
    [
        ("prometheus", 'sum(rate(x{version="{version}"}[1m]))', {}),
        ("prometheus", "up", {"path": "/prometheus/api/v1/query", "timeout_seconds": 2}),
        ("datadog", "avg:x{version:{number}}", {"window_seconds": 120}),
        ("newrelic", "SELECT count(*) FROM T WHERE v = '{version}'", {"account": 7}),
        ("newrelic", "FROM T SELECT count(*)", {"account": 7}),
        ("cloudwatch", METRIC, {"period_seconds": 10}),
        ("cloudwatch", 'SELECT MAX(x) FROM SCHEMA("y")', {}),
        ("json", "/stats?of={version} queues.*.length", {}),
        ("json", "/count", {}),
        ("json", "/count .", {}),
        ("sql", "SELECT count(*) FROM jobs WHERE version = '{version}'", {}),
        ("sql", "  with x as (values (1)) table x", {}),
    ],
)
def test_what_a_source_may_be_asked(kind, query, more):
    plan = asking(kind, query, **more)
    assert plan.measures[-1].query == query.strip()
    assert "monitor" in plan.connections
    assert Plan.model_validate(plan.model_dump(mode="json")) == plan


@pytest.mark.parametrize(
    ("kind", "query", "said"),
    [
        ("prometheus", None, "queue of mine needs a query"),
        ("prometheus", "  ", "query"),
        ("json", "stats x", "a path that begins with /"),
        ("json", "/stats queues..x", "a dotted path"),
        ("json", "/stats a b", "a dotted path"),
        ("sql", "DELETE FROM jobs", "begins with SELECT"),
        ("sql", "selected", "begins with SELECT"),
        ("cloudwatch", "{namespace: x}", "a metric has namespace, metric, statistic"),
        ("cloudwatch", "{namespace: x, metric: y, statistic: Sum, dimension: {}}", "a metric has namespace"),
        ("cloudwatch", "{namespace: x, metric: y, statistic: 7}", "what a metric has is text"),
        ("cloudwatch", "{namespace: x, metric: y, statistic: Sum, dimensions: [a]}", "what a metric has is text"),
        ("cloudwatch", "{namespace", "it is no mapping"),
    ],
)
def test_what_nobody_could_be_asked_is_an_error_of_the_plan(kind, query, said):
    with pytest.raises(ValueError, match=said):
        asking(kind, query)


def test_nrql_says_what_it_selects():
    with pytest.raises(ValueError, match="NRQL begins with SELECT or FROM"):
        asking("newrelic", "count(*)", account=7)


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        ({"mine": {"type": "graphite", "connection": "x"}}, "'prometheus', 'datadog', 'newrelic'"),
        ({"mine": {"connection": "x"}}, "type"),
        ({"mine": {"type": "prometheus"}}, "connection"),
        ({"mine": {"type": "newrelic", "connection": "x"}}, "account"),
        ({"mine": {"type": "prometheus", "connection": "x", "url": "http://y"}}, "url"),
        ({"mine": {"type": "prometheus", "connection": "x", "timeout_seconds": 31}}, "timeout_seconds"),
        ({"mine": {"type": "cloudwatch", "connection": "x", "period_seconds": 45}}, "period_seconds"),
        ({"pods": {"type": "prometheus", "connection": "x"}}, "every watch has a source pods already"),
        ({"error_tracker": {"type": "json", "connection": "x"}}, "every watch has a source error_tracker already"),
        ({"My Source": {"type": "json", "connection": "x"}}, "My Source"),
    ],
)
def test_a_source_that_is_none_is_an_error_of_the_plan(sources, said):
    with pytest.raises(ValueError, match=said):
        planned(sources)


@pytest.mark.parametrize(
    ("measure", "said"),
    [
        ({"name": "queue", "source": "theirs", "query": "q"}, "no such source; there are pods, probe"),
        ({"name": "error_rate", "source": "pods", "query": "q"}, "error_rate of pods: this source takes no query"),
    ],
)
def test_a_measure_that_asks_nobody_is_an_error_of_the_plan(measure, said):
    with pytest.raises(ValueError, match=said):
        planned({"mine": {"type": "json", "connection": "x"}}, measure | {"limit": {"above": 0.5}})


def test_a_metric_of_cloudwatch():
    found = metric_of(METRIC)
    assert found["dimensions"] == {"DBInstanceIdentifier": "pms"}
    assert metric_of("{namespace: a, metric: b, statistic: Sum}")["dimensions"] == {}
    assert metric_of("SELECT MAX(x) FROM y") is None


# --- what is left open


def test_only_what_is_known_is_filled_in():
    text = 'x{v="{version}", n="{number}", c="{colour}"} by {other} {}'
    assert filled(text, version="v1.2.0", colour="green") == 'x{v="v1.2.0", n="1.2.0", c="green"} by {other} {}'


@given(st.text())
def test_a_value_never_changes_what_a_query_means(value):
    """It holds nothing that could end a text, a label or a statement."""
    try:
        text = filled("'{version}'", version=value)
    except ValueError:
        return
    assert text == f"'{value}'"
    assert not set(value) & set("'\"\\{}()[]; \n\t`,|*%")
