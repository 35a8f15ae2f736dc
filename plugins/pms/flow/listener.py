"""Starts the rollback when a deployment run fails, wherever Airflow notices it.

It is called in the scheduler, and in the API server when a person marks the run failed; callbacks hear nothing of the
latter. Neither process may be held up, hence the thread.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from airflow.listeners import hookimpl

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    if dag_run.dag_id.endswith("_deployment"):
        threading.Thread(target=_roll_back, args=(dag_run.dag_id, dag_run.run_id, msg), daemon=True).start()


def _roll_back(dag_id: str, run_id: str, msg: str) -> None:
    from pms.flow.rollback import start_unless_refused
    from pms.plan.load import load_plans

    for plan in load_plans():
        if not isinstance(plan, ValueError) and plan.deployment_dag_id == dag_id:
            start_unless_refused(plan, run_id, msg or "the deployment run failed")
