"""What pods and monitors tell: finite numbers, or the reason why there is none; a page costs what its size is worth."""

from __future__ import annotations

import asyncio
import datetime
import json
import math
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handover.adapters import cloudwatch, datadog, newrelic, prometheus
from handover.adapters.json_number import picked
from handover.adapters.json_service import JsonService
from handover.adapters.query_source import QuerySource, Sample
from handover.models.json_text import decoded
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.plan.traffic import Origin
from handover.ports.metrics import NoAnswer, Query
from handover.telemetry.counters import NoMetrics
from handover.telemetry.exposition import MAX_REMEMBERED
from handover.telemetry.reader import reader_of
from tests.fuzz.network import BODIES
from tests.fuzz.strategies import ANYTHING, TEXT, changed, damaged
from tests.support.fuzz import fuzz, nothing_happens, tried, work_below

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PAGES = [path.read_bytes() for path in sorted((Path(__file__).parents[1] / "telemetry" / "pages").glob("*.prom"))]
READER = reader_of(PLAN)
PIECES = (
    b'le="+Inf"', b'le="NaN"', b" NaN", b" +Inf", b" -1", b" 1e400", b" 1_0", b"{", b"}", b'"', b"\\", b"\n", b",",
    b"# TYPE http_requests_total gauge\n", b" 1700000000000", b"\xff", b"\0", b'{a="' + b"x" * 200 + b'"}',
    b'http_requests_total{code="200"} 1\n',
)  # fmt: skip


@fuzz("metrics")
@given(page=st.sampled_from(PAGES).flatmap(lambda page: damaged(page, PIECES)) | st.binary(max_size=200))
@example(page=b'http_requests_total{a="' + b"\\" * 999)
@example(page=b"http_requests_total{" + b'a="b",' * 200)
def test_any_page_of_a_pod_is_counters_or_no_metrics(page):
    text = page.decode(errors="replace")
    with work_below(5000 + 60 * len(text)):
        found, _ = tried(lambda: READER.read(text, 0.0), NoMetrics)
    if found is None:
        return
    assert all(math.isfinite(one) for one in (found.requests, found.errors) if one is not None)
    for name in ("cpu_seconds", "memory_bytes", "connections", "hits", "misses", "disk_bytes", "network_bytes", "born"):
        value = getattr(found, name)
        assert value is None or math.isfinite(value), name
    for buckets in found.buckets.values() if isinstance(found.buckets, dict) else ():
        assert not isinstance(buckets, float) or math.isfinite(buckets)


@pytest.mark.parametrize("piece", ['{n}="",', '{n}="x"', '"', "\\", " "])
@pytest.mark.parametrize("begin", ["http_requests_total{", 'http_requests_total{a="'])
def test_a_line_that_is_made_to_be_slow_is_not(begin, piece):
    """A reader that looks at all the rest for every label would need hours for these."""
    many = "".join(piece.format(n=f"a{n}") for n in range(300_000 // (len(piece) + 4)))
    for end in ("", '"} 1'):
        with suppress(NoMetrics):
            READER.read(f"up 1\n{begin}{many}{end}\n", 0.0)
    assert READER._lines._remembered <= 2 * MAX_REMEMBERED


# --- monitors

SERVICE, BEGUN = JsonService("monitor", seconds=1), 600.0
VECTOR = {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "0.5"]}]}
GOOD = {
    "prometheus": {"status": "success", "data": VECTOR},
    "datadog": {"status": "ok", "series": [{"interval": 20, "pointlist": [[980_000, 2.0], [940_000, 1.0]]}]},
    "new relic": {"data": {"actor": {"account": {"nrql": {"results": [{"count": 1.0}]}}}}},
    "cloudwatch": [{"Id": "m", "Label": "m", "Timestamps": [60.0], "Values": [1.0], "StatusCode": "Complete"}],
    "json": {"queues": [{"name": "mail", "length": 4}], "load": 0.5},
}
READ = {
    "prometheus": lambda body: prometheus.sample(body, SERVICE),
    "datadog": lambda body: datadog.newest(body, 1000.0, SERVICE),
    "new relic": lambda body: newrelic.single(body, SERVICE),
    "cloudwatch": lambda body: cloudwatch.newest(timed(body), BEGUN),
    "json": lambda body: Sample(picked(body, "queues.*.length")),
}


def timed(results):
    """Its client gives moments, and not numbers."""
    for one in results if isinstance(results, list) else ():
        if isinstance(one, dict) and isinstance(one.get("Timestamps"), list):
            moment = datetime.datetime.fromtimestamp(60, datetime.UTC)
            one["Timestamps"] = [moment if at == 60.0 else at for at in one["Timestamps"]]
    return results


class Monitor(QuerySource):
    def __init__(self, read, body):
        super().__init__("monitor", [Query("latency", "q", "s"), Query("again", "q", "s")], 5.0)
        self.read, self.body = read, body

    async def ask(self, query):
        return self.read(json.loads(json.dumps(self.body)))

    async def close(self):
        pass


@fuzz("metrics")
@given(monitor=st.sampled_from(sorted(GOOD)), data=st.data())
def test_any_answer_of_a_monitor_is_a_finite_number_or_a_reason(monitor, data):
    body = data.draw(changed(GOOD[monitor]) | ANYTHING)

    async def measured():
        with nothing_happens(), suppress(NoAnswer):
            return await Monitor(READ[monitor], body).measure()
        return []

    for one in asyncio.run(measured()):
        assert (one.value is None) == bool(one.why)
        assert one.value is None or math.isfinite(one.value)
        assert one.at is None or math.isfinite(one.at)


# --- what the service itself answers


@fuzz("metrics")
@given(body=BODIES, headers=st.dictionaries(TEXT, TEXT, max_size=4))
def test_an_answer_of_a_release_says_a_short_version_or_nothing(body, headers):
    text = body.decode(errors="replace") if isinstance(body, bytes) else json.dumps(body)
    for where in ({"header": "X-Version"}, {"field": "a.b"}, {"pattern": "v([0-9.]+)"}):
        origin = Origin(**where)
        found, _ = tried(lambda origin=origin: origin.said(headers, text))
        assert isinstance(found, str) and len(found) <= 1000


@fuzz("metrics")
@given(text=BODIES | TEXT)
@example(text=b"[" * 500_000)
@example(text=b'{"a":' * 200_000)
@example(text=b"1" * 100_000)
def test_what_should_be_json_is_a_value_or_is_none(text):
    raw = text if isinstance(text, bytes | str) else json.dumps(text)
    tried(lambda: decoded(raw), ValueError)
