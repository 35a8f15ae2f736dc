"""What becomes of a colour that is no longer needed; with the steps around it: tests/traffic/test_traffic_steps.py."""

from __future__ import annotations

import asyncio

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.coordination import state
from handover.coordination.routing import DEPLOYMENTS
from handover.models.annotations import notes
from handover.models.names import ERROR_RATE, PODS
from handover.plan.measures import MeasureEntry
from handover.traffic.operators import SettleTraffic, SwitchTraffic
from handover.workload.scale_down import RemoveIdleColour, RetireColour
from tests.support.steps import RUN_ID, Ti, release, run, watched

ASKED = release("unused:tag")
QUIET, BUSY = {"quiet": True, "reason": "no request in 3 s"}, {"quiet": False, "reason": "4.0 requests/s"}


def step(world, kind, **arguments):
    return kind(task_id="step", plan=world.plan, **arguments)


def resumed(world, kind, event) -> str:
    return step(world, kind).resume({"run_id": RUN_ID, "ti": Ti(world.token, ASKED)}, event)


@pytest.fixture
def settled(world):
    """Green serves for good."""
    world.run(lambda kube: watched(kube, world.plan.lock_name, world.token))
    for kind in (SwitchTraffic, SettleTraffic):
        assert run(step(world, kind), world.token, ASKED).evidence.passed
    return world


def test_a_busy_stable_colour_is_left_running_with_a_warning(settled):
    said = resumed(settled, RetireColour, BUSY)
    assert said == "warning: blue is left running, it is not idle after 3 s: 4.0 requests/s"
    assert len(settled.service.pods("blue")) == 2


def test_a_colour_that_still_answers_is_waited_for(settled):
    settled.service.tell("blue", mode="mute")  # nobody knows
    ran = run(step(settled, RetireColour), settled.token, ASKED)
    assert "it is not idle after 3 s: pms-blue-" in ran.evidence.reason
    assert ran.evidence.reason.endswith(" does not tell its requests: broken")
    assert len(settled.service.pods("blue")) == 2


def test_where_nobody_counts_requests_the_stable_colour_goes_by_time(settled):
    without = MeasureEntry(name=ERROR_RATE, source=PODS, phases=())
    settled.service.plan = settled.plan.model_copy(update={"measures": (*settled.plan.measures, without)})
    said = resumed(settled, RetireColour, {"quiet": False, "reason": "web-1 does not tell its requests: none"})
    assert said == "pms-blue is scaled to 0: web-1 does not tell its requests: none"


def test_a_rollback_removes_the_preview_colour_even_when_it_is_busy(world):
    assert resumed(world, RemoveIdleColour, BUSY) == "pms-green is scaled to 0: 4.0 requests/s"
    assert world.service.pods("green") == []


def test_whoever_scales_down_leaves_its_generation_on_the_deployment(world):
    resumed(world, RemoveIdleColour, QUIET)
    found = asyncio.run(world.service.kube().get(DEPLOYMENTS, "pms-green"))
    assert notes(found)["generation"] == str(world.token.generation)


def test_a_rollback_before_anything_was_deployed_removes_nothing(world):
    world.run(lambda kube: kube.delete(DEPLOYMENTS, "pms-green"))
    ran = run(step(world, RemoveIdleColour), world.token, ASKED)
    assert (ran.evidence.passed, ran.evidence.reason) == (True, "there is no pms-green")
    assert ran.triggers == []


def test_a_colour_that_never_became_ready_is_removed_at_once(world):
    met = {"switched_at": world.time.epoch()}
    world.run(
        lambda kube: state.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=met))
    )
    for pod in world.service.pods("green"):
        pod.ready_at = float("inf")
    ran = run(step(world, RemoveIdleColour), world.token, ASKED)
    assert ran.evidence.reason == "pms-green is scaled to 0: no pod is ready"


def test_nobody_waits_for_a_colour_that_no_client_ever_met(world):
    ran = run(step(world, RemoveIdleColour), world.token, ASKED)
    assert (ran.evidence.reason, ran.triggers) == ("pms-green is scaled to 0: no client ever met it", [])
    assert world.service.pods("green") == []


def test_the_route_is_looked_at_again_right_before_the_change(world):
    with pytest.raises(AirflowFailException, match="blue is retired only when green was promoted"):
        resumed(world, RetireColour, QUIET)
    world.run(lambda kube: watched(kube, world.plan.lock_name, world.token))
    assert run(step(world, SwitchTraffic), world.token, ASKED).evidence.passed
    with pytest.raises(AirflowFailException, match="it is not scaled down"):
        resumed(world, RemoveIdleColour, QUIET)
    assert [len(world.service.pods(colour)) for colour in ("blue", "green")] == [2, 2]
