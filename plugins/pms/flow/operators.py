"""What holds a deployment together: opening, deciding, rolling back and closing it."""

from __future__ import annotations

import asyncio
import datetime
import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.bases.branch import BranchMixIn
from airflow.sdk.exceptions import AirflowFailException

from pms.flow.decision import decide
from pms.flow.gate import Gate, readiness_gate
from pms.flow.request import BadRequest, release_of
from pms.models.deployment import DeploymentState, Release, Status, Ticket
from pms.models.evidence import Evidence, passed
from pms.models.followup import ENDED_KEY, Ended
from pms.models.record import DECISION_KEY, DEPLOYMENT_KEY, INCIDENTS_KEY, OUTCOME_KEY, SYSTEM, Deployment, Outcome
from pms.models.record import Decision as Recorded
from pms.people.operators import PROCEED, ROLLBACK
from pms.plan import freeze, window
from pms.step import EVIDENCE_KEY, RELEASE_KEY, TICKET_KEY, Job, Step, skipped

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pms.kube.client import Kube
    from pms.plan.model import Plan


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


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
            release = release_of(self.plan, asked, _now())
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        if release.window_override:
            self.log.warning("deployment window overridden: %s", release.window_override_reason)
        context["ti"].xcom_push(key=RELEASE_KEY, value=release.model_dump(mode="json"))
        return f"{release.version} as {release.image}"

    def _due(self) -> dict[str, Any]:
        due = release_due(self.plan)
        if not window.may_start(self.plan.window, _now()):  # Airflow was down on the day, or is new and catches up
            raise skipped("this run is late: its deployment window has closed")
        return due


def release_due(plan: Plan, *, later: bool = False) -> dict[str, Any]:
    """What the Airflow Variable ``<plan>_release_due`` asks for, unless it is deployed; raises a skip for nothing.

    :param later: about a window to come, so that a release that is being deployed now is none, either
    """
    from airflow.sdk import Variable

    from pms.kube import state
    from pms.kube.client import connect

    variable = f"{plan.name}_release_due"
    due = Variable.get(variable, default=None, deserialize_json=True)
    if not due:
        raise skipped(f"no release is due (the Variable {variable} is empty)")
    if not isinstance(due, dict):
        raise AirflowFailException(f"the Variable {variable} must be a JSON object, not {type(due).__name__}")

    async def last() -> DeploymentState | None:
        async with connect(plan.cluster.connection, plan.cluster.namespace) as kube:
            return await state.read(kube, plan.lock_name)

    done = asyncio.run(last())
    if done and done.status is Status.SUCCEEDED and done.version == due.get("version"):
        raise skipped(f"{done.version} is deployed already, nothing else is due")
    if later and done and done.status is Status.DEPLOYING and done.version == due.get("version"):
        raise skipped(f"{done.version} is being deployed now, nothing else is due")
    return due


class Open(Step):
    """Checks what the whole deployment rests on, takes the lock, and begins the deployment's state."""

    def work(self, job: Job) -> Evidence:
        release = Release.model_validate(job.context["ti"].xcom_pull(task_ids="release_due", key=RELEASE_KEY))
        self._connections_exist()
        self._rollback_can_run()
        return asyncio.run(self._open(job, release))

    def _connections_exist(self) -> None:
        if missing := missing_connections(self.plan):
            raise AirflowFailException(
                f"nothing was touched: missing Airflow connections: {', '.join(missing)}; add them under "
                "Admin > Connections or with `airflow connections add`"
            )

    def _rollback_can_run(self) -> None:
        from pms.flow.rollback import rollback_dag_problem

        if problem := rollback_dag_problem(self.plan):
            raise AirflowFailException(f"nothing was touched: {problem}")

    async def _open(self, job: Job, release: Release) -> Evidence:
        from pms.kube import lock, permissions, state

        async with job.kube() as kube:
            if problem := await permissions.refusal(kube, self.plan):
                raise AirflowFailException(f"nothing was touched: {problem}")
            release, gate = await readiness_gate(kube, self.plan, release)
            old_colour, previous = await serving(kube, self.plan)
            try:
                generation = await lock.acquire(
                    kube, self.plan.lock_name, job.run_id, f"{release.version}: {release.why}"
                )
            except lock.Locked as error:
                raise AirflowFailException(f"nothing was touched: {error}") from None
            ticket = Ticket(
                deployment=job.run_id, generation=generation, old_colour=old_colour,
                new_colour=self.plan.cluster.other(old_colour),
            )  # fmt: skip
            known = await state.read(kube, self.plan.lock_name)
            if known is None or known.generation != generation:
                fresh = _new_state(release, ticket, previous, gate)
                await state.write(kube, self.plan.lock_name, fresh)
                began = fresh.started_at
            else:  # this task ran before
                began = known.started_at
                ticket = ticket.model_copy(update={"old_colour": known.old_colour, "new_colour": known.new_colour})
        gate.announce(job.context, self.plan, release)
        opened = Deployment(
            plan=self.plan.name, version=release.version, image=release.image, previous_version=previous["version"],
            previous_image=previous["image"], method=release.method, requested_by=job.asked_by, reason=release.reason,
            override_reason=release.overrides, readiness=gate.run, started_at=began,
        )  # fmt: skip
        job.context["ti"].xcom_push(key=DEPLOYMENT_KEY, value=opened.model_dump(mode="json"))
        job.context["ti"].xcom_push(key=TICKET_KEY, value=ticket.model_dump(mode="json"))
        job.context["ti"].xcom_push(key=RELEASE_KEY, value=release.model_dump(mode="json"))
        return passed(
            self.task_id,
            f"{release.version} goes to {ticket.new_colour}, {previous['version']} serves on {ticket.old_colour}, "
            f"generation {generation}; {gate.text}",
        )


def missing_connections(plan: Plan) -> list[str]:
    """Airflow connections that the plan names and nobody has made."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    missing = []
    for connection in plan.connections:
        try:
            BaseHook.get_connection(connection)
        except AirflowNotFoundException:
            missing.append(connection)
    return missing


async def serving(kube: Kube, plan: Plan) -> tuple[str, dict[str, str]]:
    """The colour that the Service selects, with the version and image that run there."""
    cluster = plan.cluster
    service = await kube.get("services", cluster.service)
    colour = service["spec"].get("selector", {}).get(cluster.colour_key)
    if colour not in cluster.colours:
        raise AirflowFailException(
            f"nothing was touched: the Service {cluster.service} selects {cluster.colour_key}={colour}, not one of "
            f"{', '.join(cluster.colours)}; a switch was left half-way, run {plan.rollback_dag_id} first"
        )
    running = await kube.get("apps/v1/deployments", cluster.deployment_of(colour))
    image = running["spec"]["template"]["spec"]["containers"][0]["image"]
    version = running["metadata"].get("annotations", {}).get("pms.deploy/version") or image.rpartition(":")[2]
    return colour, {"version": version, "image": image}


def _new_state(release: Release, ticket: Ticket, previous: dict[str, str], gate: Gate) -> DeploymentState:
    return DeploymentState(
        deployment=ticket.deployment, generation=ticket.generation, status=Status.DEPLOYING, version=release.version,
        image=release.image, previous_version=previous["version"], previous_image=previous["image"],
        old_colour=ticket.old_colour, new_colour=ticket.new_colour, reason=release.why, started_at=time.time(),
        readiness=gate.text,
    )  # fmt: skip


class GiveUp(BaseOperator):
    """Gives the lock back when opening failed after taking it; nothing in production was changed by then."""

    def __init__(self, *, plan: Plan, **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ONE_FAILED, **kwargs)
        self.plan = plan

    def execute(self, context: Context) -> Any:
        asyncio.run(self._unlock(context["run_id"]))

    async def _unlock(self, run_id: str) -> None:
        from pms.kube import lock
        from pms.kube.client import connect

        async with connect(self.plan.cluster.connection, self.plan.cluster.namespace) as kube:
            lease = await kube.find(lock.LEASES, self.plan.lock_name)
            if lease and lease["spec"].get("holderIdentity") == run_id:
                generation = int(lease["spec"]["leaseTransitions"])
                ticket = Ticket(deployment=run_id, generation=generation, old_colour="", new_colour="")
                await lock.release(kube, self.plan.lock_name, ticket)
                self.log.info("gave the lock %s back", self.plan.lock_name)


class WindowOpen(Step):
    """Waits, without a worker slot, until traffic may move (plan "Deployment Window"); an override passes at once."""

    def execute(self, context: Context) -> Any:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger

        opens = window.opening(self.plan.window, _now())
        if not self.job(context).release.window_override and opens > _now():
            self.log.info("waiting until %s", opens)
            self.defer(trigger=DateTimeTrigger(moment=opens), method_name="execute_complete")
        return self.execute_complete(context)

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        return self.conclude(context, self.work(self.job(context)))

    def work(self, job: Job) -> Evidence:
        if job.release.window_override:
            return passed(self.task_id, f"overridden: {job.release.window_override_reason}")
        if not window.is_open(self.plan.window, _now()):
            raise AirflowFailException("the deployment window has closed; nothing was switched")
        if why := freeze.frozen(self.plan.freeze, self.plan.window.timezone, _now()):
            raise AirflowFailException(f"nothing may be deployed now: {why}; nothing was switched")
        return passed(self.task_id, f"open until {self.plan.window.closes:%H:%M} {self.plan.window.timezone}")


class Decide(BaseOperator, BranchMixIn):
    """The branch after a phase: proceed or roll back, from the evidence of every step in it, and says why."""

    def __init__(self, *, plan: Plan, phase: str, reads: list[str], proceed_to: str, roll_back: str, **kwargs: Any):
        super().__init__(trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS, **kwargs)
        self.plan, self.phase, self.reads = plan, phase, reads
        self.proceed_to, self.roll_back = proceed_to, roll_back

    def execute(self, context: Context) -> Any:
        from pms.people.channels import tell
        from pms.people.messages import decided

        found = {task: context["ti"].xcom_pull(task_ids=task, key=EVIDENCE_KEY) for task in self.reads}
        decision = decide({task: Evidence.model_validate(e) if e else None for task, e in found.items()})
        for reason in decision.reasons:
            self.log.info("%s", reason)
        self.log.info("%s: %s", self.phase, "proceed" if decision.proceed else "roll back")
        tell(context, self.plan, decided(self.plan, self.phase, decision.proceed, decision.reasons))
        context["ti"].xcom_push(key="reasons", value=decision.reasons)
        choice = PROCEED if decision.proceed else ROLLBACK
        entry = Recorded(
            at=time.time(), question=f"After {self.phase}", choice=choice, who=SYSTEM, why="; ".join(decision.reasons)
        )
        context["ti"].xcom_push(key=DECISION_KEY, value=entry.model_dump(mode="json"))
        return self.do_branch(context, self.proceed_to if decision.proceed else self.roll_back)


class RollBack(BaseOperator):
    """Starts the rollback DAG, then fails, so that the deployment run ends failed whatever else succeeded."""

    def __init__(self, *, plan: Plan, reason_from: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("retries", 10)
        kwargs.setdefault("retry_delay", datetime.timedelta(seconds=3))
        super().__init__(**kwargs)
        self.plan, self.reason_from = plan, reason_from

    def execute(self, context: Context) -> Any:
        from pms.flow.rollback import OPEN_TASK, start_rollback

        if context["ti"].xcom_pull(task_ids=OPEN_TASK, key=TICKET_KEY) is None:
            raise AirflowFailException("this deployment was never opened: there is nothing to roll back")
        reasons = context["ti"].xcom_pull(task_ids=self.reason_from, key="reasons") if self.reason_from else None
        reason = "; ".join(reasons or []) or "a step of the deployment failed"
        run_id = start_rollback(self.plan, context["run_id"], reason)
        raise AirflowFailException(f"rolled back by {self.plan.rollback_dag_id} run {run_id}: {reason}")


class Close(Step):
    """Ends a deployment or rollback: writes how it ended and gives the lock back.

    A failed rollback keeps the lock: nobody deploys on top of it until a person has cleared its failed step.
    """

    def __init__(self, *, status: Status, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.status = status

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self._close(job))

    async def _close(self, job: Job) -> Evidence:
        from pms.kube import lock

        async with job.kube() as kube:
            state = await job.remember(kube, status=self.status, finished_at=time.time())
            if self.status is not Status.ROLLBACK_FAILED:
                await lock.release(kube, self.plan.lock_name, job.ticket)
        outcome = Outcome(
            status=self.status, at=state.finished_at or 0, switched_at=state.switched_at,
            backup_uri=state.backup.uri if state.backup else "",
        )  # fmt: skip
        job.context["ti"].xcom_push(key=OUTCOME_KEY, value=outcome.model_dump(mode="json"))
        found = [incident.model_dump(mode="json") for incident in state.incidents]
        job.context["ti"].xcom_push(key=INCIDENTS_KEY, value=found)
        ended = Ended(
            deployment=state.deployment, version=state.version, previous_version=state.previous_version,
            outcome=self.status, at=state.finished_at or 0, incidents=len(state.incidents),
        )  # fmt: skip
        job.context["ti"].xcom_push(key=ENDED_KEY, value=ended.model_dump(mode="json"))
        seconds = (state.finished_at or 0) - state.started_at
        return passed(self.task_id, f"{state.version}: {self.status} after {seconds:.0f} s")


class PublishEnd(BaseOperator):
    """Starts the follow-ups: publishes what ``close`` has left as an event of the asset. A task of its own, for an
    asset that Airflow refuses must fail nothing that the deployment needs.
    """

    def __init__(self, *, plan: Plan, ended_from: str, ticket_from: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan, self.ended_from = plan, ended_from

    def execute(self, context: Context) -> str:
        ended = Ended.model_validate(context["ti"].xcom_pull(task_ids=self.ended_from, key=ENDED_KEY))
        for asset in self.outlets:
            context["outlet_events"][asset].extra = ended.model_dump(mode="json")
        return f"{ended.deployment}: {ended.outcome}"
