"""What a pod did between two looks, and what a histogram tells."""

from __future__ import annotations

import pytest

from handover.analysis import metrics
from handover.analysis.metrics import Counters, quantile, since
from handover.models import names
from handover.models.quantity import quantity


def test_deltas_and_restarts():
    old = Counters(1, 100, 5, {1.0: 90, float("inf"): 100}, hits=10, misses=1, cpu_seconds=5, disk_bytes=100)
    new = Counters(3, 150, 6, {1.0: 130, float("inf"): 150}, hits=20, misses=2, cpu_seconds=6, disk_bytes=300)
    delta = since(new, old)
    assert (delta.requests, delta.errors, delta.hits, delta.misses) == (50, 1, 10, 1)
    assert delta.buckets == {1.0: 40, float("inf"): 50}
    assert metrics.rate(new, old, "cpu_seconds") == 0.5
    assert metrics.rate(new, old, "disk_bytes") == 100
    assert metrics.rate(new, old, "network_bytes") is None
    again = Counters(5, 20, 20, {1.0: 20, float("inf"): 20}, cpu_seconds=0.1)
    assert (since(again, new).requests, since(again, new).errors) == (20, 20)
    assert metrics.rate(again, new, "cpu_seconds") is None


def test_a_restart_is_seen_though_no_counter_fell():
    old, busier = Counters(1, 10, 0, born=100), Counters(2, 30, 3, born=200)
    assert (since(busier, old).requests, since(busier, old).errors) == (30, 3)
    assert since(Counters(2, 11, 5), Counters(1, 10, 0)).errors == 5


def test_counting_begins_anew_where_another_metric_counts():
    old, new = Counters(1, 10, 0, metric="a_total"), Counters(2, 5000, 70, metric="b_total")
    assert (since(new, old).requests, since(new, old).errors) == (0, 0)


def test_a_clock_that_drifts_is_no_restart():
    """Some libraries work the time of their birth out of the machine's clock, anew at each look."""
    old, new = Counters(1, 1000, 5, born=100.0), Counters(2, 1010, 5, born=100.9)
    assert (since(new, old).requests, since(new, old).errors) == (10, 0)


def test_a_pod_that_stops_telling_its_cpu_was_not_restarted():
    assert since(Counters(2, 110, 5), Counters(1, 100, 5, cpu_seconds=3)).requests == 10


def test_bounds_that_only_one_look_has_tell_nothing():
    inf = float("inf")
    old, new = Counters(1, 9, 0, {1.0: 5, inf: 9}), Counters(2, 12, 0, {0.5: 4, 1.0: 7, inf: 12})
    assert since(new, old).buckets == {1.0: 2, inf: 3}
    assert since(new, Counters(1, 9)).buckets == new.buckets


BUCKETS = {0.1: 10.0, 0.2: 30.0, 0.5: 30.0, 1.0: 40.0, float("inf"): 50.0}


@pytest.mark.parametrize(("q", "seconds"), [(0.2, 0.1), (0.4, 0.15), (0.6, 0.2), (0.7, 0.75), (0.8, 1.0), (0.99, 1.0)])
def test_quantile(q, seconds):
    assert quantile(BUCKETS, q) == pytest.approx(seconds)


def test_no_requests_have_no_quantile():
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, float("inf"): 0.0}, 0.5) is None
    assert metrics.latencies({}) == {}


def test_latencies_by_name():
    assert set(metrics.latencies(BUCKETS)) == {names.P50, names.P95, names.P99}


@pytest.mark.parametrize(("text", "value"), [
    ("1", 1), ("500m", 0.5), ("0.25", 0.25), ("512Mi", 536870912), ("1Gi", 1073741824), ("100M", 1e8), ("1k", 1000),
    ("1024", 1024), ("128974848000m", 128974848), ("1e3", 1000), ("2E", 2e18), ("1Pi", 2**50), ("250000u", 0.25),
])  # fmt: skip
def test_quantities_of_kubernetes(text, value):
    assert quantity(text) == pytest.approx(value)
