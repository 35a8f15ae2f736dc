"""Looks after deployments and rollbacks that are under way, from outside of them: every minute, in a run of its own."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from handover import clock
from handover.coordination import heartbeat
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.outside import outside
from handover.people import messages
from handover.people.channels import send
from handover.people.triggers import OPEN
from handover.ports.airflow import run_path
from handover.workflows.redelivery.steps import hand_over
from handover.workflows.rollback.start import (
    airflow_of,
    dag_problem,
    opened_here,
    rollback_run_id,
    start_rollback,
)
from handover.workflows.watchdog.problems import OpenQuestion, Problem, Run, Seen, problems

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.models.deployment import DeploymentState
    from handover.plan.model import Plan
    from handover.ports.airflow import AirflowApi
    from handover.ports.kube import Kube

GRACE_SECONDS = 120.0
"""A question takes its safe answer by itself; it is overdue when it has not, so long after its time."""


class LookAfter(BaseOperator):
    """Starts the rollback, or tells people, once: whatever it finds is found again a minute later."""

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> str:
        return asyncio.run(self.look())

    async def look(self) -> str:
        """Says what was found. Raises `KubeError` and `AirflowError`: then the next run looks."""
        cluster = self.plan.cluster
        async with outside().kube(cluster.connection, cluster.namespace) as kube:
            state = await states.read(kube, self.plan.lock_name)
            if state is None or state.over:
                return "nothing is under way"
            found = problems(await self._seen(kube, state), self.plan.watch.no_data_seconds)
            for problem in found:
                self.log.warning("%s", problem.text)
                await self._act(kube, state, problem)
        return "; ".join(problem.text for problem in found) or f"{state.deployment} is looked after"

    async def _seen(self, kube: Kube, state: DeploymentState) -> Seen:
        plan, cluster = self.plan, self.plan.cluster
        route = await outside().router(kube, cluster, cluster.service).read()
        exposed_at = (route.exposed_at or state.switched_at) if state.preview in route.serving else None
        try:
            beats = await heartbeat.read(kube, plan.lock_name, state.token)
        except FencedOut:  # somebody takes the lock over at this moment
            beats = []
        airflow = await asyncio.to_thread(airflow_of, plan)
        rollback = state.rollback_run or rollback_run_id(state.deployment)
        return Seen(
            at=clock.epoch(), state=state, beats=beats, exposed_at=exposed_at,
            deployment=await asyncio.to_thread(_run, airflow, plan.deployment_dag_id, state.deployment),
            rollback=await asyncio.to_thread(_run, airflow, plan.rollback_dag_id, rollback),
            dags={
                dag: await asyncio.to_thread(dag_problem, airflow, dag)
                for dag in (plan.deployment_dag_id, plan.rollback_dag_id)
            },
            questions=await asyncio.to_thread(self._questions, airflow, state.deployment),
            ours=await asyncio.to_thread(_ours, plan, state),
        )  # fmt: skip

    def _questions(self, airflow: AirflowApi, run_id: str) -> list[OpenQuestion]:
        plan = self.plan
        longest = max(plan.briefing.response_seconds, plan.acceptance.response_seconds, plan.incidents.response_seconds)
        path = f"{run_path(plan.deployment_dag_id, run_id)}/hitlDetails"
        return [
            OpenQuestion(one["task_instance"]["task_id"], _epoch(one["created_at"]) + longest + GRACE_SECONDS)
            for one in airflow.pages(path, "hitl_details")
            if not one["response_received"] and one["task_instance"].get("state", OPEN) == OPEN
        ]

    async def _act(self, kube: Kube, state: DeploymentState, problem: Problem) -> None:
        plan = self.plan
        if problem.roll_back:
            await asyncio.to_thread(start_rollback, plan, state.deployment, problem.text)
        if problem.key in state.warned:
            return

        def told(old: DeploymentState) -> DeploymentState:
            return old.model_copy(update={"warned": (*old.warned, problem.key)})

        try:
            await states.update(kube, plan.lock_name, state.token, told)
        except FencedOut:  # it goes on by itself
            return
        message = messages.looked_after(plan, state, problem.key, problem.text, roll_back=problem.roll_back)
        missing = await asyncio.to_thread(send, plan, message, state.deployment)
        await asyncio.to_thread(hand_over, plan, missing, state.deployment)


def _ours(plan: Plan, state: DeploymentState) -> bool:
    return state.opened_in in ("", opened_here(plan, state.deployment))


def _run(airflow: AirflowApi, dag_id: str, run_id: str) -> Run:
    found = airflow.find(run_path(dag_id, run_id))
    if found is None:
        return Run(run_id, None)
    queued = found.get("queued_at")
    return Run(run_id, found["state"], _epoch(queued) if queued else None, began=bool(found.get("start_date")))


def _epoch(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()
