"""What the watchdog's DAG file is built with."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable

from handover.workflows.dags import FIRST_DAY
from handover.workflows.rollback.start import WATCHDOG_POOL

if TYPE_CHECKING:
    from handover.plan.model import Plan


def watchdog_dag(plan: Plan) -> DAG:
    """The watchdog of a plan, still empty: a run every minute, in a pool that nothing else fills."""
    return DAG(
        dag_id=plan.watchdog_dag_id,
        schedule=CronTriggerTimetable("* * * * *", timezone="UTC"),
        start_date=FIRST_DAY,
        catchup=False,
        max_active_runs=1,
        dagrun_timeout=datetime.timedelta(minutes=5),
        is_paused_upon_creation=False,
        default_args={"plan": plan, "pool": WATCHDOG_POOL, "retries": 0},
        tags=[plan.name, "watchdog"],
        doc_md=f"Looks after deployments and rollbacks of {plan.title} from outside: a run that is gone, a watch that "
        "is silent, a question that is overdue, a rollback that does not move.",
    )
