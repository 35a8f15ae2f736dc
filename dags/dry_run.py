"""<plan>_dry_run: what a deployment of this release would do now, and whether it would go out. It changes nothing."""

from __future__ import annotations

from airflow.sdk import TaskGroup

from handover.checks.operators import RecentErrors
from handover.checks.sensors import StagingHealthy
from handover.database.sensors import ReplicationLag
from handover.plan.model import Plan
from handover.workflows.dags import for_each_plan
from handover.workflows.dry_run.dag import dry_run_dag
from handover.workflows.dry_run.steps import (
    MayBegin,
    ReleaseToTry,
    Summary,
    WouldDeploy,
    WouldMigrate,
    WouldSwitch,
    WouldTell,
)
from handover.workflows.readiness.checks import DataChecks


def build(plan: Plan) -> None:
    limit = plan.thresholds.max_replication_lag_seconds
    with dry_run_dag(plan):
        release = ReleaseToTry(task_id="release")
        with TaskGroup("checks", tooltip="1.1, 2.3, 3.1: what only looks") as checks:
            MayBegin(task_id="may_begin")
            StagingHealthy(task_id="staging_health")
            RecentErrors(task_id="recent_errors")
            ReplicationLag(task_id="replication_lag", limit_seconds=limit)
            DataChecks(task_id="data_checks")
        with TaskGroup("changes", tooltip="2.2, 3.2: what would be different") as changes:
            WouldDeploy(task_id="deploy_idle_colour")
            WouldSwitch(task_id="switch_traffic")
            WouldMigrate(task_id="execute_migration")
            WouldTell(task_id="messages")
        reads = [task.task_id for group in (checks, changes) for task in group.iter_tasks()]
        release >> [checks, changes] >> Summary(task_id="summary", reads=reads)


for_each_plan(build, report_broken=False)
