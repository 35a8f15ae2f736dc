"""Monitoring works when every pod that serves tells what it is judged by, not already when it answers."""

from __future__ import annotations

import pytest

from handover.models.evidence import Measurement
from handover.step import StepRun
from handover.workflows.followups.checks import MonitoringWorks


@pytest.fixture
def looked(world, monkeypatch):
    async def measure(_self):
        return [Measurement(what="database_connections", value=3, source="database")]

    monkeypatch.setattr("handover.database.sources.DatabaseSource.measure", measure)
    step = MonitoringWorks(task_id="monitoring_works", plan=world.plan)
    return lambda: step.work(StepRun(world.plan, {"run_id": "r"}, "monitoring_works"))


def test_pods_that_tell_everything_pass(world, looked):
    with world.guests():
        found = looked()
    assert (found.passed, found.reason) == (True, "2 pods and the database give numbers")


@pytest.mark.parametrize(("metrics", "says"), [
    ("", "pods: unreadable: broken (pms-blue-"), ("http_requests_total 5\n", "pods: no status: http_requests_total"),
    ('http_requests_total{code="200"} 5\n', "pods: latency cannot be judged: no histogram"),
])  # fmt: skip
def test_pods_that_answer_and_tell_nothing_fail(world, looked, metrics, says):
    if metrics:
        world.service._metrics = metrics
    else:
        world.service.tell("blue", mode="mute")
    found = looked()
    assert not found.passed
    assert found.reason.startswith(says)


def test_a_colour_without_a_pod_fails(world, looked):
    world.service.scale("blue", 0)
    assert "pods: no pod is ready" in looked().reason
