"""What the watchdog calls a problem: pure, by what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handover.models.deployment import Status
from handover.models.heartbeat import Heartbeat
from handover.workflows.watchdog.problems import OpenQuestion, Run, Seen, problems
from tests.workflows.watch.test_response import state

SILENT_SECONDS = 30.0
GOOD = Seen(
    at=1000.0, state=state(), beats=[Heartbeat(watcher="airflow", at=990.0)], exposed_at=500.0,
    deployment=Run("run", "running"), rollback=Run("rollback__run", None),
    dags={"web_deployment": "", "web_rollback": ""},
)  # fmt: skip
BACK = replace(
    GOOD, state=state(status=Status.ROLLING_BACK, generation=8), beats=[],
    rollback=Run("rollback__run", "running", 900.0, began=True),
)  # fmt: skip


def found(seen: Seen) -> list[tuple[str, bool]]:
    return [(one.key, one.roll_back) for one in problems(seen, SILENT_SECONDS)]


def test_what_goes_on_as_it_should_is_no_problem():
    assert found(GOOD) == found(BACK) == []
    assert found(replace(GOOD, exposed_at=None, beats=[])) == []  # clients do not meet it yet
    assert found(replace(GOOD, questions=[OpenQuestion("acceptance", 1000.0)])) == []
    assert found(replace(BACK, rollback=Run("rollback__run", "queued", 900.0))) == []


@pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.ROLLED_BACK, Status.GIVEN_UP])
def test_what_has_ended_is_nobodys_problem(status):
    gone = replace(GOOD, state=state(status=status), deployment=Run("run", None), beats=[], dags={"web": "is paused"})
    assert found(gone) == []


@pytest.mark.parametrize("how", ["failed", "success", None])
def test_a_deployment_without_a_live_run_is_rolled_back(how):
    assert found(replace(GOOD, deployment=Run("run", how))) == [("deployment without a run", True)]


def test_a_deployment_of_another_airflow_is_told_and_its_watch_alone_looked_after():
    other = replace(GOOD, ours=False, deployment=Run("run", None))
    assert found(other) == [("another airflow", False)]
    assert found(replace(other, at=1020.1)) == [("another airflow", False), ("silent watch", True)]
    assert found(replace(other, state=state(status=Status.ROLLING_BACK), beats=[])) == [("another airflow", False)]
    assert found(replace(other, state=state(status=Status.SUCCEEDED))) == []
    assert found(replace(other, deployment=GOOD.deployment)) == []  # it is known here: only the password is another


def test_a_silent_watch_is_rolled_back():
    assert found(replace(GOOD, at=1020.0)) == []
    assert found(replace(GOOD, at=1020.1)) == [("silent watch", True)]
    assert found(replace(GOOD, beats=[])) == [("silent watch", True)]
    assert found(replace(GOOD, beats=[], exposed_at=970.0)) == []  # it has only just begun to meet clients
    another = Heartbeat(watcher="service", at=1015.0)
    assert found(replace(GOOD, at=1040.0, beats=[*GOOD.beats, another])) == []


def test_an_overdue_question_is_told():
    assert found(replace(GOOD, questions=[OpenQuestion("acceptance", 999.0)])) == [("question acceptance", False)]


@pytest.mark.parametrize(("run", "wanted"), [
    (Run("r", "failed"), "rollback failed"), (Run("r", None), "rollback None"),
    (Run("r", "success"), "rollback success"), (Run("r", "queued", 800.0), "rollback waits"),
])  # fmt: skip
def test_a_rollback_that_does_not_move_is_told_and_not_rolled_back(run, wanted):
    assert found(replace(BACK, rollback=run)) == [(wanted, False)]


def test_a_rollback_that_failed_is_told_while_it_holds_the_lock():
    failed = replace(BACK, state=state(status=Status.ROLLBACK_FAILED, generation=8), rollback=Run("r", "failed"))
    assert found(failed) == [("rollback failed", False)]


def test_a_dag_that_does_not_go_on_is_told():
    assert found(replace(GOOD, dags={"web_deployment": "is paused", "web_rollback": ""})) == [
        ("dag web_deployment is paused", False)
    ]
