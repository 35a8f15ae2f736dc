"""What the deployment's DAG file is built with: its DAG and form, the branch behind a phase, and the nets under all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, TaskGroup, TriggerRule

from handover.foundation import Founded
from handover.models.measures import Phase
from handover.people.operators import Confirm
from handover.plan.window import start_cron
from handover.step import Step
from handover.workflows.dags import BY_PEOPLE_AND_TIME, FIRST_DAY, RETRIES, release_fields
from handover.workflows.deployment.deciding import Decide, RollBack, WindowOpen
from handover.workflows.deployment.request import MIN_REASON
from handover.workflows.redelivery.steps import HandOver

if TYPE_CHECKING:
    from handover.plan.model import Plan


def deployment_dag(plan: Plan) -> DAG:
    """The deployment DAG of a plan, still empty: its schedule, its form and what happens when its run fails."""
    return DAG(
        dag_id=plan.deployment_dag_id,
        schedule=CronTriggerTimetable(start_cron(plan.window), timezone=plan.window.timezone),
        start_date=FIRST_DAY,
        catchup=False,
        **BY_PEOPLE_AND_TIME,
        max_active_runs=8,  # one holds the lock, some may wait for a second person; another is refused, not unseen
        is_paused_upon_creation=False,
        default_args={
            "plan": plan,
            "on_failure_callback": roll_back_after_step(plan),
            "notifiers": [HandOver(plan)],
            **RETRIES,
        },
        on_failure_callback=roll_back_after_run(plan),
        params=deployment_form(plan),
        tags=[plan.name, "deployment"],
        doc_md=f"Brings a release of {plan.title} to production. Rolled back by `{plan.rollback_dag_id}`.",
        render_template_as_native_obj=False,
    )


def deployment_form(plan: Plan) -> dict[str, Param]:
    """What a deployment is asked for by hand, and its dry run."""
    return {
        **release_fields(plan),
        **_migration_field(plan),
        "banner": Param(True, type=["null", "boolean"], title="Maintenance banner"),
        "reason": Param(
            "", type="string", pattern=f"^$|.{{{MIN_REASON}}}", title="Reason",
            description_md="Why it is deployed, in a few words: it is recorded and told",
        ),
        "window_override": Param(
            False, type=["null", "boolean"], title="Deploy outside the window, or in a freeze",
            description="Only with the reason below",
        ),
        "window_override_reason": Param(
            None, type=["null", "string"], title="Outside the window because",
            description="A few words, recorded and told; only with the switch above",
        ),
        "readiness_override_reason": Param(
            None, type=["null", "string"], title="Deploy without readiness because",
            description=f"Empty: only with a pass of {plan.readiness_dag_id} for this version and image",
        ),
    }  # fmt: skip


def _migration_field(plan: Plan) -> dict[str, Param]:
    if plan.migration is None:
        return {}
    names = {"sql": "SQL files", "prisma": "Prisma", "tool": "The release's own command", "none": "No migration"}
    methods = plan.migration.methods
    shown = {method: names[method] for method in methods}
    return {"method": Param(methods[0], enum=list(methods), title="Migration method", values_display=shown)}


def during(phase: Phase) -> dict[str, Any]:
    """Default arguments of a group of steps: with its first one this phase of the watch begins."""
    return {"watched_in": phase}


def during_migration(plan: Plan) -> dict[str, Any]:
    """A migration that comes first is over when the watch begins."""
    return {} if plan.migrates_first else during(Phase.MIGRATION)


def one_after_the_other(plan: Plan, *phases: TaskGroup) -> None:
    """The order of the plan document, but for a service whose migration comes before its new version."""
    order = list(phases)
    if plan.migrates_first:
        order[1], order[2] = order[2], order[1]
    for phase, then in itertools.pairwise(order):
        decide(plan, phase, then=then)


def window_if_first(plan: Plan, migration: TaskGroup) -> None:
    """Where the migration is the first to change production, it is what waits for the window."""
    if plan.migrates_first:
        WindowOpen(task_id="window_open", plan=plan) >> migration


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


def rest_on_evidence(dag: DAG) -> None:
    """No step begins behind one that was marked successful by hand, nor behind a branch that was. To be called when all
    tasks are there.
    """
    for task in dag.tasks:
        if isinstance(task, Founded) and task.trigger_rule == TriggerRule.ALL_SUCCESS:
            before = [dag.get_task(one) for one in sorted(task.upstream_task_ids)]
            task.rests_on = [one.task_id for one in before if isinstance(one, (Founded, Decide))]


def roll_back_on_failure(plan: Plan, dag: DAG, *, except_for: Iterable[str]) -> None:
    """The net under all: a failed task of any kind starts the rollback, also one killed without a callback."""
    under = [task for task in dag.tasks if task.task_id not in set(except_for)]
    under >> RollBack(task_id="roll_back_on_failure", plan=plan, trigger_rule=TriggerRule.ONE_FAILED)


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
