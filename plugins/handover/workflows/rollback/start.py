"""Starts the rollback DAG through Airflow's REST API: the same way for branches, callbacks, listeners and people.

The run id is derived from the deployment's, so that starting it twice is starting it once. It works where Airflow's
own `TriggerDagRun` does not: in callbacks that run in the DAG processor, and in listeners in the scheduler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from handover.outside import outside
from handover.ports.airflow import run_path

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi

log = logging.getLogger(__name__)
OPEN_TASK = "open"
WATCHDOG_POOL = "watchdog"


def rollback_run_id(deployment: str) -> str:
    return f"rollback__{deployment}"


def start_rollback(plan: Plan, deployment: str, reason: str) -> str:
    """Starts the rollback of this deployment unless it was started before; gives the rollback's run id.

    Raises `AirflowError` when Airflow's API does not answer or refuses.
    """
    run_id = rollback_run_id(deployment)
    conf = {"reason": reason[:1000] or "a step failed", "deployment": deployment}
    airflow_of(plan).start(plan.rollback_dag_id, run_id, conf)
    return run_id


def airflow_of(plan: Plan) -> AirflowApi:
    """This Airflow's own API."""
    return outside().airflow(plan.rollback.airflow_connection)


def was_opened(plan: Plan, deployment: str) -> bool:
    """Whether this run ever got the lock: a deployment that was refused has nothing to roll back."""
    path = f"{run_path(plan.deployment_dag_id, deployment)}/taskInstances/{OPEN_TASK}"
    return bool(airflow_of(plan).get(path)["state"] == "success")


def start_unless_refused(plan: Plan, deployment: str, reason: str) -> None:
    """For callbacks and listeners, which nobody waits for: logs instead of raising."""
    try:
        if was_opened(plan, deployment):
            log.warning("rollback %s: %s", start_rollback(plan, deployment, reason), reason)
    except Exception:
        log.exception("the rollback of %s could not be started from here", deployment)


def nets_problem(plan: Plan) -> str:
    """Why the rollback or the watchdog could not run now ("" when they could): checked before a deployment starts."""
    airflow = airflow_of(plan)
    for dag in (plan.rollback_dag_id, plan.watchdog_dag_id):
        if problem := dag_problem(airflow, dag):
            return f"the DAG {dag} {problem}: nobody could rely on it; mend that first"
    if airflow.find(f"/pools/{WATCHDOG_POOL}") is None:
        return f"there is no pool {WATCHDOG_POOL}: airflow pools set {WATCHDOG_POOL} 16 'One slot for each watchdog'"
    return ""


def dag_problem(airflow: AirflowApi, dag_id: str) -> str:
    """Why a run of this DAG would not go on, "" when it would."""
    found = airflow.find(f"/dags/{dag_id}")
    if found is None:
        return "does not exist"
    if found["is_paused"]:
        return "is paused"
    return "has import errors or is stale" if found["has_import_errors"] or found["is_stale"] else ""
