"""<plan>_data_migration moves the data of existing customers in the background (plan "Data Migration Strategy"):
expand, backfill, compare, cutover. <plan>_data_migration_control pauses it, gives it up, and contracts later.
"""

from __future__ import annotations

from airflow.sdk import chain

from handover.plan.data_migrations import DataMigrations
from handover.plan.model import Plan
from handover.workflows.dags import for_each_plan
from handover.workflows.data.steps import NobodyDeploys
from handover.workflows.data_migration.dag import control_dag, migration_dag
from handover.workflows.data_migration.steps import (
    AskCutover,
    Backfill,
    CheckMigrations,
    Compare,
    Control,
    CutOver,
    Expand,
)


def build(plan: Plan) -> None:
    migrate(plan, plan.data_migrations)
    with control_dag(plan, plan.data_migrations):
        Control(task_id="control")


def migrate(plan: Plan, rules: DataMigrations) -> None:
    with migration_dag(plan):
        chain(
            NobodyDeploys(task_id="nobody_deploys"),
            CheckMigrations(task_id="check"),
            Expand(task_id="expand"),
            Backfill.partial(task_id="backfill", max_active_tis_per_dagrun=rules.at_once).expand(
                move=list(rules.tables)
            ),
            Compare.partial(task_id="compare", max_active_tis_per_dagrun=1).expand(move=list(rules.tables)),
            AskCutover(task_id="ask_cutover"),
            CutOver(task_id="cut_over", asked_by="ask_cutover"),
        )


for_each_plan(build, report_broken=False, section="data_migrations")
