"""What a deployment would do, found out without doing it: the steps of the dry run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, TriggerRule
from airflow.sdk.exceptions import AirflowFailException

from handover import clock
from handover.coordination import promotion
from handover.coordination.lock import FencedOut, holder
from handover.coordination.routing import DEPLOYMENTS
from handover.coordination.serving import Serving, serving
from handover.evidence_seal import leave
from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import DeploymentState, FencingToken, Release, Status
from handover.models.evidence import Evidence, combined, failed, passed, unknown
from handover.outside import outside
from handover.people import messages
from handover.people.asking import Asked
from handover.ports.kube import KubeError
from handover.step import RELEASE_KEY, Step, StepRun
from handover.workflows.deployment import target
from handover.workflows.deployment.connections import connections_of
from handover.workflows.deployment.gate import readiness_gate
from handover.workflows.deployment.overrides import nobody_else, overridden
from handover.workflows.deployment.request import BadRequest, release_of
from handover.workflows.dry_run.difference import differences
from handover.workload import manifests, quota

if TYPE_CHECKING:
    from airflow.sdk import Context

    from handover.database.migrations import Script
    from handover.people.messages import Message
    from handover.plan.migration import MigrationTool
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube

SUMMARY_KEY = "summary"
"""XCom key of the whole dry run as Markdown."""


class ReleaseToTry(BaseOperator):
    """The release of the form, which fails the run when it could never be deployed. It leaves no ticket, so whatever
    shows one before it changes production fails instead.
    """

    def __init__(self, *, plan: Plan, opened_by: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def execute(self, context: Context) -> str:
        try:
            release = release_of(self.plan, dict(context["params"]), None)
        except BadRequest as error:
            raise AirflowFailException(str(error)) from None
        leave(context["ti"], RELEASE_KEY, release.model_dump(mode="json"))
        return f"{release.version} as {release.image}"


class Rehearsal(StepRun):
    """A run of a step whose cluster only says what would become of a change."""

    @asynccontextmanager
    async def kube(self, namespace: str | None = None) -> AsyncIterator[Kube]:
        async with super().kube(namespace) as kube:
            yield kube.rehearsing()


class Preview(Step):
    """Tells what one step of the deployment would do now; its evidence is for the summary."""

    def step_run(self, context: Context) -> StepRun:
        return Rehearsal(self.plan, context, self.opened_by)

    def work(self, run: StepRun) -> Evidence:
        try:
            return super().work(run)
        except promotion.Refused as refused:
            return failed(self.task_id, str(refused))


class MayBegin(Preview):
    """Everything that `Open` asks before it takes the lock, all of it, and whether the lock is free."""

    async def act(self, run: StepRun) -> Evidence:
        asks: dict[str, Callable[[StepRun], Any]] = {
            "window": self._window, "connections": self._connections, "rollback": self._rollback,
            "permissions": self._permissions, "target": self._target, "readiness": self._readiness,
            "overrides": self._overrides, "lock": self._lock,
        }  # fmt: skip
        return combined(self.task_id, [await self._part(run, name, ask) for name, ask in asks.items()])

    async def _part(self, run: StepRun, name: str, ask: Callable[[StepRun], Any]) -> Evidence:
        """``ask`` gives what is against the deployment, or nothing."""
        try:
            problem = await ask(run)
        except (AirflowFailException, BadRequest) as refused:
            problem = str(refused)
        except Exception as error:
            return unknown(name, f"{type(error).__name__}: {error}")
        return failed(name, problem) if problem else passed(name, "good")

    async def _window(self, run: StepRun) -> str:
        release_of(self.plan, dict(run.context["params"]), clock.utc())
        return ""

    async def _connections(self, run: StepRun) -> str:
        return (await asyncio.to_thread(connections_of, self.plan)).problem

    async def _rollback(self, run: StepRun) -> str:
        from handover.workflows.rollback.start import nets_problem

        return await asyncio.to_thread(nets_problem, self.plan)

    async def _permissions(self, run: StepRun) -> str:
        from handover.kube import permissions

        async with run.kube() as kube:
            return await permissions.refusal(kube, self.plan)

    async def _target(self, run: StepRun) -> str:
        async with run.kube() as kube:
            return await target.problem(kube, self.plan)

    async def _readiness(self, run: StepRun) -> str:
        async with run.kube() as kube:
            await readiness_gate(kube, self.plan, run.release)
        return ""

    async def _overrides(self, run: StepRun) -> str:
        """Whether anybody could agree to what is overridden; nobody is asked."""
        if not (run.release.window_override or run.release.readiness_override_reason):
            return ""
        async with run.kube() as kube:
            release, gate = await readiness_gate(kube, self.plan, run.release)
        found = overridden(self.plan, release, gate.overridden, clock.utc())
        return nobody_else(self.plan, run.context.get("dag_run")) if found.what else ""

    async def _lock(self, run: StepRun) -> str:
        async with run.kube() as kube:
            return await holder(kube, self.plan.lock_name)


class WouldDeploy(Preview):
    """Plan 2.2 step 3: the Deployment of the idle colour, as the API server would keep it."""

    async def act(self, run: StepRun) -> Evidence:
        from handover.workload.registry import ImageMissing, pinned

        cluster, release = self.plan.cluster, run.release
        try:
            image = await asyncio.to_thread(pinned, self.plan, release.image)
        except ImageMissing as missing:
            return failed(self.task_id, str(missing))
        async with run.kube() as kube:
            colour = cluster.other((await serving(kube, run.router(kube), self.plan)).colour)
            name = cluster.deployment_of(colour)
            before = await kube.find(DEPLOYMENTS, name)
            body = manifests.deployment(self.plan, colour, release.version, image, 0)
            if lacking := await quota.fit(kube, cluster, body, cluster.other(colour)):
                return failed(self.task_id, lacking)
            after = await kube.apply(DEPLOYMENTS, body)
        return passed(self.task_id, f"Deployment {name}: {_changed(before, after)}")


class WouldSwitch(Preview):
    """Plan 2.2 step 6: the Service after the switch."""

    async def act(self, run: StepRun) -> Evidence:
        async with run.kube() as kube:
            router = run.router(kube)
            try:
                token = await _token(kube, await serving(kube, router, self.plan), run)
                before = route = await router.read()
                for decide in (partial(promotion.overlap, at=clock.epoch()), promotion.promote):
                    if wanted := decide(route, token):
                        route = await router.swap(wanted)
            except (FencedOut, promotion.Refused, KubeError) as error:
                return failed(self.task_id, str(error))
        return passed(self.task_id, f"{router.name}: {_changed(before.revision, route.revision)}")


class WouldMigrate(Preview):
    """Plan 3.2: what is pending, and what is against running it. The migrations come out of the release's image, which
    takes a Job; it runs in staging, as the tests of 1.1 do, and is all that a dry run leaves anywhere.
    """

    needs = "migration"

    async def act(self, run: StepRun) -> Evidence:
        from handover.adapters.postgres import database, server_major
        from handover.database import ledger, lint, migrations, release, runner
        from handover.workload.registry import ImageMissing, pinned

        if run.release.method == "none":
            return passed(self.task_id, "the release was asked for without a migration")
        if tool := self.plan.database.tool:
            return await asyncio.to_thread(self._by_tool, tool)
        try:
            image = await asyncio.to_thread(pinned, self.plan, run.release.image)
            async with outside().kube(self.plan.cluster.connection, self.plan.cluster.staging_namespace) as kube:
                bundle = await release.bundle(kube, self.plan, image, run.run_id)
        except (ImageMissing, migrations.BundleError) as error:
            return failed(self.task_id, str(error))
        with (await asyncio.to_thread(database, self.plan.database.primary_connection)).connect() as connection:
            connection.execute("SET default_transaction_read_only = on")
            problems = ledger.obstacles(connection)
            rows = [] if problems else ledger.rows(connection)
            pending = migrations.pending(bundle, rows)
            problems = problems or ledger.obstacles(connection, pending)
            major = server_major(connection)
        judged = await asyncio.to_thread(lint.judged, pending, self.plan.database.lint, major)
        if run.release.method == "sql":
            problems += runner.refusals(bundle, rows)
        else:
            problems += migrations.stuck(rows) + migrations.drift(bundle, rows) + migrations.unreadable(pending)
        problems += judged.refusals
        if problems:
            return failed(self.task_id, "; ".join(problems))
        text = "; ".join(_script(script) for script in pending) or "nothing is pending"
        if again := migrations.rolled_back(pending, rows):
            text += f"; rolled back before, and pending again: {', '.join(again)}"
        return passed(self.task_id, f"by {run.release.method}: {text}{judged.told}")

    def _by_tool(self, tool: MigrationTool) -> Evidence:
        """Of what is pending only the tool knows, once it runs."""
        from handover.adapters.postgres import database
        from handover.database import history

        with database(self.plan.database.primary_connection).connect() as connection:
            try:
                found = history.read(connection, tool)
            except history.HistoryUnreadable as error:
                return failed(self.task_id, str(error))
        if found and found.wrong:
            return failed(self.task_id, "; ".join(found.wrong))
        known = f"{len(found.applied)} are applied" if found else "nobody knows which are applied"
        return passed(self.task_id, f"by {' '.join(tool.command)}: {known}; what is pending it knows when it runs")


class WouldTell(Preview):
    """The messages of a deployment that goes well, and where each would go."""

    async def act(self, run: StepRun) -> Evidence:
        from handover.people.channels import letters

        async with run.kube() as kube:
            now = await serving(kube, run.router(kube), self.plan)
            token = await _token(kube, now, run)
            state = _state(run.release, token, now)
        told = [
            f"{letter.channel}: {letter.said}"
            for message in _messages(self.plan, state)
            for letter in letters(self.plan, message, token.deployment)
        ]
        return passed(self.task_id, "\n".join(told))


class Summary(BaseOperator):
    """The whole dry run as Markdown, in the log and as an XCom; fails when the deployment would not go out."""

    def __init__(self, *, plan: Plan, reads: list[str], opened_by: str = "release", **kwargs: Any) -> None:
        super().__init__(trigger_rule=TriggerRule.ALL_DONE, **kwargs)
        self.plan, self.reads, self.opened_by = plan, list(reads), opened_by

    def execute(self, context: Context) -> str:
        ti = context["ti"]
        found = {task: ti.xcom_pull(task_ids=task, key=EVIDENCE_KEY) for task in self.reads}
        evidence = {
            task: Evidence.model_validate(one) if one else unknown(task, "it left no answer")
            for task, one in found.items()
        }
        release = ti.xcom_pull(task_ids=self.opened_by, key=RELEASE_KEY) or {}
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


def _changed(before: Json | None, after: Json) -> str:
    found = differences(before, after)
    return "; ".join(found) if before and found else "no change" if before else f"new; {'; '.join(found)}"


def _script(script: Script) -> str:
    notes = [f"{len(script.statements)} statements"]
    notes += [] if script.transactional else ["runs in no transaction"]
    notes += ["undone by down.sql"] if script.down else ["WITHOUT down.sql: a rollback may need a person"]
    return f"{script.name} ({', '.join(notes)})"


async def _token(kube: Kube, now: Serving, run: StepRun) -> FencingToken:
    """Of the deployment that would be opened now."""
    from handover.coordination import lock

    generation = (await lock.look(kube, run.plan.lock_name))[0] + 1
    other = run.plan.cluster.other(now.colour)
    return FencingToken(deployment=run.run_id, generation=generation, stable=now.colour, preview=other)


def _state(release: Release, token: FencingToken, previous: Serving) -> DeploymentState:
    return DeploymentState(
        deployment=token.deployment, generation=token.generation, status=Status.DEPLOYING, version=release.version,
        image=release.image, previous_version=previous.version, previous_image=previous.image,
        stable=token.stable, preview=token.preview, reason=release.why, started_at=clock.epoch(),
    )  # fmt: skip


def _messages(plan: Plan, state: DeploymentState) -> list[Message]:
    questions = [
        Asked("1.3 Team briefing: ready to deploy?", plan.briefing.role, plan.briefing.response_seconds, "Rollback"),
        Asked("4.3 User acceptance: does it work?", plan.acceptance.role, plan.acceptance.response_seconds, "Rollback"),
    ]
    asks = [messages.asked(plan, question, "(link)") for question in questions]
    return [asks[0], messages.started(plan, state), asks[1], messages.succeeded(plan, state)]
