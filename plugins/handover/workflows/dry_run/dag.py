"""What the dry run's DAG file is built with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import DAG

from handover.workflows.dags import FIRST_DAY, RETRIES
from handover.workflows.deployment.dag import deployment_form

if TYPE_CHECKING:
    from handover.plan.model import Plan


def dry_run_dag(plan: Plan) -> DAG:
    """The dry run of a plan, still empty, with the deployment's form. Nothing in it is given a ticket."""
    return DAG(
        dag_id=plan.dry_run_dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=2,
        is_paused_upon_creation=False,
        default_args={"plan": plan, "opened_by": "release", **RETRIES},
        params=deployment_form(plan),
        tags=[plan.name, "dry run"],
        doc_md=f"What `{plan.deployment_dag_id}` would do with a release, and whether it would. It changes nothing.",
    )
