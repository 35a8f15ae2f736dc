"""<plan>_followups: what the plan wants after a deployment or rollback has ended, hours and days later.

One Airflow DAG per plan, started by the asset that the last step of either publishes.
"""

from __future__ import annotations

from handover.models.followup import ENDED_TASK
from handover.people import messages
from handover.people.tickets import POST_MORTEM
from handover.plan.model import Plan
from handover.workflows.dags import for_each_plan
from handover.workflows.followups.checks import (
    ConsistentPerformance,
    MonitoringWorks,
    NoUnexpectedIssues,
    StableErrorRates,
)
from handover.workflows.followups.dag import due_after, followups_dag
from handover.workflows.followups.steps import Ask, DeploymentEnded, Invite, Tell, Ticket, times

DEBRIEFING = {"went_well": "What went well?", "issues": "Any issues?"}


def build(plan: Plan) -> None:
    at, post_mortem_seconds = times(plan), plan.messages.post_mortem_hours * 3600.0
    day, week = at.review_seconds, at.week_seconds
    with followups_dag(plan):
        ended = DeploymentEnded(task_id=ENDED_TASK)

        with due_after(ended, plan, "after_4_hours", "Immediately After (T+4 hours)", at.debrief_seconds):
            Ask(task_id="team_debriefing", role="lead", question="Team debriefing held?", fields=DEBRIEFING)
            Ask(
                task_id="monitor_longer", role="qa",
                question="Watched for 2-4 more hours (skeleton crew), support channels for issues and social media for "
                "complaints too, and nothing seen?",
            )  # fmt: skip
            Ask(task_id="dashboards_healthy", role="devops", question="All monitoring dashboards healthy?")

        with due_after(ended, plan, "within_24_hours", "Within 24 Hours", at.debrief_seconds):
            Ask(task_id="full_review", role="lead", question="Full post-deployment review done?")
            Ticket(
                task_id="analysis_of_issues", purpose="analysis", summary="analyse the issues encountered",
                seconds=day, only_troubled=True,
            )  # fmt: skip
            Ticket(task_id="update_documentation", purpose="documentation", summary="update documentation", seconds=day)
            review = Invite(task_id="review_meeting", purpose="review", summary="review", seconds=day)
            Tell(task_id="thank_the_team", message=messages.thanks)
            Tell(task_id="share_learnings", message=messages.learnings)

        with due_after(ended, plan, "within_1_week", "Within 1 Week", week):
            early = [
                Ticket(
                    task_id="post_mortem", purpose=POST_MORTEM, summary="post-mortem meeting", seconds=week,
                    rolled_back_seconds=post_mortem_seconds, only_troubled=True,
                ),
                Invite(
                    task_id="post_mortem_meeting", purpose="post-mortem-meeting", summary="post-mortem", seconds=week,
                    rolled_back_seconds=post_mortem_seconds, only_troubled=True,
                ),
                Ticket(
                    task_id="update_runbooks", purpose="runbooks", summary="update runbooks and processes", seconds=week
                ),
                Ticket(
                    task_id="next_improvements", purpose="improvements", summary="plan next improvements", seconds=week
                ),
            ]  # fmt: skip
            ended >> [review, *early]  # at once, so that there is a week to work on them; a post-mortem has only hours
            Ask(task_id="user_feedback", role="frontend", question="User feedback collected, and positive?")
            MonitoringWorks(task_id="monitoring_works")
            NoUnexpectedIssues(task_id="no_unexpected_issues")
            StableErrorRates(task_id="stable_error_rates")
            ConsistentPerformance(task_id="consistent_performance")
            Ask(task_id="user_adoption", role="qa", question="User adoption smooth?")
            Ask(task_id="team_confidence", role="lead", question="Team confidence high?")
            Ask(task_id="documentation_complete", role="devops", question="Documentation complete?")
            Ask(task_id="lessons_learned", role="lead", question="Lessons learned captured?")


for_each_plan(build, report_broken=False, section="followups")
