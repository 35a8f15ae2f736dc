"""What all DAG files share: one DAG per plan, a broken plan's report, retries, and what stands beside and behind the
steps of several DAGs. What one DAG alone is built with: ``dag.py`` in the folder of its workflow.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    BaseOperator,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    TaskGroup,
    TriggerRule,
)

from handover.coordination.lock import FencedOut
from handover.people.asking import calls
from handover.people.question import Remind, RoleQuestion
from handover.plan.load import load_plans
from handover.workflows.deployment.closing import PublishEnd, ended_asset
from handover.workflows.deployment.request import VERSION
from handover.workflows.recording.report import Report

if TYPE_CHECKING:
    from handover.plan.model import Plan

ASIDE = "aside"
BY_PEOPLE_AND_TIME: dict[str, Any] = {"allowed_run_types": ["manual", "scheduled"]}
"""Of a DAG that has a schedule: nobody wants to deploy, judge or announce for every week that is gone (a backfill)."""
FIRST_DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
RETRIES: dict[str, Any] = {
    # For networks that were away, and for Airflow itself: on a busy machine the scheduler at times takes a task that
    # was quickly resumed after deferring for a lost one. A verdict is never retried.
    "retries": 4,
    "retry_delay": datetime.timedelta(seconds=3),
    "retry_policy": ExceptionRetryPolicy(
        rules=[RetryRule(exception=FencedOut, action=RetryAction.FAIL, reason="the lock is somebody else's by now")]
    ),
    "execution_timeout": datetime.timedelta(hours=2),
}


def for_each_plan(build: Callable[[Plan], None], *, report_broken: bool, section: str = "name") -> None:
    """Builds the DAGs of every valid plan that has this section; a broken plan never takes the others down with it.

    With ``report_broken`` each broken plan becomes an import error that names file, key and reason. Airflow then starts
    no new run of that DAG file, while runs under way go on; so the rollback file leaves the report to the other one.
    """
    for plan in load_plans():
        if not isinstance(plan, ValueError):
            if getattr(plan, section) is not None:
                build(plan)
        elif report_broken:
            report(plan)


def report(error: ValueError) -> None:
    """Makes an import error of it."""

    class BrokenPlan(DAG):
        def validate(self) -> None:
            raise error

    with BrokenPlan(dag_id="broken_plan", schedule=None):
        pass


def release_fields(plan: Plan) -> dict[str, Param]:
    """The fields of a form that say which release is meant, as `request.release_of` takes them. The form wants what may
    not be null; a scheduled run, which nobody fills in, has the empty default. What ``description_md`` says is part of
    the schema, so whoever is refused reads it, too.
    """
    return {
        "version": Param(
            "", type="string", pattern=f"^$|{VERSION}", title="Version", examples=["v1.1.0"],
            description_md="Write it as v1.2.3: a semantic version, the tag of the image and of the commit",
        ),
        "image": Param(
            None, type=["null", "string"], title="Image",
            description=f"Empty: for v1.2.3 it is {plan.image.of('v1.2.3')}; or that repository with a tag or a digest",
        ),
    }  # fmt: skip


def aside(dag: DAG) -> TaskGroup:
    """The one group of this DAG for what belongs to no phase of the plan; people see it folded. It is no part of a
    task's id.
    """
    known = dag.task_group.children.get(ASIDE)
    return (
        known
        if isinstance(known, TaskGroup)
        else TaskGroup(ASIDE, prefix_group_id=False, dag=dag, tooltip="Reminders, report, end")
    )


def report_after(plan: Plan, close: BaseOperator, *others: BaseOperator) -> None:
    """The report, also of what else ends then, and the start of the follow-ups, and behind them the end of the run:
    whatever becomes of those, it has succeeded when ``close`` has. No net has to catch these tasks.
    """
    with aside(close.dag):
        report = Report(task_id="report", plan=plan, on_failure_callback=None)
        end = EmptyOperator(task_id="end", on_failure_callback=None, trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
        list(others) >> report
        close >> report >> end
        close >> end
        if plan.followups:
            publish = PublishEnd(
                task_id="publish_end", plan=plan, ended_from=close.task_id, outlets=[ended_asset(plan)],
                on_failure_callback=None,
            )  # fmt: skip
            close >> publish >> end


def remind_of_questions(plan: Plan, dag: DAG) -> None:
    """Beside every question a task that reminds people of it. No net has to catch these tasks, and whatever becomes of
    them, the run ends as it would without.
    """
    questions = [task for task in dag.tasks if isinstance(task, RoleQuestion) and calls(plan, task.asked)]
    if not questions:
        return
    with aside(dag):
        reminded = EmptyOperator(task_id="reminded", on_failure_callback=None, trigger_rule=TriggerRule.NONE_SKIPPED)
        for question in questions:
            name = f"remind_{question.task_id.rpartition('.')[2]}"
            reminder = Remind(task_id=name, plan=plan, question=question, on_failure_callback=None)
            reminder << [dag.get_task(before) for before in question.upstream_task_ids]
            reminder >> reminded
