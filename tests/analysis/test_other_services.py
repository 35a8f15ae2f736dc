"""Watches of services that nobody here wrote: what their pods say is judged, or is no data by name; never fine for want
of understanding.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from handover import clock
from handover.analysis import judge
from handover.analysis.judge import Finding
from handover.analysis.observer import Observer
from handover.models import names
from tests.twins.service import TwinAddress
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

TIMES = """http_request_duration_seconds_bucket{le="0.1"} %d
http_request_duration_seconds_bucket{le="+Inf"} %d
"""
Page = Callable[[float], str]
"""What a pod writes so many seconds after the watch began."""


@pytest.fixture
def watched(world):  # noqa: F811
    """What a watch of so many seconds finds, of pods that write these pages; our own probes are answered well."""

    def watch(page: Page, seconds: float = 20.0) -> Finding | None:
        async def run() -> Finding | None:
            began = clock.monotonic()
            world.service.cluster.app = lambda *_: page(clock.monotonic() - began)
            observer = Observer(world.service.kube(), world.plan, TwinAddress(world.service), "blue")
            return await observer.watch(seconds) or judge.conclude(observer.seen, clock.monotonic())[1]

        return asyncio.run(run())

    return watch


def series(*counts: tuple[str, float]) -> str:
    """Labels to how many requests they count."""
    return "".join(f"http_requests_total{{{labels}}} {count:g}\n" for labels, count in counts)


def served(now: float, rate: float = 100.0) -> str:
    """How long requests took: fast."""
    return TIMES % (now * rate, now * rate)


@pytest.mark.parametrize(
    "bad", ['status="5xx"', 'status="500"', 'status_code="500"', 'http_status="503"', 'code="500"']
)
def test_half_of_all_answers_bad_is_a_breach_in_any_words(watched, bad):
    good = bad.replace("5", "2")
    labels = 'handler="/orders",method="POST"'
    found = watched(lambda t: series((f"{labels},{good}", 50 * t), (f"{labels},{bad}", 50 * t)) + served(t))
    assert found.rule == names.ERROR_RATE


def test_a_good_service_passes(watched):
    assert watched(lambda t: series(('status="2xx"', 99 * t), ('status="4xx"', t)) + served(t)) is None


@pytest.mark.parametrize("labels", ["", 'handler="/orders",method="POST"', 'status="failed"'])
def test_a_counter_that_does_not_tell_the_status_is_no_data_by_name(watched, labels):
    found = watched(lambda t: series((labels, 100 * t)) + served(t))
    assert (found.rule, found.measure) == (judge.NO_DATA, names.ERROR_RATE)
    assert "http_requests_total" in found.reason


@pytest.mark.parametrize(("slow", "says"), [
    ('http_request_duration_seconds{quantile="0.99"} 9.7\n', "is a summary"),
    ('http_request_duration_seconds_bucket{le="+Inf"} 9\n', 'no le but "+Inf"'),
    ("", "no histogram"),
])  # fmt: skip
def test_latency_that_cannot_be_judged_is_no_data_by_name(watched, slow, says):
    found = watched(lambda t: series(('code="200"', 100 * t)) + slow)
    assert (found.rule, found.measure in (names.P50, names.P99)) == (judge.NO_DATA, True)
    assert says in found.reason


def test_milliseconds_are_milliseconds(watched):
    times = TIMES.replace("_seconds", "_milliseconds").replace("0.1", "100")
    assert watched(lambda t: series(('code="200"', 100 * t)) + times % (100 * t, 100 * t)) is None
    found = watched(lambda t: series(('code="200"', 100 * t)) + times.replace('"100"', '"9000"') % (0, 100 * t))
    assert found.measure in (names.P50, names.P99)


@pytest.mark.parametrize("born", ["", "process_start_time_seconds 1.7e9\n"])
@pytest.mark.parametrize("errors", [0.0, 0.02, 0.05])
@pytest.mark.parametrize("seed", range(5))
def test_workers_behind_one_port_are_no_data_and_neither_good_nor_bad(watched, born, errors, seed):
    """One of them had three errors long ago."""
    draw = random.Random(seed)
    before = [(draw.uniform(100, 5000), 3.0 if n == 2 else 0.0) for n in range(4)]

    def page(t: float) -> str:
        requests, bad = draw.choice(before)
        requests, bad = int(requests + 25 * t), int(bad + 25 * t * errors)
        return series(('code="200"', requests - bad), ('code="500"', bad)) + TIMES % (requests, requests) + born

    found = watched(page)
    assert found.rule == judge.NO_DATA
    assert "several processes answer behind one port" in found.reason


def test_a_few_guests_who_are_answered_badly_are_not_drowned_in_health_checks(watched):
    """All real requests fail, twelve a minute, beside ours and the kubelet's at ten a second."""

    def page(t: float) -> str:
        return series(('path="/health",code="200"', 10 * t), ('path="/orders",code="500"', 5 + t // 5)) + served(t)

    assert watched(page, seconds=120.0).rule == names.ERROR_RATE
