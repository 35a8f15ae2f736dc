"""What the follow-ups' DAG file is built with: the DAG of a plan, its form, and its groups with their time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param, TaskGroup, TriggerRule

from handover.models.followup import ENDED_TASK
from handover.workflows.dags import FIRST_DAY, RETRIES
from handover.workflows.deployment.closing import ended_asset
from handover.workflows.followups.steps import DeploymentEnded, Due, UpdateLog
from handover.workflows.redelivery.steps import HandOver

if TYPE_CHECKING:
    from handover.plan.model import Plan


def followups_dag(plan: Plan) -> DAG:
    """The follow-ups' DAG of a plan, still empty. It changes nothing in production."""
    return DAG(
        dag_id=plan.followups_dag_id,
        schedule=[ended_asset(plan)],
        start_date=FIRST_DAY,
        catchup=False,
        max_active_runs=16,  # each lives for a week and more, beside those of the next deployments
        is_paused_upon_creation=False,
        # no timeout of a whole task: Airflow would count the waiting too
        default_args={
            "plan": plan, "opened_by": ENDED_TASK, "notifiers": [HandOver(plan)], **RETRIES, "execution_timeout": None,
        },
        params={
            "deployment": Param(
                None, type=["null", "string"], title="Deployment run",
                description="Run id of a deployment that has ended; only for a run by hand",
            ),
        },
        tags=[plan.name, "followups"],
        doc_md=f"What the plan wants after `{plan.deployment_dag_id}` or `{plan.rollback_dag_id}` has ended.",
    )  # fmt: skip


@contextmanager
def due_after(ended: DeploymentEnded, plan: Plan, name: str, tooltip: str, seconds: float) -> Iterator[None]:
    """A group that begins so many seconds after the deployment's end, and ends with the deployment log.

    What is made inside waits for that time, unless it has been given something else to wait for.
    """
    with TaskGroup(name, tooltip=tooltip) as group:
        due = Due(task_id="due", plan=plan, seconds=seconds)
        yield
        steps = [task for task in group.iter_tasks() if task is not due]
        late = [task for task in steps if not task.upstream_task_ids]
        log = UpdateLog(task_id="update_deployment_log", plan=plan, trigger_rule=TriggerRule.ALL_DONE)
        ended >> due >> late
        [due, *steps] >> log
