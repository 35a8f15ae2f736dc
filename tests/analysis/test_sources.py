"""What a pod may use, and what one probe says."""

from __future__ import annotations

import asyncio

import pytest

from handover.analysis.observations import PodLimits, Probed
from handover.analysis.sources import PodMetrics, Probe
from handover.models import names
from handover.models.measures import MeasureVerdict
from handover.ports.public import Answer
from tests.analysis.made import PLAN, counters, result, seen

OF_THE_PLAN = PodMetrics(None, PLAN, "green").limits


@pytest.mark.parametrize(("given", "cores", "memory"), [
    ({"cpu": "500m", "memory": "1Gi"}, 0.5, 2**30), ({"cpu": 2}, 2, OF_THE_PLAN.memory_bytes),
    ({"cpu": "0", "memory": 0}, OF_THE_PLAN.cores, OF_THE_PLAN.memory_bytes),
    ({}, OF_THE_PLAN.cores, OF_THE_PLAN.memory_bytes),
])  # fmt: skip
def test_a_pod_without_a_limit_is_held_to_the_plans(given, cores, memory):
    """To Kubernetes 0 is none."""
    pod = {"spec": {"containers": [{"name": PLAN.cluster.container, "resources": {"limits": given}}]}}
    assert PodMetrics(None, PLAN, "green")._limits_of(pod) == PodLimits(cores, memory)


def test_where_nobody_has_a_limit_there_is_nothing_to_judge():
    subject = seen()
    for now in range(1, 5):
        subject.pod("a", counters(now, now * 50, cpu_seconds=now, memory_bytes=5))
        subject.resources(now, PodLimits(0, 0))
    assert [result(subject, now, name).verdict for name in (names.CPU, names.MEMORY)] == [MeasureVerdict.NO_DATA] * 2


@pytest.mark.parametrize(("status", "age", "problem", "silence"), [
    (200, "", "", ""), (200, "0", "", ""),
    (200, "60", "", "a cache has had this answer for 60 s, it does not say who would answer now"),
    (500, "60", "status 500", ""),
])  # fmt: skip
def test_a_good_answer_out_of_a_cache_is_no_data_and_a_bad_one_is_what_clients_get(status, age, problem, silence):
    class Public:
        token = ""

        async def get(self, path: str, timeout: float) -> Answer:
            return Answer(0.1, status, {"age": age} if age else {})

    assert asyncio.run(Probe(Public(), PLAN).ask()) == Probed(0.1, problem, silence)
