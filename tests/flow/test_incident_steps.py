"""Fix or rollback, and the wait for the fix, as Airflow runs them: killed half-way, and begun again."""

from __future__ import annotations

import datetime
import time
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from pms.flow.incident_steps import FIX, FixOrRollback, FixWorks
from pms.kube import state
from pms.models.evidence import Evidence, failed, passed
from pms.models.incident import Incident, Outcome, Severity, began
from pms.people.operators import ROLLBACK
from pms.step import EVIDENCE_KEY
from tests.support.cluster import cluster, in_cluster, namespace, plan  # noqa: F401 - fixtures
from tests.support.steps import RUN_ID, Ti, opened, release

pytestmark = pytest.mark.sandbox
IMAGE = "registry.example.com/shop/web@sha256:1"


class Killed(BaseException):
    """The process is gone."""


class DyingTi(Ti):
    """Of a process that is killed when it would leave its evidence."""

    def xcom_push(self, key: str, value: Any) -> None:
        if key == EVIDENCE_KEY:
            raise Killed
        super().xcom_push(key, value)


def incident(outcome: Outcome) -> Incident:
    return began("error_rate", "30 % of answers failed", Severity.CRITICAL, time.time(), outcome)


@pytest.fixture
def ticket(in_cluster, plan):  # noqa: F811
    """Of a deployment with one critical incident that waits for the lead."""
    asked = (incident(Outcome.ASKED),)
    return in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE, incidents=asked))


def outcomes(in_cluster, plan) -> list[Outcome]:  # noqa: F811
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


def test_without_an_incident_both_steps_pass_at_once(in_cluster, plan):  # noqa: F811
    ticket = in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE))
    for kind in (FixOrRollback, FixWorks):
        ti = Ti(ticket, release(IMAGE))
        kind(task_id="step", plan=plan).execute(context(ti))
        assert evidence(ti).reason == "no incident"


def test_an_answer_of_rollback_stays_one_when_the_task_is_killed_before_it_fails(in_cluster, plan, ticket):  # noqa: F811
    step = FixOrRollback(task_id="fix_or_rollback", plan=plan)
    with pytest.raises(Killed):
        step.execute_complete(context(DyingTi(ticket, release(IMAGE))), answer(ROLLBACK))
    assert outcomes(in_cluster, plan) == [Outcome.ROLLED_BACK]
    again = Ti(ticket, release(IMAGE))
    with pytest.raises(AirflowFailException, match="Rollback by lead: 30 % of answers failed"):
        step.execute(context(again))
    assert not evidence(again).passed


def test_a_fix_that_did_not_work_stays_one_when_the_task_is_killed_before_it_fails(in_cluster, plan, ticket):  # noqa: F811
    step, event = FixWorks(task_id="fix_works", plan=plan), failed("fix_works", "nothing that was tried worked")
    with pytest.raises(Killed):
        step.resume(context(DyingTi(ticket, release(IMAGE))), told(event))
    assert outcomes(in_cluster, plan) == [Outcome.ROLLED_BACK]
    with pytest.raises(AirflowFailException, match="nothing that was tried worked"):
        step.execute(context(Ti(ticket, release(IMAGE))))


def test_an_answer_of_fix_lets_the_deployment_go_on_to_the_wait_for_it(in_cluster, plan, ticket):  # noqa: F811
    ti = Ti(ticket, release(IMAGE))
    FixOrRollback(task_id="fix_or_rollback", plan=plan).execute_complete(context(ti), answer(FIX))
    assert evidence(ti).passed
    assert outcomes(in_cluster, plan) == [Outcome.ASKED]
    FixWorks(task_id="fix_works", plan=plan).resume(context(ti), told(passed("fix_works", "healthy")))
    assert outcomes(in_cluster, plan) == [Outcome.FIXED]


def told(found: Evidence) -> dict[str, Any]:
    return {"samples": [], "evidence": found.model_dump(mode="json")}
