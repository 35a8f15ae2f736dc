"""<plan>_announcements: people hear of a planned release, at the moments of the plan's communication plan.

<plan>_redelivery: a message that was not delivered is tried again. What happens during a deployment or a rollback is
told by those DAGs themselves.
"""

from __future__ import annotations

from airflow.sdk import TaskGroup, chain

from handover.people import announcements as wording
from handover.plan.model import Plan
from handover.plan.people import Announcements
from handover.workflows.announcements.dag import announcements_dag, redelivery_dag
from handover.workflows.announcements.steps import AskToConfirm, Moment, ReleaseToAnnounce, TellOf
from handover.workflows.dags import for_each_plan
from handover.workflows.redelivery.steps import Redeliver


def build(plan: Plan) -> None:
    announce(plan, plan.announcements)
    with redelivery_dag(plan):
        Redeliver(task_id="redeliver")


def announce(plan: Plan, rules: Announcements) -> None:
    with announcements_dag(plan):
        release = ReleaseToAnnounce(task_id="release")

        with TaskGroup("one_week_before", tooltip="Pre-Deployment (1 week before)"):
            week = Moment(task_id="moment", before_seconds=rules.week_before_seconds)
            week >> [
                TellOf(task_id="email_stakeholders", message=wording.deployment_scheduled),
                TellOf(task_id="email_users", message=wording.maintenance_planned),
                TellOf(task_id="status_page", message=wording.status_scheduled),
            ]

        with TaskGroup("day_before", tooltip="Day Before Deployment"):
            day = Moment(task_id="moment", before_seconds=rules.day_before_seconds)
            day >> [
                TellOf(task_id="remind_team", message=wording.reminder),
                AskToConfirm(
                    task_id="team_available", question="Are all team members available?", items=rules.available
                ),
                AskToConfirm(
                    task_id="window_confirmed", question="Does the deployment window stand?", items=rules.confirmed
                ),
            ]

        with TaskGroup("day_of_deployment", tooltip="Day of Deployment"):
            start = Moment(task_id="moment", before_seconds=rules.starting_before_seconds)
            start >> TellOf(task_id="announce_starting", message=wording.starting)

        chain(release, week, day, start)


for_each_plan(build, report_broken=False, section="announcements")
