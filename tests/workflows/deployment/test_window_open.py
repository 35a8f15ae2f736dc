"""Phase 2 begins in the plan's window: before it the step waits without a worker, after it nothing is switched."""

from __future__ import annotations

import datetime
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover import clock
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import FencingToken
from handover.models.evidence import Evidence
from handover.plan.change import OverrideRules
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.workflows.deployment.deciding import WindowOpen
from tests.support.steps import RUN_ID, Ti, release

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
TOKEN = FencingToken(deployment=RUN_ID, generation=1, stable="blue", preview="green")
ASKED = release("registry.example.com/shop/web:v1.1.0")
TUESDAY = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)


def begun_at(monkeypatch, hour: float, asked=ASKED, plan=PLAN) -> Ti:
    monkeypatch.setattr(clock, "utc", lambda: TUESDAY + datetime.timedelta(hours=hour))
    ti = Ti(TOKEN, asked)
    context: Any = {"run_id": RUN_ID, "ti": ti}
    WindowOpen(task_id="window_open", plan=plan).execute(context)
    return ti


@pytest.mark.plan("Cutover happens during low-traffic window")
def test_before_the_window_it_waits_until_it_opens(monkeypatch):
    with pytest.raises(TaskDeferred) as deferred:
        begun_at(monkeypatch, 12)
    assert deferred.value.trigger.moment == TUESDAY + datetime.timedelta(hours=14)


def test_in_the_window_it_goes_on(monkeypatch):
    evidence = Evidence.model_validate(begun_at(monkeypatch, 15).pushed[EVIDENCE_KEY])
    assert evidence.passed
    assert evidence.reason == "open until 18:00 UTC"


@pytest.mark.plan("Time: 2:00 PM - 6:00 PM UTC", "Cutover happens during low-traffic window")
def test_a_window_that_closed_while_it_waited_switches_nothing(monkeypatch):
    monkeypatch.setattr(clock, "utc", lambda: TUESDAY + datetime.timedelta(hours=18, minutes=1))
    context: Any = {"run_id": RUN_ID, "ti": Ti(TOKEN, ASKED)}
    with pytest.raises(AirflowFailException, match="window has closed; nothing was switched"):
        WindowOpen(task_id="window_open", plan=PLAN).execute_complete(context)


def test_an_override_waits_for_nothing(monkeypatch):
    asked = ASKED.model_copy(update={"window_override": True, "window_override_reason": "security fix"})
    one_is_enough = PLAN.model_copy(update={"overrides": OverrideRules(second_person=frozenset())})
    evidence = Evidence.model_validate(begun_at(monkeypatch, 3, asked, one_is_enough).pushed[EVIDENCE_KEY])
    assert evidence.reason == "overridden: security fix"
