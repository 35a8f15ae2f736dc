"""What the rollback's DAG file is built with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG, Param

from handover.workflows.dags import FIRST_DAY, RETRIES
from handover.workflows.deployment.request import MIN_REASON

if TYPE_CHECKING:
    from handover.plan.model import Plan


def rollback_dag(plan: Plan) -> DAG:
    """The rollback DAG of a plan, still empty. It is never itself rolled back."""
    return DAG(
        dag_id=plan.rollback_dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=4,  # a stuck rollback must not hold up the next one; the lock keeps them apart
        is_paused_upon_creation=False,
        default_args={"plan": plan, "opened_by": "move_traffic_back", **RETRIES},
        params={
            "reason": Param("rolled back by hand", type="string", minLength=MIN_REASON, title="Reason"),
            "deployment": Param(
                None, type=["null", "string"], title="Deployment run",
                description="Run id of the deployment to roll back; empty: the current one",
            ),
        },
        tags=[plan.name, "rollback"],
        doc_md=f"Brings the previous version of {plan.title} back: traffic first, then everything else.",
    )  # fmt: skip
