"""Starts the rollback DAG through Airflow's REST API: the same way for branches, callbacks, listeners and people.

The run id is derived from the deployment's, so that starting it twice is starting it once. It works where Airflow's
own `TriggerDagRun` does not: in callbacks that run in the DAG processor, and in listeners in the scheduler.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    import requests

    from pms.plan.model import Plan

log = logging.getLogger(__name__)
OPEN_TASK = "open"
TIMEOUT_SECONDS = 4.0
"""A worker kills callbacks after 20 s; the calls of one start together stay below that."""


def rollback_run_id(deployment: str) -> str:
    return f"rollback__{deployment}"


def start_rollback(plan: Plan, deployment: str, reason: str) -> str:
    """Starts the rollback of this deployment unless it was started before; gives the rollback's run id.

    Raises `requests.RequestException` when Airflow's API does not answer or refuses.
    """
    session, url = _session(plan)
    run_id = rollback_run_id(deployment)
    answer = session.post(
        f"{url}/api/v2/dags/{plan.rollback_dag_id}/dagRuns",
        json={
            "dag_run_id": run_id,
            "logical_date": None,
            "conf": {"reason": reason[:1000] or "a step failed", "deployment": deployment},
        },
        timeout=TIMEOUT_SECONDS,
    )
    if answer.status_code != 409:  # 409: somebody was quicker, which is all we want
        answer.raise_for_status()
    return run_id


def was_opened(plan: Plan, deployment: str) -> bool:
    """Whether this run ever got the lock: a deployment that was refused has nothing to roll back."""
    session, url = _session(plan)
    run = f"{url}/api/v2/dags/{plan.deployment_dag_id}/dagRuns/{quote(deployment, safe='')}"
    answer = session.get(f"{run}/taskInstances/{OPEN_TASK}", timeout=TIMEOUT_SECONDS)
    answer.raise_for_status()
    return answer.json()["state"] == "success"


def start_unless_refused(plan: Plan, deployment: str, reason: str) -> None:
    """For callbacks and listeners, which nobody waits for: logs instead of raising."""
    try:
        if was_opened(plan, deployment):
            log.warning("rollback %s: %s", start_rollback(plan, deployment, reason), reason)
    except Exception:
        log.exception("the rollback of %s could not be started from here", deployment)


def rollback_dag_problem(plan: Plan) -> str:
    """Why the rollback DAG could not run now ("" when it could): checked before a deployment starts."""
    session, url = _session(plan)
    answer = session.get(f"{url}/api/v2/dags/{plan.rollback_dag_id}", timeout=TIMEOUT_SECONDS)
    if answer.status_code == 404:
        return f"the DAG {plan.rollback_dag_id} does not exist"
    answer.raise_for_status()
    found = answer.json()
    if found["is_paused"]:
        return f"the DAG {plan.rollback_dag_id} is paused: a rollback would wait for ever; unpause it first"
    if found["has_import_errors"] or found["is_stale"]:
        return f"the DAG {plan.rollback_dag_id} has import errors or is stale; mend it first"
    return ""


def _session(plan: Plan) -> tuple[requests.Session, str]:
    """A session with a token for Airflow's API, from the connection's login and password."""
    import requests
    from airflow.sdk import BaseHook

    from pms.http import base_url

    connection = BaseHook.get_connection(plan.rollback.airflow_connection)
    url = base_url(connection)
    session = requests.Session()
    token = session.post(
        f"{url}/auth/token",
        json={"username": connection.login, "password": connection.password},
        timeout=TIMEOUT_SECONDS,
    )
    token.raise_for_status()
    session.headers["Authorization"] = f"Bearer {token.json()['access_token']}"
    return session, url
