"""The note of a run says where it stands, and of one that was refused why."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from handover.checks.operators import Baseline
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import FencingToken
from handover.models.evidence import passed
from handover.models.record import DECISION_KEY, Decision
from handover.outside import Outside, standing_in
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.step import FENCING_KEY, RELEASE_KEY
from handover.traffic.operators import MoveTrafficBack, SwitchTraffic
from handover.workflows import listener
from handover.workflows.deployment.closing import Close
from handover.workflows.deployment.deciding import Decide, RollBack
from handover.workflows.deployment.opening import Open, ReleaseDue
from handover.workflows.recording import tasks
from handover.workflows.recording.notes import MAX, SAID_BY, note_run
from tests.support.steps import release
from tests.support.task import RUN, Ti
from tests.twins.airflow import TwinAirflow

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
DEPLOYMENT, ROLLBACK = (PLAN.deployment_dag_id, RUN), (PLAN.rollback_dag_id, RUN)
ASKED = {("release_due", RELEASE_KEY): release("i", "v9.9.9").model_dump(mode="json")}
TOKEN = FencingToken(deployment="manual__1", generation=2, stable="blue", preview="green").model_dump(mode="json")


@pytest.fixture
def airflow():
    found = TwinAirflow()
    with standing_in(Outside(airflow=lambda _connection: found)):
        yield found


@pytest.fixture
def ended(dag_bag):
    """A task of this kind that is over."""

    def find(kind: type, dag_id: str, found: Any = None, **left: Any) -> Ti:
        task = next(one for dag in dag_bag.dags.values() for one in dag.tasks if type(one) is kind)
        ti = Ti(task.task_id, found)
        ti.dag_id, ti.pushed, ti.task = dag_id, left, task
        return ti

    return find


@pytest.mark.parametrize(("kind", "found", "note"), [
    (Open, ASKED, "v9.9.9: refused: nothing was touched: the registry has no v9.9.9"),
    (ReleaseDue, {}, "refused: nothing was touched: the registry has no v9.9.9"),
])  # fmt: skip
def test_a_refused_run_says_why(ended, airflow, monkeypatch, kind, found, note):
    monkeypatch.setattr(tasks, "record_task", lambda *_: None)
    error = AirflowFailException("nothing was touched: the registry has no v9.9.9")
    listener.on_task_instance_failed(None, ended(kind, DEPLOYMENT[0], found), error)
    assert airflow.notes == {DEPLOYMENT: note}


@pytest.mark.parametrize(("kind", "left", "note"), [
    (Open, {EVIDENCE_KEY: passed("open", "v9.9.9 is to go to green").model_dump()}, "v9.9.9 is to go to green"),
    (SwitchTraffic, {EVIDENCE_KEY: passed("s", "clients meet it").model_dump()}, "v9.9.9: clients meet it"),
    (Decide, {DECISION_KEY: Decision(at=1, question="After phase 1", choice="Proceed", who="x", why="all is well")
              .model_dump()}, "v9.9.9: After phase 1: Proceed"),
    (Decide, {DECISION_KEY: Decision(at=1, question="After phase 1", choice="Rollback", who="x", why="it is slow")
              .model_dump()}, "v9.9.9: After phase 1: Rollback: it is slow"),
    (Close, {EVIDENCE_KEY: passed("close", "v9.9.9: succeeded").model_dump()}, "v9.9.9: succeeded"),
])  # fmt: skip
def test_the_note_says_version_and_where_it_stands(ended, airflow, kind, left, note):
    note_run(ended(kind, DEPLOYMENT[0], ASKED, **left), PLAN)
    assert airflow.notes == {DEPLOYMENT: note}


def test_a_rollback_says_it_on_its_own_run_and_on_the_deployments(ended, airflow):
    left = {EVIDENCE_KEY: passed("back", "traffic is back on blue").model_dump(), FENCING_KEY: TOKEN}
    ti = ended(MoveTrafficBack, ROLLBACK[0], **left)
    note_run(ti, PLAN)
    assert airflow.notes == {
        ROLLBACK: "traffic is back on blue",
        (PLAN.deployment_dag_id, "manual__1"): f"traffic is back on blue (pms_rollback: {RUN})",
    }


def test_what_changes_nothing_of_where_it_stands_notes_nothing(ended, airflow):
    left = {EVIDENCE_KEY: passed("b", "fast").model_dump()}
    note_run(ended(Baseline, DEPLOYMENT[0], **left), PLAN)
    note_run(ended(Open, "pms_dry_run", **left), PLAN)
    skipped = {DECISION_KEY: Decision(at=1, question="Roll back?", choice="Roll back", who="x").model_dump()}
    note_run(ended(MoveTrafficBack, ROLLBACK[0], **skipped), PLAN)
    assert airflow.notes == {}


def test_secrets_and_length_are_no_matter_and_an_airflow_that_is_away_harms_nobody(ended, airflow):
    error = AirflowFailException("postgres://app:hunter2@db/x refused " + "x" * 2000)
    note_run(ended(Open, DEPLOYMENT[0], ASKED), PLAN, error)
    (note,) = airflow.notes.values()
    assert len(note) == MAX and "hunter2" not in note
    airflow.away = True
    note_run(ended(Open, DEPLOYMENT[0], ASKED), PLAN, error)


def test_who_speaks_is_in_the_dags(dag_bag):
    there = {type(t).__name__ for dag in dag_bag.dags.values() for t in dag.tasks}
    assert there >= SAID_BY


def test_of_a_run_that_was_refused_there_is_no_red_rollback():
    net = RollBack(task_id="roll_back_on_failure", plan=PLAN)
    with pytest.raises(AirflowSkipException):
        net.execute({"ti": Ti("roll_back_on_failure"), "run_id": RUN})


def test_a_refused_run_fails_by_its_end_though_the_net_is_skipped(dag_bag):
    """Airflow asks the leaves: `end` is upstream_failed, as everything behind `open` is, with no skip among it."""
    deployment = dag_bag.dags[DEPLOYMENT[0]]
    assert deployment.get_task("end").downstream_task_ids == set()
    assert "roll_back_on_failure" not in deployment.get_task("end").get_flat_relative_ids(upstream=True)
