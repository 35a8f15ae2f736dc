"""What the readiness DAG file is built with: a DAG per plan, a group per section of its checklist, a task per line."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable, TaskGroup, TriggerRule

from handover.plan.window import cron_before
from handover.readiness.checklist import ChecklistError, load
from handover.readiness.operators import CheckLine
from handover.workflows.dags import BY_PEOPLE_AND_TIME, FIRST_DAY, RETRIES, for_each_plan, release_fields, report
from handover.workflows.readiness.checks import step_of
from handover.workflows.readiness.steps import AskRole, form
from handover.workflows.redelivery.steps import HandOver

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.readiness.checklist import Checklist, ChecklistSection, Line
    from handover.step import Step

AT_A_TIME = 8
"""Tasks of one run at the same time: nobody waits for them, and a deployment may need the workers."""
FIRST = 1000
"""Priority of what people are asked: they take longer than any machine."""
LOOK = {"retries": 1, "execution_timeout": datetime.timedelta(minutes=5)}
"""A check tells what it could not find out by itself; only Airflow's own hiccups are tried again."""


def for_each_checklist(build: Callable[[Plan, Checklist], None]) -> None:
    """Builds the DAG of every plan whose checklist is sound; a broken one is an import error with file and reason."""

    def build_one(plan: Plan) -> None:
        try:
            checklist = load(plan)
        except ChecklistError as error:
            report(error)
        else:
            build(plan, checklist)

    for_each_plan(build_one, report_broken=False)


def readiness_dag(plan: Plan) -> DAG:
    """The readiness DAG of a plan, still empty. It changes nothing in production."""
    return DAG(
        dag_id=plan.readiness_dag_id,
        schedule=CronTriggerTimetable(
            cron_before(plan.window, plan.readiness.before_seconds), timezone=plan.window.timezone
        ),
        start_date=FIRST_DAY,
        catchup=False,
        **BY_PEOPLE_AND_TIME,
        max_active_runs=2,
        max_active_tasks=AT_A_TIME,
        is_paused_upon_creation=False,
        default_args={"plan": plan, "opened_by": "release", "notifiers": [HandOver(plan)], **RETRIES},
        params=release_fields(plan),
        tags=[plan.name, "readiness"],
        doc_md=f"Is a release of {plan.title} ready? `{plan.deployment_dag_id}` refuses one that is not.",
    )


def section(plan: Plan, of: ChecklistSection) -> dict[str, Step]:
    """The group of one section; gives line id to task, without the lines that people are asked about."""
    with TaskGroup(of.id, tooltip=of.title):
        return {leaf.id: _task(plan, leaf) for leaf in of.leaves if not leaf.ask}


def _task(plan: Plan, line: Line) -> Step:
    rule = TriggerRule.ALL_DONE_MIN_ONE_SUCCESS  # one that waits for another is judged whatever became of that
    if line.step:
        return step_of(line.step, plan, task_id=line.id, trigger_rule=rule)
    return CheckLine(task_id=line.id, line=line, trigger_rule=rule, **LOOK)


def questions(plan: Plan, checklist: Checklist) -> dict[str, AskRole]:
    """One question per role, in a group of their own, asked before anything else; gives line id to task."""
    with TaskGroup("people", tooltip="What only people know"):
        asks = [
            AskRole(task_id=role, plan=plan, role=role, lines=lines, params=form(lines), priority_weight=FIRST)
            for role, lines in checklist.asked().items()
        ]
    return {line.id: ask for ask in asks for line in ask.lines}


def in_order(checklist: Checklist, tasks: dict[str, Step]) -> None:
    """Lines with ``after`` wait for the task of that line."""
    for leaf in checklist.leaves:
        if leaf.after:
            tasks[leaf.after] >> tasks[leaf.id]
