"""Open questions of a deployment that is rolled back are withdrawn, and say why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handover.foundation import EVIDENCE_KEY
from handover.outside import outside, standing_in
from handover.ports.airflow import run_path
from handover.workflows.rollback.steps import WithdrawQuestions
from tests.support.steps import RUN_ID, Ti, release
from tests.twins.airflow import TwinAirflow
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

PATH = f"{run_path('pms_deployment', RUN_ID)}/hitlDetails"


TASKS = f"{run_path('pms_deployment', RUN_ID)}/taskInstances"


def question(task: str, state: str, answered: bool = False) -> dict:
    return {"task_instance": {"task_id": task, "state": state}, "response_received": answered}


@pytest.fixture
def airflow():
    return TwinAirflow({
        TASKS: {"task_instances": []},
        PATH: {
            "hitl_details": [
                question("briefing", "success", answered=True), question("acceptance", "awaiting_input"),
                question("fix_or_rollback", "failed"),
            ]
        }
    })  # fmt: skip


def withdrawn(world, airflow) -> str:  # noqa: F811
    ti = Ti(world.token, release("x"))
    step = WithdrawQuestions(task_id="withdraw_questions", plan=world.plan)
    with standing_in(replace(outside(), airflow=lambda _connection: airflow)):
        step.execute({"run_id": "rollback", "ti": ti, "params": {"reason": "error_rate: half of them"}})
    assert ti.pushed[EVIDENCE_KEY]["verdict"] == "pass"
    return ti.pushed[EVIDENCE_KEY]["reason"]


def test_what_is_open_is_withdrawn_with_the_reason_of_the_rollback(world, airflow):  # noqa: F811
    assert withdrawn(world, airflow) == "withdrawn: acceptance"
    assert airflow.failed == {
        ("pms_deployment", RUN_ID, "acceptance"): "withdrawn, the deployment is rolled back: error_rate: half of them"
    }


def test_nothing_open_is_nothing_to_withdraw(world, airflow):  # noqa: F811
    airflow.answers[PATH]["hitl_details"] = []
    assert withdrawn(world, airflow) == "no question is open"


def test_the_wait_for_the_window_ends_too_and_nothing_that_works(world, airflow):  # noqa: F811
    airflow.answers[TASKS]["task_instances"] = [
        {"task_id": "phase_2.window_open", "operator_name": "WindowOpen", "state": "deferred"},
        {"task_id": "watch", "operator_name": "Watch", "state": "deferred"},
        {"task_id": "phase_1.window_open", "operator_name": "WindowOpen", "state": "success"},
    ]
    assert withdrawn(world, airflow) == "withdrawn: acceptance, phase_2.window_open"


def test_an_airflow_that_is_away_stops_no_rollback(world, airflow):  # noqa: F811
    airflow.away = True
    assert withdrawn(world, airflow) == "questions may still be open: Airflow did not answer"
