"""A page by the plan's own words: its metrics, units, labels, and requests that are not guests'."""

from __future__ import annotations

import pytest

from handover.models import names
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.pod_metrics import PodMetricsRules
from handover.telemetry.counters import LATENCIES
from handover.telemetry.reader import Reader, reader_of

INF = float("inf")
RESOURCES = """process_cpu_seconds_total 1.5
process_resident_memory_bytes 1.6777216e+07
process_start_time_seconds 1.7e+09
app_pool_open{db="main"} 3
app_pool_open{db="reports"} 4
cache_gets_total{cache="rooms",result="hit"} 8
cache_gets_total{cache="rooms",result="miss"} 2
disk_kib_total 4
network_bytes_total{direction="in"} 5
network_bytes_total{direction="out"} 6
"""


def counted(*series: str) -> str:
    return "".join(f"{one}\n" for one in series)


# --- the plan's names


def test_a_counter_by_its_own_name_label_and_words(read):
    page = counted('shop_calls{result="failure"} 3', 'shop_calls{result="success"} 90', 'shop_calls{result="denied"} 7')
    rules = {"metric": "shop_calls", "status": "result", "errors": "failure", "fine": "success|denied"}
    found = read(page, requests=rules)
    assert (found.metric, found.requests, found.errors) == ("shop_calls", 100, 3)
    assert 'result="denied"' in read(page, requests=rules | {"fine": "success"}).lacking[names.ERROR_RATE]


def test_a_known_counter_of_the_plan_keeps_its_conventions(read):
    page = counted('http_server_requests_seconds_count{status="500",outcome="SERVER_ERROR",uri="/a"} 3')
    assert read(page, requests={"metric": "http_server_requests_seconds_count"}).errors == 3


def test_what_the_plan_calls_fine_is_fine(read):
    """As Micrometer writes it when a client has hung up."""
    page = counted('http_server_requests_seconds_count{status="UNKNOWN",outcome="UNKNOWN"} 3')
    rules = {"metric": "http_server_requests_seconds_count", "status": "status", "fine": "[1-4][0-9]{2}|UNKNOWN"}
    assert read(page, requests=rules).lacking.get(names.ERROR_RATE) is None


def test_only_the_series_that_the_plan_means(read):
    page = counted('http_requests_total{app="shop",code="500"} 3', 'http_requests_total{app="admin",code="500"} 90')
    found = read(page, requests={"metric": "http_requests_total", "labels": {"app": "shop"}})
    assert (found.requests, found.errors, found.series) == (3, 3, 1)


def test_a_metric_of_the_plan_that_is_not_there_is_no_data_by_name(read):
    with pytest.raises(ValueError, match="no counter of requests shop_calls in the metrics"):
        read(counted('http_requests_total{code="200"} 5'), requests={"metric": "shop_calls"})


# --- what is not a guest's


HEALTH = ('path="/health"', 'handler="/health/"', 'route="health"', 'uri="/health?full=1"', 'http_route="GET /health"')


@pytest.mark.parametrize("label", [*HEALTH, 'endpoint="/metrics"', 'path="/live"', 'job="probe",who="kube-probe/1.33"'])
def test_requests_of_the_kubelet_and_of_ours_are_left_out(read, label):
    page = counted(
        f'http_requests_total{{{label},code="200"}} 900', 'http_requests_total{path="/orders",code="500"} 5',
        f'http_request_duration_seconds_bucket{{{label},le="0.1"}} 900',
        f'http_request_duration_seconds_bucket{{{label},le="+Inf"}} 900',
        'http_request_duration_seconds_bucket{path="/orders",le="0.1"} 1',
        'http_request_duration_seconds_bucket{path="/orders",le="+Inf"} 5',
    )  # fmt: skip
    found = read(page, probed=("/live",), leave_out=[{"who": "kube-probe/.*", "job": ".*"}, {"path": "/ready"}])
    assert (found.requests, found.errors, found.buckets, found.mixed) == (5, 5, {0.1: 1, INF: 5}, "")


@pytest.mark.parametrize("label", ['path="/"', 'path="/healthy"', 'path="/orders/health"', 'who="kube-probe"'])
def test_what_only_looks_like_it_is_a_guests(read, label):
    found = read(counted(f'http_requests_total{{{label},code="500"}} 5'), probed=("/",), leave_out=[{"who": "kube"}])
    assert found.errors == 5


@pytest.mark.parametrize("route", [
    "/actuator/health/**", "/actuator/health/*", "/actuator/health/{*path}", "/actuator/health/{**path}",
    "/actuator/health/{selector}", "/actuator/health/{selector?}", "GET /actuator/health/:kind",
    "actuator/health/<kind>", "/actuator/health/<path:kind>", "/actuator/*/readiness", "/actuator/**",
])  # fmt: skip
def test_the_template_of_a_health_checks_route_is_left_out(route):
    page = counted(
        f'http_server_requests_seconds_count{{uri="{route}",status="200"}} 900',
        'http_server_requests_seconds_count{uri="/orders/{id}",status="500"} 5',
    )
    found = Reader(PodMetricsRules(), ("/actuator/health/readiness",)).read(page, 0.0)
    assert (found.requests, found.errors) == (5, 5)


@pytest.mark.parametrize(("route", "path"), [
    ("/**", "/health"), ("/*", "/health"), ("/{name}", "/health"), ("/:name", "/health"), ("*", "/health/live"),
    ("/api/{id}", "/api/health"), ("/api/**", "/api/health"), ("/{name}/live", "/health/live"),
    ("/health/{id}", "/health"), ("/health/{id}/more", "/health/live"), ("/health/{id}", "/health/live/more"),
    ("/health/live/{id}", "/health/ready/x"),
])  # fmt: skip
def test_a_template_that_holds_other_paths_as_well_is_a_guests(route, path):
    page = counted(f'http_server_requests_seconds_count{{uri="{route}",status="500"}} 5')
    assert Reader(PodMetricsRules(), (path,)).read(page, 0.0).errors == 5


def test_a_counter_that_cannot_tell_them_apart_says_so(read):
    page = counted('http_requests_total{code="500",method="GET"} 5')
    assert "none of its labels tells" in read(page).mixed
    assert read(page, counts_probes=False).mixed == ""


def test_the_paths_of_a_plan_are_left_out():
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    paths = (plan.health.path, plan.pod_metrics.path, plan.traffic.drain_path, "/rooms")
    page = counted(*(f'http_requests_total{{path="{path}",code="200"}} 1' for path in paths))
    assert reader_of(plan).read(page, 0).requests == 1


# --- how long requests took


def timed(*bounds: str, name: str = "http_request_duration_seconds", labels: str = "") -> str:
    counts = enumerate(bounds, start=1)
    return counted(
        'http_requests_total{code="200"} 9', *(f'{name}_bucket{{{labels}le="{le}"}} {n}' for n, le in counts)
    )


@pytest.mark.parametrize(("name", "unit", "factor"), [
    ("took_seconds", None, 1), ("took_milliseconds", None, 1000), ("took_ms", None, 1000), ("took_us", None, 1e6),
    ("took", "milliseconds", 1000), ("took_seconds", "nanoseconds", 1e9),
])  # fmt: skip
def test_units_by_name_or_plan(read, name, unit, factor):
    latency = {"metric": name} | ({"unit": unit} if unit else {})
    found = read(timed("100", "250.0", "+Inf", name=name), latency=latency)
    assert found.buckets == {100 / factor: 1, 250 / factor: 2, INF: 3}


SUMMARY = 'http_requests_total{code="200"} 9\nhttp_request_duration_seconds{quantile="0.99"} 9.7\n'


@pytest.mark.parametrize(("page", "says"), [
    (SUMMARY, "http_request_duration_seconds is a summary, which cannot be added up"),
    ("# TYPE http_request_duration_seconds summary\n" + counted('http_requests_total{code="200"} 9'), "is a summary"),
    ("# TYPE http_request_duration_seconds gaugehistogram\n" + timed("1", "+Inf"), "is a gaugehistogram"),
    (timed("+Inf"), 'has no le but "+Inf"'),
    (timed("0.1", "0.2"), 'has no le="+Inf"'),
    (timed("fast", "+Inf"), 'without a number in its label "le"'),
    (timed("NaN", "+Inf"), 'without a number in its label "le"'),
    (timed("0.1").replace("le=", "vmrange="), "without a number"),
    (timed("+Inf", "0.1"), "falls from one le to the next"),
    (timed("0.1", "0.1", "+Inf"), "has the same series twice"),
    (timed("0.1", "0.10", "+Inf"), 'has no le but "+Inf"'),
    (timed("0.1", "+Inf").replace(" 2\n", " NaN\n"), "is nan"),
    (timed("0.1", "+Inf", labels='path="/a",') + timed("0.2", "+Inf", labels='path="/b",').partition("\n")[2],
     'has no le but "+Inf" that all its series have'),
    ('http_requests_total{code="200"} 9\n', "no histogram http_request_duration_seconds or"),
])  # fmt: skip
def test_latency_that_cannot_be_judged_is_no_data_by_name(read, page, says):
    found = read(page)
    assert found.buckets == {}
    assert [says in found.lacking[what] for what in LATENCIES] == [True] * 3
    assert (found.requests, names.ERROR_RATE in found.lacking) == (9, False)


def test_of_routes_with_other_buckets_only_the_common_ones_are_added_up(read):
    page = (
        timed("0.1", "1", "+Inf", labels='path="/a",')
        + timed("0.2", "1", "+Inf", labels='path="/b",').partition("\n")[2]
    )
    found = read(page)
    assert (found.buckets, names.P99 in found.lacking) == ({1: 4, INF: 6}, False)


def test_a_histogram_without_a_request_yet_is_no_fault(read):
    page = "# TYPE http_requests_total counter\n# TYPE http_request_duration_seconds histogram\n"
    assert (read(page).buckets, names.P99 in read(page).lacking) == ({}, False)


def test_a_counter_of_the_plan_wants_a_histogram_of_the_plan(read):
    page = counted('calls{code="200"} 9') + timed("0.1", "+Inf")
    assert "does not name a histogram" in read(page, requests={"metric": "calls"}).lacking[names.P50]
    found = read(page, requests={"metric": "calls"}, latency="http_request_duration_seconds")
    assert found.buckets == {0.1: 1, INF: 2}


def test_the_count_of_a_histogram_counts_requests_too(read):
    page = timed("0.1", "+Inf", name="rpc_seconds") + counted('rpc_seconds_count{code="500"} 2')
    found = read(page, requests={"metric": "rpc_seconds_count"})
    assert (found.errors, found.buckets) == (2, {0.1: 1, INF: 2})


# --- what a pod uses


def test_resources_by_convention_and_by_plan(read):
    page = counted('http_requests_total{code="200"} 9') + RESOURCES
    found = read(page)
    assert (found.cpu_seconds, found.memory_bytes, found.born) == (1.5, 16777216, 1.7e9)
    assert (found.connections, found.hits, found.misses, found.disk_bytes, found.network_bytes) == (None,) * 5
    assert found.client_connections is None
    assert found.lacking[names.DISK_IO] == "the plan does not name it (pod_metrics.disk_bytes)"
    found = read(
        page, connections="app_pool_open", client_connections="app_pool_open",
        cache_hits={"metric": "cache_gets_total", "labels": {"result": "hit"}},
        cache_misses={"metric": "cache_gets_total", "labels": {"result": "miss"}}, network_bytes="network_bytes_total",
        disk_bytes={"metric": "disk_kib_total", "times": 1024},
    )  # fmt: skip
    assert (found.connections, found.hits, found.misses, found.disk_bytes, found.network_bytes) == (7, 8, 2, 4096, 11)
    assert found.client_connections == 7
    assert found.lacking.keys() == set(LATENCIES)


@pytest.mark.parametrize(("series", "seconds"), [
    ("process_cpu_time_ns_total 2.5E9", 2.5), ('process_cpu_time_seconds_total{state="user"} 2', 2),
])  # fmt: skip
def test_cpu_in_other_words(read, series, seconds):
    assert read(counted('http_requests_total{code="200"} 9', series)).cpu_seconds == pytest.approx(seconds)


@pytest.mark.parametrize(("series", "says"), [
    (["process_cpu_seconds_total NaN"], "process_cpu_seconds_total has no number"),
    (["process_cpu_seconds_total 1", "process_cpu_seconds_total 2"], "process_cpu_seconds_total has the same"),
    ([], "no process_cpu_seconds_total or"),
])  # fmt: skip
def test_a_resource_that_is_no_number_is_no_data_by_name(read, series, says):
    found = read(counted('http_requests_total{code="200"} 9', *series))
    assert found.cpu_seconds is None
    assert says in found.lacking[names.CPU]


def test_one_reader_is_enough_for_many_pages_and_pods(read):
    reader = reader_of(load_plan(INCLUDE / "plans" / "pms.yaml"))
    page = counted('http_requests_total{path="/live",code="500"} 5')
    assert [reader.read(page, 0, paths).errors for paths in (frozenset(), frozenset({"/live"}), frozenset())] == [
        5,
        0,
        5,
    ]
