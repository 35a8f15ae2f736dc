"""From Prometheus' text to counters, and what a histogram tells."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.analysis import metrics
from handover.analysis.metrics import Counters, NoMetrics, cores, parse, quantile, since, size, slower_than
from handover.models import names

TEXT = """# HELP http_requests_total Answers
# TYPE http_requests_total counter
http_requests_total{code="200"} 90.0
http_requests_total{code="404"} 4.0
http_requests_total{code="500"} 5.0
http_requests_total{code="503"} 1.0
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1",route="/a"} 40.0
http_request_duration_seconds_bucket{le="0.2",route="/a"} 45.0
http_request_duration_seconds_bucket{le="+Inf",route="/a"} 50.0
http_request_duration_seconds_bucket{le="0.1",route="/b"} 50.0
http_request_duration_seconds_bucket{le="0.2",route="/b"} 50.0
http_request_duration_seconds_bucket{le="+Inf",route="/b"} 50.0
http_request_duration_seconds_sum 5.0
http_request_duration_seconds_count 100.0
# TYPE cache_hits_total counter
cache_hits_total 8
# TYPE cache_misses_total counter
cache_misses_total 2
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 1.5
process_resident_memory_bytes 1.6777216e+07
something_else{a="b"} 1
"""


def test_parse():
    found = parse(TEXT, 7.0)
    assert (found.at, found.requests, found.errors) == (7.0, 100, 6)
    assert found.buckets == {0.1: 90, 0.2: 95, float("inf"): 100}
    assert (found.hits, found.misses, found.cpu_seconds, found.memory_bytes) == (8, 2, 1.5, 16777216)
    assert (found.connections, found.disk_bytes) == (None, None)


def test_a_pod_that_has_answered_nothing_yet_is_at_zero():
    assert parse("# TYPE http_requests_total counter\n", 0).requests == 0


@pytest.mark.parametrize("text", [
    "", "<html>not found</html>", '{"status": "ok"}', "process_cpu_seconds_total 1\n", "http_requests_total{code=",
    "http_requests_total NaN\n", 'http_requests_total{code="500"} nonsense\n', "http_requests_total +Inf\n",
])  # fmt: skip
def test_what_is_no_metrics_is_no_data(text):
    with pytest.raises(NoMetrics):
        parse(text, 0)


@given(st.text(max_size=200))
def test_any_text_is_metrics_or_no_data(text):
    with contextlib.suppress(NoMetrics):
        parse(text, 0)


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


BUCKETS = {0.1: 10.0, 0.2: 30.0, 0.5: 30.0, 1.0: 40.0, float("inf"): 50.0}


@pytest.mark.parametrize(("seconds", "count"), [
    (0.05, 45), (0.1, 40), (0.15, 30), (0.2, 20), (0.3, 20), (0.75, 15), (1.0, 10), (2.0, 10), (60.0, 10),
])  # fmt: skip
def test_slower_than(seconds, count):
    assert slower_than(BUCKETS, seconds) == pytest.approx(count)


@pytest.mark.parametrize(("q", "seconds"), [(0.2, 0.1), (0.4, 0.15), (0.6, 0.2), (0.7, 0.75), (0.8, 1.0), (0.99, 1.0)])
def test_quantile(q, seconds):
    assert quantile(BUCKETS, q) == pytest.approx(seconds)


def test_no_requests_have_no_quantile():
    assert quantile({}, 0.5) is None
    assert quantile({1.0: 0.0, float("inf"): 0.0}, 0.5) is None
    assert metrics.latencies({}) == {}
    assert slower_than({}, 1.0) == 0


def test_latencies_by_name():
    assert set(metrics.latencies(BUCKETS)) == {names.P50, names.P95, names.P99}


@pytest.mark.parametrize(("text", "value"), [("1", 1), ("500m", 0.5), ("2", 2), ("0.25", 0.25)])
def test_cores(text, value):
    assert cores(text) == value


@pytest.mark.parametrize(("text", "value"), [
    ("512Mi", 536870912), ("1Gi", 1073741824), ("100M", 1e8), ("1k", 1000), ("1024", 1024),
    ("128974848000m", 128974848),
])  # fmt: skip
def test_size(text, value):
    assert size(text) == value
