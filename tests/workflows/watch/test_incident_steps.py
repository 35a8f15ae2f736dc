"""Fix or rollback, and the wait for the fix, as Airflow runs them: killed half-way, and begun again."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover import clock
from handover.coordination import state
from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import Evidence, failed, passed
from handover.models.incident import Incident, Resolution, Severity, began
from handover.people.operators import ROLLBACK
from handover.workflows.watch.incident_steps import FIX, FixOrRollback, FixWorks, MonitoringAfterFix
from tests.support.steps import RUN_ID, Ti, opened, release

IMAGE = "registry.example.com/shop/web@sha256:1"


class Killed(BaseException):
    """The process is gone."""


class DyingTi(Ti):
    """Of a process that is killed when it would leave its evidence."""

    def xcom_push(self, key: str, value: Any) -> None:
        if key == EVIDENCE_KEY:
            raise Killed
        super().xcom_push(key, value)


def incident(outcome: Resolution) -> Incident:
    return began("error_rate", "30 % of answers failed", Severity.CRITICAL, clock.epoch(), outcome)


@pytest.fixture
def token(in_cluster, plan):
    """Of a deployment with one critical incident that waits for the lead."""
    asked = (incident(Resolution.ASKED),)
    return in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE, incidents=asked))


def outcomes(in_cluster, plan) -> list[Resolution]:
    found = in_cluster(partial(state.read, name=plan.lock_name))
    return [one.outcome for one in found.incidents]


def answer(choice: str) -> dict[str, Any]:
    return {
        "chosen_options": [choice], "params_input": {}, "responded_at": datetime.datetime.now(datetime.UTC),
        "responded_by_user": {"id": "lead", "name": "lead"},
    }  # fmt: skip


def context(ti: Ti) -> Any:
    return {"run_id": RUN_ID, "ti": ti}


def evidence(ti: Ti) -> Evidence:
    return Evidence.model_validate(ti.pushed[EVIDENCE_KEY])


def test_without_an_incident_both_steps_pass_at_once(in_cluster, plan):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE))
    for kind in (FixOrRollback, FixWorks):
        ti = Ti(token, release(IMAGE))
        kind(task_id="step", plan=plan).execute(context(ti))
        assert evidence(ti).reason == "no incident"


@pytest.mark.plan("Decide: Fix or Rollback?", "If Rollback: Execute immediately")
def test_an_answer_of_rollback_stays_one_when_the_task_is_killed_before_it_fails(in_cluster, plan, token):
    step = FixOrRollback(task_id="fix_or_rollback", plan=plan)
    with pytest.raises(Killed):
        step.execute_complete(context(DyingTi(token, release(IMAGE))), answer(ROLLBACK))
    assert outcomes(in_cluster, plan) == [Resolution.ROLLED_BACK]
    again = Ti(token, release(IMAGE))
    with pytest.raises(AirflowFailException, match="Rollback by lead: 30 % of answers failed"):
        step.execute(context(again))
    assert not evidence(again).passed


def test_a_fix_that_did_not_work_stays_one_when_the_task_is_killed_before_it_fails(in_cluster, plan, token):
    step, event = FixWorks(task_id="fix_works", plan=plan), failed("fix_works", "nothing that was tried worked")
    with pytest.raises(Killed):
        step.resume(context(DyingTi(token, release(IMAGE))), told(event))
    assert outcomes(in_cluster, plan) == [Resolution.ROLLED_BACK]
    with pytest.raises(AirflowFailException, match="nothing that was tried worked"):
        step.execute(context(Ti(token, release(IMAGE))))


def test_a_fix_has_so_long_to_be_healthy_for_long_enough(in_cluster, plan, token):
    with pytest.raises(TaskDeferred) as deferred:
        FixWorks(task_id="fix_works", plan=plan).execute(context(Ti(token, release(IMAGE))))
    trigger, asked = deferred.value.trigger, plan.incidents
    assert trigger.seconds == asked.healthy_seconds
    patience = asked.fix_seconds + asked.healthy_seconds + plan.watch.no_data_seconds
    assert trigger.deadline == pytest.approx(clock.epoch() + patience, abs=1)
    assert trigger.overdue("")["reason"].startswith("nothing that was tried worked within 15 minutes: ")


def test_an_answer_of_fix_lets_the_deployment_go_on_to_the_wait_for_it(in_cluster, plan, token):
    ti = Ti(token, release(IMAGE))
    FixOrRollback(task_id="fix_or_rollback", plan=plan).execute_complete(context(ti), answer(FIX))
    assert evidence(ti).passed
    assert outcomes(in_cluster, plan) == [Resolution.ASKED]
    FixWorks(task_id="fix_works", plan=plan).resume(context(ti), told(passed("fix_works", "healthy")))
    assert outcomes(in_cluster, plan) == [Resolution.FIXED]


def state_with(in_cluster, plan, **known: Any):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE, **known))


def watch_on(plan, token) -> tuple[Ti, TaskDeferred | None]:
    ti = Ti(token, release(IMAGE))
    try:
        MonitoringAfterFix(task_id="monitoring_after_fix", plan=plan).execute(context(ti))
    except TaskDeferred as deferred:
        return ti, deferred
    return ti, None


@pytest.mark.parametrize(("left", "seconds"), [(500, 500), (5, 60)])
def test_after_a_fix_the_rest_of_the_monitoring_is_watched(in_cluster, plan, left, seconds):
    known = {"incidents": (incident(Resolution.NOTED), incident(Resolution.FIXED)), "watch_until": clock.epoch() + left}
    _, deferred = watch_on(plan, state_with(in_cluster, plan, **known))
    assert deferred.trigger.seconds == pytest.approx(seconds, abs=30 if left > 60 else 0)


@pytest.mark.parametrize(("known", "reason"), [
    ({}, "no incident"),
    ({"incidents": (incident(Resolution.NOTED),)}, "no incident"),
    ({"incidents": (incident(Resolution.FIXED),), "watch_until": clock.epoch() - 1}, "to the end of the monitoring"),
])  # fmt: skip
def test_nothing_is_left_to_watch(in_cluster, plan, known, reason):
    ti, deferred = watch_on(plan, state_with(in_cluster, plan, **known))
    assert deferred is None
    assert reason in evidence(ti).reason


def test_after_a_rollback_nothing_is_watched_on(in_cluster, plan):
    known = {
        "incidents": (incident(Resolution.FIXED), incident(Resolution.ROLLED_BACK)),
        "watch_until": clock.epoch() + 500,
    }
    with pytest.raises(AirflowFailException, match="30 % of answers failed"):
        watch_on(plan, state_with(in_cluster, plan, **known))


def told(found: Evidence) -> dict[str, Any]:
    return found.model_dump(mode="json")
