"""Brings what tasks left to the ledger: at once when a task ends, and completely when a deployment does.

Open: a ledger that is away fails nothing and delays nothing. What could not be written at once still lies in the
XComs, and `complete` writes all of it.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from handover import clock
from handover.evidence_seal import SEAL, NotSealed, check
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import FencingToken
from handover.models.evidence import unknown
from handover.models.followup import ENDED_KEY, ENDED_TASK, Ended
from handover.models.message import ORIGIN_KEY, UNDELIVERED_KEY, Letter
from handover.models.record import DECISION_KEY, Deployment
from handover.ports.airflow import run_path
from handover.record.ledger import ledger
from handover.step import FENCING_KEY
from handover.workflows.deployment.overrides import SECOND_PERSON
from handover.workflows.recording.entries import FAILED, KEYS, SUCCESS, TaskRun, entries_of, incident_of
from handover.workflows.redelivery import steps as redelivery
from handover.workflows.rollback.start import OPEN_TASK, airflow_of, is_for, rollback_run_id

if TYPE_CHECKING:
    from handover.models.record import RecordEntry
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi

log = logging.getLogger(__name__)


def record_task(ti: Any, plan: Plan, error: object = None) -> None:
    """Writes what one task has left; runs in the task's own process after Airflow knows how the task ended, so nobody
    waits for it. Logs instead of raising.
    """
    try:
        deployment = _deployment(ti, plan)
        redelivery.hand_over_left(ti, plan, deployment or ti.run_id)
        entries = _of_running(ti, deployment, error) if deployment else []
        if entries and plan.record:
            ledger(plan.recorded.connection).write(entries)
    except Exception as problem:
        log.warning("not recorded now, but when the run ends: %s: %s", type(problem).__name__, problem)


def _deployment(ti: Any, plan: Plan) -> str:
    """Whose record this task belongs to; empty for a run that did nothing, or was refused and never a deployment."""
    if ti.dag_id in (plan.announcements_dag_id, plan.readiness_dag_id):  # no deployment yet: under their own run
        return str(ti.run_id)
    if ti.dag_id == plan.redelivery_dag_id:
        return str(ti.xcom_pull(task_ids=ti.task_id, key=ORIGIN_KEY) or "")
    if ti.dag_id == plan.followups_dag_id:
        ended = ti.xcom_pull(task_ids=ENDED_TASK, key=ENDED_KEY)
        return Ended.model_validate(ended).deployment if ended else ""
    if ti.task_id == SECOND_PERSON and ti.xcom_pull(task_ids=SECOND_PERSON, key=DECISION_KEY):
        return str(ti.run_id)  # also where it is a no, and never a deployment
    token = ti.xcom_pull(task_ids=getattr(ti.task, "opened_by", OPEN_TASK), key=FENCING_KEY)
    if token is None:
        return ""
    return FencingToken.model_validate(token).deployment if ti.dag_id == plan.rollback_dag_id else str(ti.run_id)


def _of_running(ti: Any, deployment: str, error: object) -> list[RecordEntry]:
    found = {key: value for key in KEYS if (value := ti.xcom_pull(task_ids=ti.task_id, key=key)) is not None}
    found |= {key + SEAL: ti.xcom_pull(task_ids=ti.task_id, key=key + SEAL) for key in list(found)}
    left = genuine((ti.dag_id, ti.run_id, ti.task_id), found)
    if not left and error is None:
        return []
    started = ti.start_date.timestamp() if ti.start_date else clock.epoch()
    state = FAILED if error is not None else SUCCESS
    task = TaskRun(
        ti.run_id, ti.task_id, type(ti.task).__name__, state, ti.try_number, started, clock.epoch(), _error_text(error)
    )
    return entries_of(deployment, task, left)


def genuine(place: tuple[str, str, str], left: Mapping[str, Any]) -> dict[str, Any]:
    """Of what lies in a task's XComs, what it left itself; what somebody else wrote is not recorded as the task's, and
    evidence of theirs is none.

    :param place: ids of its DAG, run and task
    :param left: with the seals
    """
    mine: dict[str, Any] = {}
    for key in (key for key in KEYS if key in left):
        try:
            check(place, key, left[key], left.get(key + SEAL))
            mine[key] = left[key]
        except NotSealed as error:
            log.warning("not recorded: %s", error)
            if key == EVIDENCE_KEY:
                mine[key] = unknown(place[-1], str(error)).model_dump(mode="json")
    return mine


def _error_text(error: object) -> str:
    return f"{type(error).__name__}: {error}"[:2000] if error is not None else ""


def complete(plan: Plan, deployment: str, more_runs: Iterable[str] = ()) -> int:
    """Writes everything that the runs of a deployment have left, and gives how many entries were new.

    Raises `AirflowError` or `psycopg.Error`; running it again is safe.

    :param more_runs: runs of the rollback DAG beside the one that is named after the deployment
    """
    airflow = airflow_of(plan)
    entries = _of_run(airflow, plan, plan.deployment_dag_id, deployment, deployment)
    for readiness in {e.readiness for e in entries if isinstance(e, Deployment) and e.readiness}:
        if airflow.find(run_path(plan.readiness_dag_id, readiness)):
            entries += _of_run(airflow, plan, plan.readiness_dag_id, readiness, readiness)
    more = tuple(more_runs)
    for rollback in dict.fromkeys((rollback_run_id(deployment), *more)):
        found = airflow.find(run_path(plan.rollback_dag_id, rollback))
        if found and (rollback in more or is_for(found, deployment)):  # a run of that id may be about anything
            entries += _of_run(airflow, plan, plan.rollback_dag_id, rollback, deployment)
            entries += incident_of(rollback, entries)
    return ledger(plan.recorded.connection).write(entries)


def complete_followups(plan: Plan, deployment: str, run_id: str) -> int:
    """The same for a run of the follow-ups, whose answers belong to the deployment that it is about."""
    return ledger(plan.recorded.connection).write(
        _of_run(airflow_of(plan), plan, plan.followups_dag_id, run_id, deployment)
    )


def _of_run(airflow: AirflowApi, plan: Plan, dag_id: str, run_id: str, deployment: str) -> list[RecordEntry]:
    path = f"{run_path(dag_id, run_id)}/taskInstances"
    keys = {*KEYS, *(key + SEAL for key in KEYS), UNDELIVERED_KEY}
    wanted = [e for e in airflow.pages(f"{path}/~/xcomEntries", "xcom_entries") if e["key"] in keys]
    left: dict[str, dict[str, Any]] = {}
    for entry in wanted:
        where = f"{path}/{quote(entry['task_id'], safe='')}/xcomEntries/{entry['key']}"
        left.setdefault(entry["task_id"], {})[entry["key"]] = airflow.get(where, deserialize="true")["value"]
    for one in left.values():  # what a task that was killed could not hand over itself
        redelivery.hand_over(plan, [Letter.model_validate(x) for x in one.pop(UNDELIVERED_KEY, ())], deployment)
    found: list[RecordEntry] = []
    for task in airflow.pages(path, "task_instances"):
        if task["state"] in (SUCCESS, FAILED) and task["start_date"]:
            one = genuine((dag_id, run_id, task["task_id"]), left.get(task["task_id"], {}))
            found += entries_of(deployment, _task_run(run_id, task), one)
    return found


def _task_run(run_id: str, task: Mapping[str, Any]) -> TaskRun:
    ended = task["end_date"] or task["start_date"]
    return TaskRun(
        run_id, task["task_id"], task["operator_name"] or "", task["state"], task["try_number"],
        _seconds(task["start_date"]), _seconds(ended),
    )  # fmt: skip


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
