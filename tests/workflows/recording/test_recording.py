"""What a task left is in the ledger under the right name: also of announcements, which have no deployment yet."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import passed
from handover.models.message import ORIGIN_KEY, UNDELIVERED_KEY, Letter
from handover.models.record import DECISION_KEY, MESSAGES_KEY, Decision, SentMessage
from handover.outside import Outside, standing_in
from handover.people.sealing import sealed
from handover.ports.airflow import run_path
from handover.workflows import listener
from handover.workflows.deployment.overrides import SECOND_PERSON
from handover.workflows.recording.tasks import complete, record_task
from tests.record.conftest import book, connected, empty, plan, server  # noqa: F401 - fixtures
from tests.support.task import RUN, Ti
from tests.support.web import Answer, serving
from tests.twins.airflow import TwinAirflow

DECISION = Decision(at=1.0, question="Are all there?", choice="No", who="Lea").model_dump(mode="json")


def message(problem=""):
    return SentMessage(at=2.0, channel="e-mail", text="hello", problem=problem).model_dump(mode="json")


def task(dag_id, task_id, **left):
    ti = Ti(task_id)
    ti.dag_id, ti.task = dag_id, SimpleNamespace(opened_by="open")
    for key, value in left.items():
        leave(ti, key, value)
    return ti


def rows(kept, table):
    query = f"SELECT deployment, run, step FROM {table}".encode()
    with kept.writer.connect() as connection:
        return connection.execute(query).fetchall()


@pytest.mark.parametrize("dag_id", ["pms_announcements", "pms_readiness"])
def test_decisions_and_messages_before_a_deployment_are_recorded_under_their_own_run(connected, plan, dag_id):  # noqa: F811
    left = {DECISION_KEY: DECISION, MESSAGES_KEY: [message()]}
    record_task(task(dag_id, "day_before.team_available", **left), plan)
    for table in ("decisions", "messages"):
        assert rows(connected, table) == [(RUN, RUN, "day_before.team_available")]


def test_what_somebody_wrote_in_a_tasks_name_is_not_recorded_as_its_own(connected, plan):  # noqa: F811
    ti = task("pms_readiness", "owner", **{MESSAGES_KEY: [message()]})
    ti.xcom_push(DECISION_KEY, DECISION)
    ti.xcom_push(EVIDENCE_KEY, passed("owner", "trust me").model_dump(mode="json"))
    record_task(ti, plan)
    assert (rows(connected, "decisions"), rows(connected, "messages")) == ([], [(RUN, RUN, "owner")])
    with connected.writer.connect() as connection:
        found = connection.execute("SELECT verdict, reason FROM checks").fetchall()
    assert found == [("unknown", "evidence of owner was not made by its step")]


def test_a_redelivery_is_recorded_under_the_deployment_that_it_is_for(connected, plan):  # noqa: F811
    left = {ORIGIN_KEY: "the deployment", MESSAGES_KEY: [message("given up: OSError")]}
    record_task(task("pms_redelivery", "redeliver", **left), plan, "given up")
    assert rows(connected, "messages") == [("the deployment", RUN, "redeliver")]


@pytest.mark.parametrize("dag_id", ["pms_deployment", "pms_rollback", "pms_redelivery"])
def test_a_run_that_was_never_a_deployment_is_not_recorded(connected, plan, dag_id):  # noqa: F811
    record_task(task(dag_id, "open", **{MESSAGES_KEY: [message()]}), plan)
    assert rows(connected, "messages") == []


@pytest.mark.parametrize("hook", [listener.on_task_instance_success, listener.on_task_instance_skipped])
def test_a_task_that_skips_itself_is_recorded_like_any_other(connected, plan, hook):  # noqa: F811
    ti = task("pms_announcements", "day_before.moment", **{MESSAGES_KEY: [message()]})
    ti.task.plan = plan
    hook(previous_state=None, task_instance=ti)
    assert rows(connected, "messages") == [(RUN, RUN, "day_before.moment")]


def test_what_a_second_person_said_of_overrides_is_recorded_also_where_it_ends_the_run(connected, plan):  # noqa: F811
    record_task(task("pms_deployment", SECOND_PERSON, **{DECISION_KEY: DECISION}), plan)
    assert rows(connected, "decisions") == [(RUN, RUN, SECOND_PERSON)]
    record_task(task("pms_deployment", SECOND_PERSON, **{MESSAGES_KEY: [message()]}), plan)  # nobody was asked
    assert rows(connected, "messages") == []


LETTER = Letter(key="k", kind="slack", to=("#pms-deployments",), text="hello", at=1.0)


class Airflow:
    """Airflow's API, with one task that was killed before it could hand over what it had not delivered."""

    def __init__(self):
        self.started, self.left = [], []

    def __call__(self, asked):
        path = asked.path.partition("?")[0]
        if asked.method == "POST":
            self.started.append(asked.body)
            return Answer(200, {"access_token": "t"})
        if path.endswith("/~/xcomEntries"):
            entries = [{"task_id": "phase.task", "key": UNDELIVERED_KEY}]
            return Answer(200, {"total_entries": 1, "xcom_entries": entries})
        if path.endswith(f"/xcomEntries/{UNDELIVERED_KEY}"):
            return Answer(200, {"value": self.left})
        if path.endswith("/taskInstances"):
            return Answer(200, {"total_entries": 0, "task_instances": []})
        return Answer(404, {})


def test_the_end_of_a_run_hands_over_what_a_killed_task_could_not(connected, plan, monkeypatch):  # noqa: F811
    airflow = Airflow()
    with serving(airflow) as web:
        connection = {"conn_type": "http", "host": web.url, "login": "me", "password": "x"}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_AIRFLOW", json.dumps(connection))
        airflow.left = [one.model_dump(mode="json") for one in (*sealed(plan, [LETTER]), LETTER)]
        assert complete(plan, RUN) == 0
    (conf,) = [body["conf"] for body in airflow.started if "conf" in body]
    assert (conf["deployment"], conf["letter"]["text"]) == (RUN, "hello")


@pytest.mark.parametrize(("about", "recorded"), [(RUN, [(RUN, f"rollback__{RUN}", "close")]), ("another", [])])
def test_a_run_under_the_rollbacks_id_is_recorded_only_if_it_was_for_this_deployment(connected, plan, about, recorded):  # noqa: F811
    airflow = TwinAirflow(started={(plan.rollback_dag_id, f"rollback__{RUN}"): {"deployment": about}})
    for dag, run, tasks in ((plan.deployment_dag_id, RUN, []), (plan.rollback_dag_id, f"rollback__{RUN}", [CLOSED])):
        path = f"{run_path(dag, run)}/taskInstances"
        airflow.answers |= {path: {"task_instances": tasks}, f"{path}/~/xcomEntries": {"xcom_entries": []}}
    with standing_in(Outside(airflow=lambda _: airflow)):
        complete(plan, RUN)
    assert rows(connected, "checks") == recorded


CLOSED = {
    "task_id": "close", "operator_name": "Close", "state": "failed", "try_number": 1,
    "start_date": "2026-11-24T14:00:00Z",
    "end_date": "2026-11-24T14:00:01Z",
}  # fmt: skip
