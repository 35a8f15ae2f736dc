"""<plan>_watchdog: looks after deployments and rollbacks that are under way, every minute.

A file of its own, and in Airflow a pool of its own: what goes wrong with the others must not reach it.
"""

from __future__ import annotations

from handover.plan.model import Plan
from handover.workflows.dags import for_each_plan
from handover.workflows.watchdog.dag import watchdog_dag
from handover.workflows.watchdog.steps import LookAfter


def build(plan: Plan) -> None:
    with watchdog_dag(plan):
        LookAfter(task_id="look_after")


for_each_plan(build, report_broken=False)
