"""Starts the rollback DAG through Airflow's REST API: the same way for branches, callbacks, listeners and people.

The run id is derived from the deployment's, so that starting it twice is starting it once. Anybody may start a run of
that id, though, so one that is there already is looked at before it is believed. All of this works where Airflow's own
`TriggerDagRun` does not: in callbacks that run in the DAG processor, and in listeners in the scheduler.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Any

from handover.coordination import state as states
from handover.models.deployment import Status
from handover.outside import outside
from handover.ports.airflow import run_path

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi

log = logging.getLogger(__name__)
OPEN_TASK = "open"
WATCHDOG_POOL = "watchdog"
LOOK_SECONDS = 5.0
"""For the cluster to say whether a rollback took a deployment over; callbacks have little time."""


def rollback_run_id(deployment: str) -> str:
    return f"rollback__{deployment}"


def start_rollback(plan: Plan, deployment: str, reason: str) -> str:
    """Starts the rollback of this deployment unless one is under way or took it over before; gives the rollback's run
    id. A run under that id which does something else, or ended before it did anything, does not count.

    Raises `AirflowError` when Airflow's API does not answer or refuses.
    """
    airflow, dag, run_id = airflow_of(plan), plan.rollback_dag_id, rollback_run_id(deployment)
    conf = {"reason": reason[:1000] or "a step failed", "deployment": deployment}
    if airflow.start(dag, run_id, conf):
        return run_id
    for alive in airflow.pages(f"/dags/{dag}/dagRuns?state=queued&state=running", "dag_runs"):
        if is_for(alive, deployment):
            return str(alive["dag_run_id"])
    if _is_taken_over(plan, deployment):
        return run_id
    log.warning("%s is there and rolls nothing back: another run is started", run_id)
    another = f"{run_id}__{secrets.token_hex(8)}"  # one that nobody can have started beforehand
    airflow.start(dag, another, conf)
    return another


def is_for(run: dict[str, Any], deployment: str) -> bool:
    """Whether a run of the rollback, as Airflow's API gives it, was started for this deployment."""
    return bool((run.get("conf") or {}).get("deployment") == deployment)


def _is_taken_over(plan: Plan, deployment: str) -> bool:
    """Whether the deployment is nothing that still goes on by itself: what Airflow says of a run that has ended may be
    of anybody's hand, the lock's state is not. A cluster that does not answer says nothing, and the rollback, which is
    harmless when it is not needed, is started.
    """

    async def look() -> DeploymentState | None:
        cluster = plan.cluster
        async with asyncio.timeout(LOOK_SECONDS), outside().kube(cluster.connection, cluster.namespace) as kube:
            return await states.read(kube, plan.lock_name)

    try:
        state = asyncio.run(look())
    except Exception:
        log.warning("the cluster did not say what became of %s", deployment, exc_info=True)
        return False
    return state is not None and (state.deployment != deployment or state.status is not Status.DEPLOYING)


def airflow_of(plan: Plan) -> AirflowApi:
    """This Airflow's own API."""
    return outside().airflow(plan.rollback.airflow_connection)


def opened_here(plan: Plan, deployment: str) -> str:
    """What only an Airflow with our password for its API can say of this deployment: it tells the Airflow that opened
    it from others that have the same plan and cluster. Raises `AirflowError` without a password.
    """
    return airflow_of(plan).seal(f"opened {deployment}")


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
