"""The beginning of a deployment: what is due, whether it may begin, and the lock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination import lock, state
from handover.coordination.promotion import Refused
from handover.coordination.serving import Serving, serving
from handover.evidence_seal import NotSealed, key_problem, leave, left
from handover.models.deployment import DeploymentState, FencingToken, Release, Status
from handover.models.evidence import Evidence, passed
from handover.models.record import DEPLOYMENT_KEY, Deployment
from handover.outside import outside
from handover.plan import window
from handover.step import FENCING_KEY, RELEASE_KEY, Step, StepRun, skipped
from handover.workflows.deployment import target
from handover.workflows.deployment.connections import connections_of
from handover.workflows.deployment.gate import readiness_gate
from handover.workflows.deployment.overrides import not_agreed
from handover.workflows.deployment.request import BadRequest, release_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router

TAKING_LOCK_KEY = "taking_lock"
"""XCom key that `Open` leaves before it takes the lock."""


class ReleaseDue(BaseOperator):
    """Finds out what to deploy: the form of a manual run, or for a scheduled run the Airflow Variable
    ``<plan>_release_due`` (the same fields as JSON). A scheduled run with nothing due ends at once, skipped.
    """

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        asked = self._due() if context["dag_run"].run_type == "scheduled" else dict(context["params"])
        try:
            release = release_of(self.plan, asked, clock.utc())
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        if release.window_override:
            self.log.warning("deployment window overridden: %s", release.window_override_reason)
        leave(context["ti"], RELEASE_KEY, release.model_dump(mode="json"))
        return f"{release.version} as {release.image}"

    def _due(self) -> dict[str, Any]:
        due = release_due(self.plan)
        if not window.may_start(self.plan.window, clock.utc()):  # Airflow was down on the day, or is new and catches up
            raise skipped("this run is late: its deployment window has closed")
        return due


def release_due(plan: Plan, *, later: bool = False) -> dict[str, Any]:
    """What the Airflow Variable ``<plan>_release_due`` asks for, unless it is deployed; raises a skip for nothing.

    :param later: about a window to come, so that a release that is being deployed now is none, either
    """
    from airflow.sdk import Variable

    variable = f"{plan.name}_release_due"
    due = Variable.get(variable, default=None, deserialize_json=True)
    if not due:
        raise skipped(f"no release is due (the Variable {variable} is empty)")
    if not isinstance(due, dict):
        raise AirflowFailException(f"the Variable {variable} must be a JSON object, not {type(due).__name__}")

    async def last() -> DeploymentState | None:
        async with outside().kube(plan.cluster.connection, plan.cluster.namespace) as kube:
            return await state.read(kube, plan.lock_name)

    done = asyncio.run(last())
    if done and done.status is Status.SUCCEEDED and done.version == due.get("version"):
        raise skipped(f"{done.version} is deployed already, nothing else is due")
    if later and done and done.status is Status.DEPLOYING and done.version == due.get("version"):
        raise skipped(f"{done.version} is being deployed now, nothing else is due")
    return due


class Open(Step):
    """Checks what the whole deployment rests on, takes the lock, and begins the deployment's state."""

    def work(self, run: StepRun) -> Evidence:
        from handover.workflows.rollback.start import opened_here

        if problem := key_problem():
            raise AirflowFailException(f"nothing was touched: {problem}: nobody could tell evidence from a forgery")
        try:
            release = Release.model_validate(left(run.context["ti"], "release_due", RELEASE_KEY))
        except NotSealed as error:
            raise AirflowFailException(f"nothing was touched: {error}") from None
        found = connections_of(self.plan)
        if found.problem:
            raise AirflowFailException(f"nothing was touched: {found.problem}")
        self._nets_are_there()
        return asyncio.run(self._open(run, release, found.said, opened_here(self.plan, run.run_id)))

    def _nets_are_there(self) -> None:
        from handover.workflows.rollback.start import nets_problem

        if problem := nets_problem(self.plan):
            raise AirflowFailException(f"nothing was touched: {problem}")

    async def _open(self, run: StepRun, release: Release, unverified: str = "", opened_in: str = "") -> Evidence:
        from handover.kube import permissions

        async with run.kube() as kube:
            if problem := await permissions.refusal(kube, self.plan):
                raise AirflowFailException(f"nothing was touched: {problem}")
            if problem := await target.problem(kube, self.plan):
                raise AirflowFailException(f"nothing was touched: {problem}")
            release, gate = await readiness_gate(kube, self.plan, release)
            if problem := not_agreed(run.context["ti"], self.plan, release, gate.overridden, clock.utc()):
                raise AirflowFailException(f"nothing was touched: {problem}")
            run.context["ti"].xcom_push(key=TAKING_LOCK_KEY, value=True)
            try:
                router = run.router(kube)
                known = await begin(kube, router, self.plan, run.run_id, release, gate.text, opened_in=opened_in)
            except (lock.Locked, Refused) as error:
                raise AirflowFailException(f"nothing was touched: {error}") from None
        token = known.token
        gate.announce(run.context, self.plan, release)
        opened = Deployment(
            plan=self.plan.name, version=release.version, image=release.image, previous_version=known.previous_version,
            previous_image=known.previous_image, method=release.method, requested_by=run.asked_by,
            reason=release.reason, window_override_reason=release.window_override_reason,
            readiness_override_reason=release.readiness_override_reason, readiness=gate.run,
            started_at=known.started_at,
        )  # fmt: skip
        leave(run.context["ti"], DEPLOYMENT_KEY, opened.model_dump(mode="json"))
        leave(run.context["ti"], FENCING_KEY, token.model_dump(mode="json"))
        leave(run.context["ti"], RELEASE_KEY, release.model_dump(mode="json"))
        return passed(
            self.task_id,
            f"{release.version} is to go to {token.preview}, {known.previous_version} serves on {token.stable}, "
            f"generation {token.generation}; both Services can be switched; {gate.text}{unverified}",
        )


async def begin(
    kube: Kube, router: Router, plan: Plan, run_id: str, release: Release, readiness: str, *, opened_in: str = ""
) -> DeploymentState:
    """Takes the lock and begins the deployment's state; doing it twice gives the same one.

    Raises `Locked` when somebody else deploys, and `Refused` when it is not clear what serves now, or when this run was
    rolled back before it was open. The lock is then for `GiveUp` to give back: another try of this run may have it.
    """
    name, why = plan.lock_name, f"{release.version}: {release.why}"
    gone = await state.given_up(kube, name)
    seen = await lock.generation_for(kube, name, run_id, *gone)  # first: whoever comes after it is noticed
    before = await serving(kube, router, plan)
    await _has_not_ended(kube, plan, run_id)
    generation = await lock.acquire(kube, name, run_id, why, take_over=gone, still_at=seen)
    known = await state.read(kube, name)
    if known is not None and known.generation == generation:
        return known
    await _has_not_ended(kube, plan, run_id)
    previous = await serving(kube, router, plan)  # again: now nobody else moves it any more
    if previous != before:
        raise Refused(
            f"what serves has changed from {before.version} on {before.colour} to {previous.version} on "
            f"{previous.colour} meanwhile; try again"
        )
    token = FencingToken(
        deployment=run_id, generation=generation, stable=previous.colour, preview=plan.cluster.other(previous.colour),
    )  # fmt: skip
    fresh = _new_state(release, token, previous, readiness, opened_in)
    await state.write(kube, name, fresh)
    return fresh


async def _has_not_ended(kube: Kube, plan: Plan, run_id: str) -> None:
    if ended := await state.ended(kube, plan.lock_name, run_id):
        raise Refused(f"{run_id} is {ended}: start another run")


def _new_state(
    release: Release, token: FencingToken, previous: Serving, readiness: str, opened_in: str
) -> DeploymentState:
    return DeploymentState(
        deployment=token.deployment, generation=token.generation, status=Status.DEPLOYING, version=release.version,
        image=release.image, previous_version=previous.version, previous_image=previous.image,
        stable=token.stable, preview=token.preview, reason=release.why, started_at=clock.epoch(),
        readiness=readiness, opened_in=opened_in,
    )  # fmt: skip


class GiveUp(BaseOperator):
    """Gives the lock back when opening failed after taking it; nothing in production was changed by then.

    A process of this run that was held up may still come to the lock; it finds that the run was given up, and whoever
    opens next may take what it holds.
    """

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ONE_FAILED, **kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        if context["ti"].xcom_pull(task_ids="open", key=TAKING_LOCK_KEY):
            asyncio.run(self.unlock(context["run_id"]))

    async def unlock(self, run_id: str) -> None:
        """Only what this run holds."""
        name = self.plan.lock_name
        async with outside().kube(self.plan.cluster.connection, self.plan.cluster.namespace) as kube:
            await state.forbid(kube, name, run_id)
            generation, who = await lock.look(kube, name)
            if who != run_id:
                return
            await state.give_up(kube, name, run_id, generation)
            await lock.release(kube, name, generation)
            self.log.info("gave the lock %s back", name)
