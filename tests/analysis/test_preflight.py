"""What is wrong with the metrics of the pods that serve now, by name, before anything changes."""

from __future__ import annotations

import asyncio

import pytest

from handover.analysis.preflight import ALL, LOOKS, Kind, looks_at, problems
from handover.models import names
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.kube import KubeError
from handover.telemetry.counters import LATENCIES, NoMetrics
from handover.telemetry.pods import PodReader
from handover.telemetry.reader import reader_of
from tests.support.virtual import virtual_time  # noqa: F401 - a fixture
from tests.twins.service import TwinService

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
RESOURCES = """process_cpu_seconds_total 1
process_resident_memory_bytes 1
database_connections 1
cache_hits_total 1
cache_misses_total 1
disk_bytes_total 1
network_bytes_total 1
"""
TIMES = 'http_request_duration_seconds_bucket{le="0.1"} 5\nhttp_request_duration_seconds_bucket{le="+Inf"} 9\n'
GOOD = 'http_requests_total{code="200"} 9\nhttp_requests_total{code="500"} 0\n' + TIMES + RESOURCES


def seen(*pages: str, every: float = 0.1):
    """Looks at one pod that wrote these pages."""
    reader, found = reader_of(PLAN), []
    for number, text in enumerate(pages):
        try:
            found.append(reader.read(text, number * every))
        except NoMetrics as error:
            found.append(error)
    return found


def test_nothing_is_wrong_with_pods_that_tell_everything():
    assert problems({"a": seen(*[GOOD] * 5), "b": seen(GOOD)}) == []


@pytest.mark.parametrize(("page", "kind", "says", "measures"), [
    ("<html>502</html>", Kind.UNREADABLE, "no metrics: other text", ALL),
    (RESOURCES, Kind.NO_REQUESTS, "no counter of requests that is known", ALL),
    (GOOD.replace("code", "verb"), Kind.NO_STATUS, "tells no status: it has only verb", (names.ERROR_RATE,)),
    (GOOD.replace('"500"} 0', '"?"} 1'), Kind.NO_STATUS, 'code="?"', (names.ERROR_RATE,)),
    (GOOD.replace('{le="0.1"}', '{le="+Inf",a="b"}'), Kind.NO_LATENCY, 'no le but "+Inf"', LATENCIES),
    (GOOD.replace("process_cpu", "cpu"), Kind.NO_MEASURE, "no process_cpu_seconds_total", (names.CPU,)),
])  # fmt: skip
def test_what_cannot_be_judged_is_said_once_with_all_its_pods(page, kind, says, measures):
    (found,) = problems({"a": seen(page, page), "b": seen(page), "c": seen(GOOD)})
    assert (found.kind, found.measures, found.pods) == (kind, measures, ("a", "b"))
    assert says in str(found)
    assert str(found).endswith("(a, b)")


def test_pods_that_nobody_has_asked_yet_do_not_show_whether_they_tell_the_status():
    page = "# TYPE http_requests_total counter\n" + TIMES + RESOURCES
    (found,) = problems({"a": seen(page), "b": seen(page)})
    assert (found.kind, found.measures) == (Kind.NO_STATUS, (names.ERROR_RATE,))
    assert found.reason.startswith("http_requests_total has no series yet")
    assert problems({"a": seen(page), "b": seen(GOOD)}) == []


def test_processes_that_answer_by_turns_are_found():
    other = GOOD.replace("} 9", "} 4").replace("} 5", "} 2")
    (found,) = problems({"a": seen(*[GOOD, other] * 4), "b": seen(*[GOOD] * 8)})
    assert (found.kind, found.pods) == (Kind.SEVERAL_PROCESSES, ("a",))
    assert "look at multiprocess mode" in found.reason


def test_a_pod_that_was_started_again_meanwhile_is_no_problem():
    again = "".join(f"{line.rpartition(' ')[0]} 0\n" for line in GOOD.splitlines())
    assert problems({"a": seen(GOOD, GOOD, again, again, again)}) == []


def test_without_a_pod_nobody_tells_anything():
    (found,) = problems({})
    assert (found.kind, found.measures, str(found)) == (Kind.NO_PODS, ALL, "no pod is ready: nobody tells what the "
                                                        "service does")  # fmt: skip


def test_one_good_look_does_not_make_up_for_one_that_failed():
    (found,) = problems({"a": [*seen(GOOD), KubeError(500, "broken"), *seen(GOOD)]})
    assert (found.kind, found.reason) == (Kind.UNREADABLE, "broken")


# --- looking


def looked(replicas: int = 2, mute: int | None = None):
    async def work():
        service = TwinService(PLAN, replicas=replicas)
        if mute is not None:
            service.app(service.pods("blue")[mute]).mode = "mute"
        return await looks_at(PodReader(service.kube(), PLAN, "blue"))

    return asyncio.run(work())


@pytest.mark.usefixtures("virtual_time")
def test_every_ready_pod_is_looked_at_so_often():
    found = looked()
    assert [len(looks) for looks in found.values()] == [LOOKS, LOOKS]
    missing = f"a measure is missing: no cache_misses_total in the metrics ({', '.join(found)})"
    assert [str(one) for one in problems(found)] == [missing]


@pytest.mark.usefixtures("virtual_time")
def test_a_pod_that_does_not_answer_is_a_problem_by_name():
    found = looked(mute=0)
    unreadable = [one for one in problems(found) if one.kind is Kind.UNREADABLE]
    assert [(one.reason, one.pods) for one in unreadable] == [("broken", (min(found),))]


@pytest.mark.usefixtures("virtual_time")
def test_a_colour_without_a_pod_has_no_looks():
    assert looked(replicas=0) == {}
