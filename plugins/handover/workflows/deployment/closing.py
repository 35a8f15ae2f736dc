"""The end of a deployment or rollback."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, BaseOperator

from handover import clock
from handover.coordination import lock
from handover.coordination.routing import read
from handover.evidence_seal import leave
from handover.models.deployment import DeploymentState, Status
from handover.models.evidence import Evidence, failed, passed
from handover.models.followup import ENDED_KEY, Ended
from handover.models.record import INCIDENTS_KEY, OUTCOME_KEY, Outcome
from handover.step import Step, StepRun, skipped

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan
    from handover.ports.kube import Kube


class Close(Step):
    """Ends a deployment or rollback: writes how it ended and gives the lock back.

    A failed rollback keeps the lock: nobody deploys on top of it until a person has cleared its failed step.
    """

    def __init__(self, *, status: Status, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.status = status

    async def act(self, run: StepRun) -> Evidence:
        async with run.kube() as kube:
            if self.status is Status.SUCCEEDED and (problem := await self._moved_away(run, kube)):
                return failed(self.task_id, problem)
            state = await run.change(kube, partial(_ended, status=self.status, at=clock.epoch()))
            if state.over:
                await lock.release(kube, self.plan.lock_name, run.token.generation)
        outcome = Outcome(
            status=state.status, at=state.finished_at or 0, switched_at=state.switched_at,
            backup_uri=state.backup.uri if state.backup else "",
        )  # fmt: skip
        leave(run.context["ti"], OUTCOME_KEY, outcome.model_dump(mode="json"))
        nothing_moved = outcome.stopped and not state.moved
        incidents = () if nothing_moved else state.incidents  # what no client met was nobody's incident
        found = [incident.model_dump(mode="json") for incident in incidents]
        leave(run.context["ti"], INCIDENTS_KEY, found)
        ended = Ended(
            deployment=state.deployment, version=state.version, previous_version=state.previous_version,
            outcome=state.status, at=state.finished_at or 0, incidents=len(incidents), moved=not nothing_moved,
        )  # fmt: skip
        leave(run.context["ti"], ENDED_KEY, ended.model_dump(mode="json"))
        seconds = (state.finished_at or 0) - state.started_at
        return passed(self.task_id, f"{state.version}: {outcome} after {seconds:.0f} s")

    async def _moved_away(self, run: StepRun, kube: Kube) -> str:
        """Whether somebody moved traffic back by hand since it was finalised: then the rollback has the rest to do."""
        route = await read(run.router(kube), run.token.generation)
        return "" if route.colour == run.token.preview else f"{route}; it did not stay on {run.token.preview}"


def _ended(old: DeploymentState, status: Status, at: float) -> DeploymentState:
    """A try that was killed has perhaps said so already; then only the lock is left to give back, whoever comes."""
    return old if old.over or old.status is status else old.model_copy(update={"status": status, "finished_at": at})


def ended_asset(plan: Plan) -> Asset:
    """Its events say that a deployment has ended, and how (`handover.models.followup.Ended`)."""
    name = f"{plan.name}_deployment_ended"
    return Asset(name=name, uri=f"x-handover://{plan.name}/deployment_ended")  # x-: no provider is asked, and imported


class PublishEnd(BaseOperator):
    """Starts the follow-ups: publishes what ``close`` has left as an event of the asset. A task of its own, for an
    asset that Airflow refuses must fail nothing that the deployment needs. What has moved nothing is not followed up.
    """

    def __init__(self, *, plan: Plan, ended_from: str, opened_by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan, self.ended_from = plan, ended_from

    def execute(self, context: Context) -> str:
        ended = Ended.model_validate(context["ti"].xcom_pull(task_ids=self.ended_from, key=ENDED_KEY))
        if not ended.moved:
            raise skipped(f"{ended.deployment} was stopped before the switch: there is nothing to follow up")
        for asset in self.outlets:
            context["outlet_events"][asset].extra = ended.model_dump(mode="json")
        return f"{ended.deployment}: {ended.outcome}"
