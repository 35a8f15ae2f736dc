"""What a rollback does about the run of the deployment that it rolls back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.branch import BranchMixIn

from handover.models.evidence import Evidence, passed
from handover.ports.airflow import AirflowError, run_path
from handover.step import Step, StepRun
from handover.workflows.deployment.deciding import WindowOpen
from handover.workflows.rollback.start import airflow_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.ports.airflow import AirflowApi


class HowFar(Step, BranchMixIn):
    """Whether anything has moved that clients depend on. If not, nothing of theirs has to be brought back or looked at:
    what was prepared is taken away, and the lock is free.

    :param moved: where it goes on when something has moved
    :param stopped: where when nothing has
    """

    def __init__(self, *, moved: list[str], stopped: list[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.moved, self.stopped = moved, stopped

    def execute(self, context: Context) -> Any:
        super().execute(context)
        state = asyncio.run(self.step_run(context).known())
        return self.do_branch(context, self.moved if state.moved else self.stopped)

    async def act(self, run: StepRun) -> Evidence:
        return passed(self.task_id, (await run.known()).whereabouts)


class WithdrawQuestions(Step):
    """Nobody is asked any more whether the deployment may go on: its open questions end, and say why. So does its wait
    for the window, so that its run ends; what else waits there sees by itself that the deployment is over.

    An Airflow that refuses stops no rollback: a late answer changes nothing, since the deployment is fenced out.
    """

    def work(self, run: StepRun) -> Evidence:
        dag, deployment = self.plan.deployment_dag_id, run.token.deployment
        reason = str(run.context["params"].get("reason") or "no reason given")
        try:
            airflow = airflow_of(self.plan)
            tasks = [*_open_questions(airflow, dag, deployment), *_waits(airflow, dag, deployment)]
            for task in tasks:
                airflow.fail_task(dag, deployment, task, f"withdrawn, the deployment is rolled back: {reason}")
        except AirflowError as error:
            return passed(self.task_id, f"questions may still be open: {error}")
        return passed(self.task_id, f"withdrawn: {', '.join(tasks)}" if tasks else "no question is open")


def _waits(airflow: AirflowApi, dag: str, run_id: str) -> list[str]:
    """Task ids of what waits for nothing but a moment."""
    found = airflow.pages(f"{run_path(dag, run_id)}/taskInstances", "task_instances")
    return [
        one["task_id"] for one in found if one["operator_name"] == WindowOpen.__name__ and one["state"] == "deferred"
    ]


def _open_questions(airflow: AirflowApi, dag: str, run_id: str) -> list[str]:
    """Task ids."""
    found = airflow.pages(f"{run_path(dag, run_id)}/hitlDetails", "hitl_details")
    waiting = ("awaiting_input", "deferred")
    return [
        one["task_instance"]["task_id"] for one in found
        if not one["response_received"] and one["task_instance"].get("state") in waiting
    ]  # fmt: skip
