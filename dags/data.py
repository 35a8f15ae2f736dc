"""<plan>_seed fills a new database, <plan>_data_import brings history in from a CSV file (plan "Data Migration")."""

from __future__ import annotations

from airflow.sdk import chain

from handover.plan.model import Plan
from handover.workflows.dags import for_each_plan
from handover.workflows.data.dag import import_dag, seed_dag
from handover.workflows.data.steps import ImportRows, NobodyDeploys, SeedDatabase


def build(plan: Plan) -> None:
    with seed_dag(plan):
        chain(NobodyDeploys(task_id="nobody_deploys"), SeedDatabase(task_id="seed"))
    with import_dag(plan):
        chain(NobodyDeploys(task_id="nobody_deploys"), ImportRows(task_id="import_rows"))


for_each_plan(build, report_broken=False, section="data")
