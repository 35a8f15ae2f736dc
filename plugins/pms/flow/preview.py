"""What a deployment would do, found out without doing it: the steps of the dry run."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from pms.flow.difference import differences
from pms.flow.gate import readiness_gate
from pms.flow.operators import missing_connections, serving
from pms.flow.request import BadRequest, release_of
from pms.kube.client import KubeError
from pms.kube.lock import FencedOut, holder
from pms.models.deployment import DeploymentState, Release, Status, Ticket
from pms.models.evidence import Evidence, combined, failed, passed, unknown
from pms.people import messages
from pms.people.asking import Asked
from pms.step import EVIDENCE_KEY, RELEASE_KEY, Job, Step
from pms.traffic import switch
from pms.workload import manifests

if TYPE_CHECKING:
    from airflow.sdk import Context

    from pms.database.migrations import Script
    from pms.kube.client import Json, Kube
    from pms.people.messages import Message
    from pms.plan.model import Plan

SUMMARY_KEY = "summary"
"""XCom key of the whole dry run as Markdown."""


class ReleaseToTry(BaseOperator):
    """The release of the form, which fails the run when it could never be deployed. It leaves no ticket, so whatever
    shows one before it changes production fails instead.
    """

    def __init__(self, *, plan: Plan, ticket_from: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> str:
        try:
            release = release_of(self.plan, dict(context["params"]), None)
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        context["ti"].xcom_push(key=RELEASE_KEY, value=release.model_dump(mode="json"))
        return f"{release.version} as {release.image}"


class DryJob(Job):
    """A job whose cluster only says what would become of a change."""

    @asynccontextmanager
    async def kube(self, namespace: str | None = None) -> AsyncIterator[Kube]:
        async with super().kube(namespace) as kube:
            yield kube.rehearsing()


class Preview(Step):
    """Tells what one step of the deployment would do now; its evidence is for the summary."""

    def job(self, context: Context) -> Job:
        return DryJob(self.plan, context, self.ticket_from)

    def work(self, job: Job) -> Evidence:
        return asyncio.run(self.look(job))

    async def look(self, job: Job) -> Evidence:
        raise NotImplementedError


class MayBegin(Preview):
    """Everything that `Open` asks before it takes the lock, all of it, and whether the lock is free."""

    async def look(self, job: Job) -> Evidence:
        asks: dict[str, Callable[[Job], Any]] = {
            "window": self._window, "connections": self._connections, "rollback": self._rollback,
            "permissions": self._permissions, "readiness": self._readiness, "lock": self._lock,
        }  # fmt: skip
        return combined(self.task_id, [await self._part(job, name, ask) for name, ask in asks.items()])

    async def _part(self, job: Job, name: str, ask: Callable[[Job], Any]) -> Evidence:
        """``ask`` gives what is against the deployment, or nothing."""
        try:
            problem = await ask(job)
        except (AirflowFailException, BadRequest) as refused:
            problem = str(refused)
        except Exception as error:
            return unknown(name, f"{type(error).__name__}: {error}")
        return failed(name, problem) if problem else passed(name, "good")

    async def _window(self, job: Job) -> str:
        release_of(self.plan, dict(job.context["params"]), datetime.datetime.now(datetime.UTC))
        return ""

    async def _connections(self, job: Job) -> str:
        return ", ".join(await asyncio.to_thread(missing_connections, self.plan))

    async def _rollback(self, job: Job) -> str:
        from pms.flow.rollback import rollback_dag_problem

        return await asyncio.to_thread(rollback_dag_problem, self.plan)

    async def _permissions(self, job: Job) -> str:
        from pms.kube import permissions

        async with job.kube() as kube:
            return await permissions.refusal(kube, self.plan)

    async def _readiness(self, job: Job) -> str:
        async with job.kube() as kube:
            await readiness_gate(kube, self.plan, job.release)
        return ""

    async def _lock(self, job: Job) -> str:
        async with job.kube() as kube:
            return await holder(kube, self.plan.lock_name)


class WouldDeploy(Preview):
    """Plan 2.2 step 3: the Deployment of the idle colour, as the API server would keep it."""

    async def look(self, job: Job) -> Evidence:
        from pms.workload.registry import ImageMissing, pinned

        cluster, release = self.plan.cluster, job.release
        try:
            image = await asyncio.to_thread(pinned, self.plan, release.image)
        except ImageMissing as missing:
            return failed(self.task_id, str(missing))
        async with job.kube() as kube:
            colour = cluster.other((await serving(kube, self.plan))[0])
            name = cluster.deployment_of(colour)
            before = await kube.find(manifests.DEPLOYMENTS, name)
            after = await kube.apply(
                manifests.DEPLOYMENTS, manifests.deployment(self.plan, colour, release.version, image)
            )
        return passed(self.task_id, f"Deployment {name}: {_told(before, after)}")


class WouldSwitch(Preview):
    """Plan 2.2 step 6: the Service after the switch."""

    async def look(self, job: Job) -> Evidence:
        cluster = self.plan.cluster
        async with job.kube() as kube:
            ticket = await _ticket(kube, self.plan, job)
            before = service = await kube.get(manifests.SERVICES, cluster.service)
            try:
                for intent in (switch.overlap, switch.narrow):
                    if patch := partial(intent, cluster=cluster, ticket=ticket)(service):
                        service = await kube.merge(manifests.SERVICES, cluster.service, patch)
            except (FencedOut, switch.Refused, KubeError) as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"Service {cluster.service}: {_told(before, service)}")


class WouldMigrate(Preview):
    """Plan 3.2: what is pending, and what is against running it. The migrations come out of the release's image, which
    takes a Job; it runs in staging, as the tests of 1.1 do, and is all that a dry run leaves anywhere.
    """

    async def look(self, job: Job) -> Evidence:
        from pms.database import ledger, migrations, release
        from pms.kube.client import connect
        from pms.postgres import database
        from pms.workload.registry import ImageMissing, pinned

        if job.release.method == "none":
            return passed(self.task_id, "the release was asked for without a migration")
        try:
            image = await asyncio.to_thread(pinned, self.plan, job.release.image)
            async with connect(self.plan.cluster.connection, self.plan.cluster.staging_namespace) as kube:
                bundle = await release.bundle(kube, self.plan, image, job.run_id)
        except (ImageMissing, migrations.BundleError) as error:
            return failed(self.task_id, str(error))
        with (await asyncio.to_thread(database, self.plan.migration.primary_connection)).connect() as connection:
            connection.execute("SET default_transaction_read_only = on")
            rows = ledger.rows(connection)
        pending = migrations.pending(bundle, rows)
        problems = migrations.stuck(rows, ledger.ATOMIC_MARK) + migrations.drift(bundle, rows)
        problems += migrations.unfit(pending) if job.release.method == "sql" else []
        if problems:
            return failed(self.task_id, "; ".join(problems))
        text = "; ".join(_script(script) for script in pending) or "nothing is pending"
        return passed(self.task_id, f"by {job.release.method}: {text}")


class WouldTell(Preview):
    """The messages of a deployment that goes well, and where each would go."""

    async def look(self, job: Job) -> Evidence:
        from pms.people.channels import letters

        async with job.kube() as kube:
            ticket = await _ticket(kube, self.plan, job)
            state = _state(job.release, ticket, (await serving(kube, self.plan))[1])
        told = [
            f"{letter.channel}: {letter.said}"
            for message in _messages(self.plan, state)
            for letter in letters(self.plan, message, ticket.deployment)
        ]
        return passed(self.task_id, "\n".join(told))


class Summary(BaseOperator):
    """The whole dry run as Markdown, in the log and as an XCom; fails when the deployment would not go out."""

    def __init__(self, *, plan: Plan, reads: list[str], ticket_from: str = "release", **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)
        self.plan, self.reads, self.ticket_from = plan, list(reads), ticket_from

    def execute(self, context: Context) -> str:
        ti = context["ti"]
        found = {task: ti.xcom_pull(task_ids=task, key=EVIDENCE_KEY) for task in self.reads}
        evidence = {
            task: Evidence.model_validate(one) if one else unknown(task, "it left no answer")
            for task, one in found.items()
        }
        release = ti.xcom_pull(task_ids=self.ticket_from, key=RELEASE_KEY) or {}
        text = summary(release.get("version", "nothing"), evidence)
        ti.xcom_push(key=SUMMARY_KEY, value=text)
        self.log.info("%s", text)
        if against := [task for task, one in evidence.items() if not one.passed]:
            raise AirflowFailException(f"it would not go out: {', '.join(against)}; nothing was changed")
        return "it would go out; nothing was changed"


def summary(version: str, evidence: dict[str, Evidence]) -> str:
    """Markdown: a heading, and a section for each step."""
    against = sum(not one.passed for one in evidence.values())
    head = f"# Dry run of {version}: " + (f"{against} of {len(evidence)} steps are against it" if against else "good")
    parts = [f"## {task}: {one.verdict}\n\n{one.reason}" for task, one in evidence.items()]
    return "\n\n".join([head, "Nothing was changed.", *parts]) + "\n"


def _told(before: Json | None, after: Json) -> str:
    found = differences(before, after)
    return "; ".join(found) if before and found else "no change" if before else f"new; {'; '.join(found)}"


def _script(script: Script) -> str:
    notes = [f"{len(script.statements)} statements"]
    notes += [] if script.transactional else ["runs in no transaction"]
    notes += ["undone by down.sql"] if script.down else ["WITHOUT down.sql: a rollback may need a person"]
    return f"{script.name} ({', '.join(notes)})"


async def _ticket(kube: Kube, plan: Plan, job: Job) -> Ticket:
    """Of the deployment that would be opened now."""
    from pms.kube import lock

    colour, _ = await serving(kube, plan)
    lease = await kube.find(lock.LEASES, plan.lock_name)
    generation = int((lease or {"spec": {}})["spec"].get("leaseTransitions") or 0) + 1
    other = plan.cluster.other(colour)
    return Ticket(deployment=job.run_id, generation=generation, old_colour=colour, new_colour=other)


def _state(release: Release, ticket: Ticket, previous: dict[str, str]) -> DeploymentState:
    return DeploymentState(
        deployment=ticket.deployment, generation=ticket.generation, status=Status.DEPLOYING, version=release.version,
        image=release.image, previous_version=previous["version"], previous_image=previous["image"],
        old_colour=ticket.old_colour, new_colour=ticket.new_colour, reason=release.why, started_at=time.time(),
    )  # fmt: skip


def _messages(plan: Plan, state: DeploymentState) -> list[Message]:
    questions = [
        Asked("1.3 Team briefing: ready to deploy?", plan.briefing.role, plan.briefing.response_seconds, "Rollback"),
        Asked("4.3 User acceptance: does it work?", plan.acceptance.role, plan.acceptance.response_seconds, "Rollback"),
    ]
    asks = [messages.asked(plan, question, "(link)") for question in questions]
    return [asks[0], messages.started(plan, state), asks[1], messages.succeeded(plan, state)]
