"""What the DAG files are built with: one DAG per plan, its form, its phases, and the nets under them."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, get_args

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import (
    DAG,
    Asset,
    BaseOperator,
    CronTriggerTimetable,
    ExceptionRetryPolicy,
    Param,
    RetryAction,
    RetryRule,
    TaskGroup,
    TriggerRule,
)

from handover.coordination.lock import FencedOut
from handover.data.csv_file import Delimiter, Encoding
from handover.people.asking import calls
from handover.people.operators import Confirm
from handover.people.question import Remind, RoleQuestion
from handover.plan.load import load_plans
from handover.plan.window import start_cron
from handover.step import Step
from handover.workflows.deployment.closing import PublishEnd
from handover.workflows.deployment.deciding import Decide, RollBack
from handover.workflows.deployment.request import MIN_REASON, VERSION
from handover.workflows.recording.report import Report
from handover.workflows.redelivery.steps import HandOver

if TYPE_CHECKING:
    from handover.plan.model import Plan

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


def deployment_dag(plan: Plan) -> DAG:
    """The deployment DAG of a plan, still empty: its schedule, its form and what happens when its run fails."""
    return DAG(
        dag_id=plan.deployment_dag_id,
        schedule=CronTriggerTimetable(start_cron(plan.window), timezone=plan.window.timezone),
        start_date=FIRST_DAY,
        catchup=False,
        max_active_runs=2,  # a second one is refused by the lock at once, instead of waiting unseen
        is_paused_upon_creation=False,
        default_args={
            "plan": plan,
            "on_failure_callback": roll_back_after_step(plan),
            "notifiers": [HandOver(plan)],
            **RETRIES,
        },
        on_failure_callback=roll_back_after_run(plan),
        params=_deployment_form(plan),
        tags=[plan.name, "deployment"],
        doc_md=f"Brings a release of {plan.title} to production. Rolled back by `{plan.rollback_dag_id}`.",
        render_template_as_native_obj=False,
    )


def rollback_dag(plan: Plan) -> DAG:
    """The rollback DAG of a plan, still empty. It is never itself rolled back."""
    return DAG(
        dag_id=plan.rollback_dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=4,  # a stuck rollback must not hold up the next one; the lock keeps them apart
        is_paused_upon_creation=False,
        default_args={"plan": plan, "opened_by": "move_traffic_back", **RETRIES},
        params={
            "reason": Param("rolled back by hand", type="string", minLength=MIN_REASON, title="Reason"),
            "deployment": Param(
                None, type=["null", "string"], title="Deployment run",
                description="Run id of the deployment to roll back; empty: the current one",
            ),
        },
        tags=[plan.name, "rollback"],
        doc_md=f"Brings the previous version of {plan.title} back: traffic first, then everything else.",
    )  # fmt: skip


def dry_run_dag(plan: Plan) -> DAG:
    """The dry run of a plan, still empty, with the deployment's form. Nothing in it is given a ticket."""
    return DAG(
        dag_id=plan.dry_run_dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=2,
        is_paused_upon_creation=False,
        default_args={"plan": plan, "opened_by": "release", **RETRIES},
        params=_deployment_form(plan),
        tags=[plan.name, "dry run"],
        doc_md=f"What `{plan.deployment_dag_id}` would do with a release, and whether it would. It changes nothing.",
    )


def ended_asset(plan: Plan) -> Asset:
    """Its events say that a deployment has ended, and how (`handover.models.followup.Ended`)."""
    return Asset(name=f"{plan.name}_deployment_ended", uri=f"handover://{plan.name}/deployment_ended")


def release_fields(plan: Plan) -> dict[str, Param]:
    """The fields of a form that say which release is meant, as `request.release_of` takes them."""
    return {
        "version": Param(
            None, type=["null", "string"], pattern=VERSION, title="Version", examples=["v1.1.0"],
            description="Semantic version, the tag of the image and of the commit",
        ),
        "image": Param(
            None, type=["null", "string"], title="Image",
            description=f"Empty: {plan.image.repository}:<version>; or that repository with a tag or a digest",
        ),
    }  # fmt: skip


def _deployment_form(plan: Plan) -> dict[str, Param]:
    return {
        **release_fields(plan),
        "method": Param(
            "sql", enum=["sql", "prisma", "none"], title="Migration method",
            values_display={"sql": "SQL files", "prisma": "Prisma", "none": "No migration"},
        ),
        "banner": Param(True, type="boolean", title="Maintenance banner"),
        "reason": Param(None, type=["null", "string"], minLength=MIN_REASON, title="Reason"),
        "window_override": Param(
            False, type="boolean", title="Deploy outside the window", section="Deployment window",
        ),
        "window_override_reason": Param(
            None, type=["null", "string"], title="Reason of the override", section="Deployment window",
        ),
        "readiness_override_reason": Param(
            None, type=["null", "string"], title="Deploy without readiness because", section="Readiness",
            description=f"Empty: only with a pass of {plan.readiness_dag_id} for this version and image",
        ),
    }  # fmt: skip


def import_dag(plan: Plan) -> DAG:
    """The DAG that imports a CSV file, still empty: its form asks for the file."""
    return _data_dag(
        plan, plan.import_dag_id, _import_form(plan), f"Imports a CSV file into the database of {plan.title}."
    )


def seed_dag(plan: Plan) -> DAG:
    """The DAG that fills a new database, still empty."""
    return _data_dag(plan, plan.seed_dag_id, {}, f"Fills a new, empty database of {plan.title}.")


def _data_dag(plan: Plan, dag_id: str, form: dict[str, Param], what: str) -> DAG:
    return DAG(
        dag_id=dag_id,
        schedule=None,
        start_date=FIRST_DAY,
        max_active_runs=1,
        is_paused_upon_creation=False,
        default_args={"plan": plan, **RETRIES},
        params=form,
        tags=[plan.name, "data"],
        doc_md=f"{what} Refused while a deployment or a rollback is under way.",
    )


def _import_form(plan: Plan) -> dict[str, Param]:
    assert plan.data is not None
    kinds = list(plan.data.imports)
    return {
        "what": Param(kinds[0], enum=kinds, title="What it holds"),
        "source": Param(
            None, type=["null", "string"], title="File", examples=[f"{plan.data.sources[0]}{kinds[0]}.csv"],
            description=f"Below {', '.join(plan.data.sources)}; the report of rejected rows is put beside it",
        ),
        "on_rejects": Param(
            "abort", enum=["abort", "skip"], title="When rows are rejected",
            values_display={"abort": "Import nothing", "skip": "Import the others"},
        ),
        "encoding": Param("utf-8", enum=list(get_args(Encoding)), title="Encoding"),
        "delimiter": Param(",", enum=list(get_args(Delimiter)), title="Delimiter"),
    }  # fmt: skip


def decide(plan: Plan, phase: TaskGroup, *, then: TaskGroup) -> None:
    """The branch at the end of a phase: on to the next one, or roll back."""
    steps = [task for task in phase.iter_tasks() if isinstance(task, (Step, Confirm))]
    with phase:
        branch = Decide(
            task_id="decide",
            plan=plan,
            phase=phase.group_id or "",
            reads=[task.task_id for task in steps],
            proceed_to=then.group_id or "",
            roll_back=f"{phase.group_id}.roll_back",
        )
        roll_back = RollBack(task_id="roll_back", plan=plan, reason_from=branch.task_id)
    steps >> branch >> [then, roll_back]


def roll_back_on_failure(plan: Plan, dag: DAG, *, except_for: Iterable[str]) -> None:
    """The net under all: a failed task of any kind starts the rollback, also one killed without a callback."""
    under = [task for task in dag.tasks if task.task_id not in set(except_for)]
    under >> RollBack(task_id="roll_back_on_failure", plan=plan, trigger_rule=TriggerRule.ONE_FAILED)


def report_after(plan: Plan, close: BaseOperator) -> None:
    """The report and the start of the follow-ups, and behind them the end of the run: whatever becomes of those, it has
    succeeded when ``close`` has. No net has to catch these tasks.
    """
    report = Report(task_id="report", plan=plan, on_failure_callback=None)
    end = EmptyOperator(task_id="end", on_failure_callback=None, trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS)
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
    reminded = EmptyOperator(task_id="reminded", on_failure_callback=None, trigger_rule=TriggerRule.NONE_SKIPPED)
    for question in questions:
        name = f"remind_{question.task_id.rpartition('.')[2]}"
        reminder = Remind(task_id=name, plan=plan, question=question, on_failure_callback=None)
        reminder << [dag.get_task(before) for before in question.upstream_task_ids]
        reminder >> reminded


def roll_back_after_step(plan: Plan) -> Callable[[Any], None]:
    """Task failure callback; runs on the worker, or in the DAG processor after a heartbeat timeout."""

    def callback(context: Any) -> None:
        from handover.workflows.rollback.start import start_unless_refused

        task, reason = context["ti"].task_id, str(context.get("exception") or context.get("reason") or "failed")
        start_unless_refused(plan, context["run_id"], reason if reason.startswith(task) else f"{task}: {reason}")

    return callback


def roll_back_after_run(plan: Plan) -> Callable[[Any], None]:
    """DAG failure callback; runs in the DAG processor (also after a dagrun_timeout)."""

    def callback(context: Any) -> None:
        from handover.workflows.rollback.start import start_unless_refused

        start_unless_refused(plan, context["run_id"], context.get("reason") or "the deployment run failed")

    return callback
