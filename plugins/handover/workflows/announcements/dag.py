"""What the announcements' DAG file is built with: the announcements of a release, and the redelivery of messages."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronTriggerTimetable, Param

from handover.plan.window import cron_before
from handover.workflows.dags import BY_PEOPLE_AND_TIME, FIRST_DAY, RETRIES
from handover.workflows.deployment.request import VERSION
from handover.workflows.redelivery.steps import HandOver

if TYPE_CHECKING:
    from handover.plan.model import Plan

PATIENT: dict[str, Any] = {
    "retries": 12,
    "retry_delay": datetime.timedelta(seconds=5),
    "retry_exponential_backoff": 2,
    "max_retry_delay": datetime.timedelta(minutes=10),
}
"""Nobody waits for an announcement, so it outlasts a cluster or an Airflow that is away for an hour."""


def announcements_dag(plan: Plan) -> DAG:
    """The announcements of one planned release, still empty: it begins a week before the window."""
    assert plan.announcements is not None  # else there is no such DAG
    return DAG(
        dag_id=plan.announcements_dag_id,
        schedule=CronTriggerTimetable(
            cron_before(plan.window, plan.announcements.week_before_seconds), timezone=plan.window.timezone
        ),
        start_date=FIRST_DAY,
        catchup=False,
        **BY_PEOPLE_AND_TIME,
        max_active_runs=4,  # a run lasts a week, and so meets the one after it
        is_paused_upon_creation=False,
        default_args={
            "plan": plan, "opened_by": "release", "notifiers": [HandOver(plan)], **RETRIES, **PATIENT,
        },
        params={
            "version": Param(
                "", type="string", pattern=f"^$|{VERSION}", title="Version", examples=["v1.1.0"],
                description_md="Write it as v1.2.3: a semantic version, the tag of the image",
            ),
            "window_start": Param(
                None, type=["null", "string"], title="Start of the window", format="date-time",
                description="Empty: the plan's next window",
            ),
        },
        tags=[plan.name, "announcements"],
        doc_md=f"Tells people of a release of {plan.title} before `{plan.deployment_dag_id}` brings it to production.",
    )  # fmt: skip


def redelivery_dag(plan: Plan) -> DAG:
    """Delivers one message that did not get through; started by whoever failed to send it."""
    return DAG(
        dag_id=plan.redelivery_dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=32,  # one for each message of a deployment in which every channel is away
        is_paused_upon_creation=False,
        default_args={"plan": plan},
        params={
            "letter": Param(None, type=["null", "object"], title="Message"),
            "deployment": Param(None, type=["null", "string"], title="Deployment run"),
            "seal": Param(None, type=["null", "string"], title="Seal"),
        },
        tags=[plan.name, "announcements"],
        doc_md="Tries a message again that was not delivered, until it is, or until it is given up.",
    )
