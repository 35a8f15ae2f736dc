"""Starts the rollback when a deployment run fails, wherever Airflow notices it; records every task that ends, and
keeps the run's note.

A failed run is heard of in the scheduler, and in the API server when a person marks it failed; callbacks hear nothing
of the latter. Neither process may be held up, hence the thread. A task that ends is heard of in its own process, after
Airflow has been told; there the record may take its time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    if dag_run.dag_id.endswith("_deployment"):
        threading.Thread(target=_roll_back, args=(dag_run.dag_id, dag_run.run_id, msg), daemon=True).start()


@hookimpl
def on_task_instance_success(previous_state: Any, task_instance: Any) -> None:
    _record(task_instance, None)


@hookimpl
def on_task_instance_skipped(previous_state: Any, task_instance: Any) -> None:
    _record(task_instance, None)


@hookimpl
def on_task_instance_failed(previous_state: Any, task_instance: Any, error: Any) -> None:
    _record(task_instance, error or "failed")


def _record(task_instance: Any, error: object) -> None:
    """Only in the task's own process does a task know its plan; the scheduler, which hears of killed tasks, has no
    time for this.
    """
    plan = getattr(getattr(task_instance, "task", None), "plan", None)
    if plan is not None:
        from handover.workflows.recording.notes import note_run
        from handover.workflows.recording.tasks import record_task

        note_run(task_instance, plan, error)
        record_task(task_instance, plan, error)


def _roll_back(dag_id: str, run_id: str, msg: str) -> None:
    from handover.plan.load import load_plans
    from handover.workflows.rollback.start import start_unless_refused

    for plan in load_plans():
        if not isinstance(plan, ValueError) and plan.deployment_dag_id == dag_id:
            start_unless_refused(plan, run_id, msg or "the deployment run failed")
