"""Pages as other people's libraries write them, without a word in the plan: read, or it is said why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from handover.models import names
from handover.telemetry.counters import LATENCIES, NoMetrics, NoRequests

INF = float("inf")
PAGES = {file.stem: file.read_text() for file in (Path(__file__).parent / "pages").glob("*.prom")}
"""Of 100 guests' requests six were answered badly and 60 within 0.1 s; beside them there may be health checks."""
PYTHON, OPENTELEMETRY, OLDER = PAGES["python"], PAGES["opentelemetry"], PAGES["older_opentelemetry"]
MICROMETER, GO, EXPRESS = PAGES["micrometer"], PAGES["go"], PAGES["express"]
OTHER_WORDS = {
    ".net 8": OPENTELEMETRY.replace("http_server_request", "microsoft_aspnetcore_hosting_http_server_request").replace(
        "_duration_seconds", "_duration"
    ),
    "without units": OLDER.replace("_milliseconds", ""),
    "milliseconds": PYTHON.replace("_duration_seconds", "_duration_milliseconds").replace('le="0.1"', 'le="100"'),
    "crlf": PYTHON.replace("\n", "\r\n"),
    "openmetrics": PYTHON.replace("TYPE http_requests_total", "TYPE http_requests") + "# EOF\n",
}


@pytest.mark.parametrize("name", [*PAGES, *OTHER_WORDS])
def test_a_service_that_nobody_here_wrote(read, name):
    found = read({**PAGES, **OTHER_WORDS}[name])
    assert (found.requests, found.errors) == (100, 6)
    assert found.buckets == {0.1: 60, INF: 100}
    assert not {names.ERROR_RATE, *LATENCIES} & found.lacking.keys()


@pytest.mark.parametrize("label", ["code", "status", "status_code", "http_status", "http_status_code", "response_code"])
@pytest.mark.parametrize(
    ("good", "bad"), [("200", "500"), ("2xx", "5xx"), ("4XX", "5XX"), ("499", "599"), ("101", "503")]
)
def test_labels_and_values_of_the_status(read, label, good, bad):
    text = f'http_requests_total{{{label}="{good}",method="POST"}} 6\nhttp_requests_total{{{label}="{bad}"}} 5\n'
    found = read(text)
    assert (found.requests, found.errors, names.ERROR_RATE in found.lacking) == (11, 5, False)


@pytest.mark.parametrize(("series", "says"), [
    ("http_requests_total 5", "tells no status: it has no label at all, and none of code, status"),
    ('http_requests_total{handler="/a",method="GET"} 5', "tells no status: it has only handler, method, and none of"),
    ('http_requests_total{code=""} 5', "no label at all"),
    ('http_requests_total{status="error"} 5', 'http_requests_total{status="error"} is no status that is known'),
    ('http_requests_total{code="0"} 5', 'code="0"'), ('http_requests_total{code="600"} 1', 'code="600"'),
    ('http_requests_total{code="5000"} 5', 'code="5000"'), ('http_requests_total{code="OK"} 5', 'code="OK"'),
    ('http_requests_total{code="200",status="500"} 5', 'http_requests_total{code="200", status="500"} do not agree'),
    ('http_requests_total{code="200"} 5\nhttp_requests_total{code="UNKNOWN"} 1', 'code="UNKNOWN"'),
    ('http_server_requests_seconds_count{status="0",outcome="UNKNOWN",uri="/a"} 1', 'outcome="UNKNOWN"'),
    ('http_server_requests_seconds_count{status="UNKNOWN",outcome="BROKEN",uri="/a"} 1', 'outcome="BROKEN"'),
    ('http_server_request_duration_seconds_count{http_route="/a"} 1', "none of http_response_status_code, error_type"),
])  # fmt: skip
def test_a_status_that_is_not_known_is_no_data_by_name(read, series, says):
    found = read(f"{series}\n")
    assert says in found.lacking[names.ERROR_RATE]
    assert found.errors == 0


def test_one_known_label_is_enough_whatever_others_mean(read):
    found = read('http_requests_total{code="DE",status="500"} 5\nhttp_requests_total{code="FR",status="200"} 5\n')
    assert (found.errors, names.ERROR_RATE in found.lacking) == (5, False)


def test_a_status_that_nobody_was_answered_with_yet_is_no_matter(read):
    found = read('http_requests_total{code="200"} 5\nhttp_requests_total{code="unknown"} 0\n')
    assert (found.requests, found.lacking.get(names.ERROR_RATE)) == (5, None)


def test_a_client_that_hung_up_is_neither_a_good_answer_nor_a_bad_one(read):
    """As Spring writes it (WebFlux)."""
    page = (
        'http_server_requests_seconds_count{status="200",outcome="SUCCESS",uri="/a"} 100\n'
        'http_server_requests_seconds_count{status="UNKNOWN",outcome="UNKNOWN",uri="UNKNOWN"} 3\n'
    )
    found = read(page)
    assert (found.requests, found.errors, found.hung_up, found.lacking.get(names.ERROR_RATE)) == (100, 0, 3, None)
    assert read(page, requests={"metric": "http_server_requests_seconds_count"}).hung_up == 3


@pytest.mark.parametrize(("labels", "errors"), [
    ('http_response_status_code="404",error_type="Shop.OrderNotFoundException"', 0),
    ('http_response_status_code="400",error_type="BadRequest"', 0),
    ('http_response_status_code="500",error_type="500"', 1),
    ('http_response_status_code="503",error_type="Shop.Unavailable"', 1),
    ('error_type="java.io.IOException"', 1), ('http_response_status_code="200"', 0),
])  # fmt: skip
def test_an_errors_type_decides_only_where_there_is_no_status(read, labels, errors):
    """.NET gives a 404 that was made of an exception that exception's type."""
    found = read(f"http_server_request_duration_seconds_count{{{labels}}} 1\n")
    assert (found.requests, found.errors, found.lacking.get(names.ERROR_RATE)) == (1, errors, None)


def test_an_unknown_status_of_a_health_check_matters_to_nobody(read):
    found = read('http_requests_total{path="/health",code="?"} 5\nhttp_requests_total{path="/a",code="200"} 5\n')
    assert (found.requests, found.lacking.get(names.ERROR_RATE)) == (5, None)


def test_that_no_label_tells_the_status_is_seen_at_health_checks_already(read):
    assert names.ERROR_RATE in read('http_requests_total{path="/health"} 5\n').lacking


# --- which counter


def test_a_name_of_its_own_comes_before_one_that_is_anybodys(read):
    found = read('http_requests_total{code="200"} 7\n' + MICROMETER)
    assert (found.metric, found.requests) == ("http_server_requests_seconds_count", 100)


def test_the_counter_that_tells_the_status_is_taken(read):
    assert read("http_requests_total 100\n" + EXPRESS).errors == 6
    assert read("http_server_requests_seconds_count 100\n" + GO).errors == 6


def test_new_and_old_names_of_one_library_are_no_contradiction(read):
    assert read(OLDER + OPENTELEMETRY).metric == "http_server_request_duration_seconds_count"


def test_two_libraries_are_ambiguous_by_name(read):
    with pytest.raises(NoMetrics) as error:
        read(MICROMETER + OPENTELEMETRY)
    for word in (
        "ambiguous",
        "http_server_request_duration_seconds_count (OpenTelemetry)",
        "(Micrometer)",
        "pod_metrics.",
    ):
        assert word in str(error.value)
    found = read(MICROMETER + OPENTELEMETRY, requests={"metric": "http_server_requests_seconds_count"})
    assert (found.requests, found.errors, found.buckets[0.1]) == (100, 6, 60)


def test_a_gauge_counts_nothing(read):
    with pytest.raises(NoRequests, match="http_requests_total is a gauge"):
        read('# TYPE http_requests_total gauge\nhttp_requests_total{code="200"} 5\n')
    assert read('# TYPE http_requests gauge\nhttp_requests 5\nhttp_requests_total{code="500"} 5\n').errors == 5


def test_a_pod_that_has_answered_nobody_yet_is_at_zero(read):
    for declared in ("# TYPE http_requests_total counter\n", "# TYPE http_requests counter\n# EOF\n"):
        found = read(declared)
        assert (found.requests, found.series, found.lacking.get(names.ERROR_RATE)) == (0, 0, None)


@pytest.mark.parametrize("text", [
    "process_cpu_seconds_total 1\n", 'promhttp_metric_handler_requests_total{code="200"} 5\n', "# TYPE a gauge\na 1\n",
])  # fmt: skip
def test_metrics_without_a_counter_of_requests_say_so(read, text):
    with pytest.raises(NoRequests, match=r"no counter of requests that is known .* \(pod_metrics.requests\)"):
        read(text)


@pytest.mark.parametrize("text", [
    "", "\n", "<html>not found</html>", '{"status": "ok"}', "http_requests_total{code=", "http_requests_total NaN\n",
    'http_requests_total{code="500"} nonsense\n', "http_requests_total +Inf\n", 'http_requests_total{code="200"} -1\n',
    'http_requests_total{code="200"} 5\nhttp_requests_total{code="200"} 7\n', "<html>http_requests_total 5</html>",
])  # fmt: skip
def test_what_is_no_metrics_is_no_data(read, text):
    with pytest.raises(NoMetrics):
        read(text)


def test_an_answer_that_is_too_large_is_no_data_by_its_size(read):
    with pytest.raises(NoMetrics, match="10000000 bytes of metrics, more than 5000000"):
        read("a" * 10_000_000)
