"""<plan>_rollback: the previous version comes back, in the steps of the plan's rollback procedure; traffic first.

A file of its own: what goes wrong with the deployment's file must not reach it.
"""

from __future__ import annotations

from airflow.sdk import TaskGroup, TriggerRule, chain

from handover.checks.operators import KeyEndpoints
from handover.checks.sensors import Healthy
from handover.database.operators import RollBackDatabase
from handover.models.deployment import Status
from handover.people import messages
from handover.people.operators import Announce, Banner, OpenTicket
from handover.plan.model import Plan
from handover.traffic.operators import DrainColour, MoveTrafficBack
from handover.workflows.dags import for_each_plan, report_after
from handover.workflows.deployment.closing import Close
from handover.workflows.recording.report import Report
from handover.workflows.rollback.dag import rollback_dag
from handover.workflows.rollback.steps import HowFar, WithdrawQuestions
from handover.workflows.watch.steps import WatchStable
from handover.workload.operators import ReleaseCommand
from handover.workload.scale_down import RemoveIdleColour


def build(plan: Plan) -> None:
    api, health = plan.traffic.api_connection, plan.health
    with rollback_dag(plan):
        back = MoveTrafficBack(task_id="move_traffic_back")
        alert = Announce(task_id="alert_team", message=messages.taken_back)
        drain = DrainColour(task_id="drain_new_colour", colour="new")
        healthy = Healthy(
            task_id="old_version_healthy", connection=api, path=health.path, expect_version=True, version="old",
            timeout=plan.rollback.verify_timeout_seconds,
        )  # fmt: skip
        with TaskGroup("database_rollback", tooltip="Step 4") as database:
            RollBackDatabase(task_id="roll_back_database") >> ReleaseCommand(
                task_id="database_health", command=health.database_command, image="old"
            )
        with TaskGroup("verify_application", tooltip="Step 5") as verify:
            ReleaseCommand(
                task_id="smoke_tests", command=plan.traffic.smoke_command, url_connection=api, image="old"
            ) >> WatchStable(task_id="watch", seconds=plan.watch.after_rollback_seconds)
            KeyEndpoints(task_id="key_endpoints", version="old")
        either_way = {"trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS}  # something has moved, or nothing has
        remove = RemoveIdleColour(task_id="remove_new_colour", **either_way)
        with TaskGroup("post_rollback_actions", tooltip="Step 6", default_args=either_way) as after:
            Banner(task_id="banner", show=False)
            OpenTicket(task_id="open_ticket")
            Announce(task_id="notify", message=messages.rolled_back)
        close = Close(task_id="close", status=Status.ROLLED_BACK)
        failed = Close(task_id="report_failure", status=Status.ROLLBACK_FAILED, trigger_rule=TriggerRule.ONE_FAILED)

        back >> [alert, WithdrawQuestions(task_id="withdraw_questions")]
        how_far = HowFar(
            task_id="how_far", moved=[drain.task_id, healthy.task_id], stopped=[remove.task_id, *after.children],
        )  # fmt: skip
        chain(back, how_far, [drain, healthy], database, verify, [remove, after], close)
        how_far >> [remove, after]
        [back, how_far, drain, healthy, database, verify, remove, after] >> failed
        report_after(plan, close)
        failed >> Report(task_id="report_of_failure")


for_each_plan(build, report_broken=False)
