"""Migrations by a command of the release itself (Flyway, Alembic, Django ...), guarded and looked at from outside.

What is pending only the tool knows. So what it did is what its history has that it did not have before; where there is
no history, a command that ended well counts as one migration.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from handover.database import history, undo
from handover.database.cpu import Cpu
from handover.database.guard import Guard
from handover.database.history import History, HistoryUnreadable
from handover.database.migrate import GuardedRun
from handover.database.progress import Progress
from handover.database.reverse import DatabaseRollback
from handover.database.undo import Action, UndoChoice
from handover.kube import jobs
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.plan.parts import required

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.operators import DatabaseStep, Migrate
    from handover.models.deployment import DeploymentState
    from handover.plan.migration import MigrationTool
    from handover.step import StepRun

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.5
MAX_SAID = 300
_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND pid <> pg_backend_pid()"


class ToolJob:
    """A command of the tool, in the image of the new release; its sessions bear a name, so that they can be ended."""

    def __init__(self, step: DatabaseStep, step_run: StepRun) -> None:
        self.step, self.step_run, self.plan = step, step_run, step.plan
        self.session_name = f"{self.plan.name}-migration-{step_run.token.generation}"

    def sessions(self, connection: Connection[Any]) -> list[int]:
        """Backends of the tool, where its driver knows ``PGAPPNAME``."""
        return [row[0] for row in connection.execute(_SESSIONS, (self.session_name,))]

    async def run(self, argv: tuple[str, ...], guard: Guard | None = None) -> str:
        """Why it failed; "" when it ended well. When the guard says so, its Job is stopped."""
        async with self.step_run.kube() as kube:
            state = await self.step_run.state(kube)
            command = jobs.Command(
                name=f"{self.plan.cluster.app}-{self.step.task_id}", key=f"{self.step_run.run_id}/{self.step.task_id}",
                image=state.image, argv=argv, env={"PGAPPNAME": self.session_name},
                pull_secret=self.plan.image.pull_secret,
            )  # fmt: skip
            name = await jobs.submit(kube, self.plan.cluster, command)
            stopping = asyncio.create_task(_until_breach(guard)) if guard else None
            running = asyncio.create_task(jobs.finished(kube, self.plan.cluster, name))
            await asyncio.wait([one for one in (running, stopping) if one], return_when=asyncio.FIRST_COMPLETED)
            if not running.done():
                await jobs.answered(kube, jobs.JobEnd(name, None))
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                return (guard and guard.breach()) or "it was stopped"
            if stopping:
                stopping.cancel()
            result = running.result()
            await jobs.answered(kube, result)
        for line in result.output.splitlines():
            log.info("%s", line)
        if result.succeeded:
            return ""
        return "; ".join(part for part in (result.reason, result.output.strip()[-MAX_SAID:]) if part) or "it failed"


async def _until_breach(guard: Guard) -> None:
    while guard.breach() is None:
        await asyncio.sleep(LOOK_SECONDS)


def tool_of(step: DatabaseStep) -> MigrationTool:
    """Raises `handover.plan.parts.LeftOut`."""
    return required(step.plan.database.tool, "migration.tool")


def look(step: DatabaseStep) -> History | None:
    """Raises `HistoryUnreadable`."""
    with step.primary.connect() as connection:
        return history.read(connection, tool_of(step))


def order(connection: Connection[Any], tool: MigrationTool | None) -> dict[str, list[str]]:
    """What is wrong with the history, by what is looked at."""
    try:
        found = history.read(connection, required(tool, "migration.tool"))
    except HistoryUnreadable as error:
        return {"the history of migrations can be read": [str(error)]}
    return {"the history of migrations is in order": list(found.wrong)} if found else {}


class ToolRun(GuardedRun):
    """A killed try's Job is found again, and what was applied before it is remembered."""

    def __init__(self, step: Migrate, step_run: StepRun) -> None:
        super().__init__(step, step_run)
        self.job = ToolJob(step, step_run)

    def run(self) -> Evidence:
        try:
            before = look(self.step)
        except HistoryUnreadable as error:
            return failed(self.step.task_id, f"refused, nothing was changed: {error}")
        begun = self.step.state(self.step_run).migration
        if before and before.wrong and not begun.started:
            return failed(self.step.task_id, f"refused, nothing was changed: {'; '.join(before.wrong)}")
        unknown = () if before else (" ".join(tool_of(self.step).command),)  # nobody could tell after a kill
        state = self.begin(begun.started, {"known": before.applied if before else None, "applied": unknown})
        if why := state.migration.cancelled:
            return failed(self.step.task_id, f"cancelled before it began: {why}")
        return self._guarded()

    def _guarded(self) -> Evidence:
        guard = self.guard(self.job.sessions)
        cpu, tool = Cpu(self.plan.database.cpu), tool_of(self.step)
        progress = Progress(self.step.primary, self.job.sessions)
        with guard.watching(), cpu.watching(), progress.watching():
            self.step.fence(self.step_run)
            failure = asyncio.run(self.job.run(tool.command, guard)) or guard.breach() or ""
        applied, wrong = self._applied(" ".join(tool.command))
        self.step.remember_migration(self.step_run, applied=applied, running=False)
        count = Measurement(what="migrations_applied", value=len(applied), source="database")
        seen = (count, *guard.seen.measurements(), *cpu.measurements(), *progress.measurements())
        if problems := [part for part in (*wrong, failure) if part]:
            return failed(self.step.task_id, "; ".join(problems), *seen)
        return passed(self.step.task_id, f"applied {', '.join(applied)}" if applied else "nothing was pending", *seen)

    def _applied(self, command: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names that this deployment has applied, and what the history has against it."""
        try:
            after = look(self.step)
        except HistoryUnreadable as error:
            return (command,), (str(error),)
        if after is None:  # one that failed may have left something behind
            return (command,), ()
        known = self.step.state(self.step_run).migration.known or ()
        return tuple(name for name in after.applied if name not in known), after.wrong


class ToolRollback(DatabaseRollback):
    """Rollback step 4 after a tool: kept, or undone by the tool itself; damaged data is repaired as after ours."""

    def run(self) -> Evidence:
        state, tool = self.step.state(self.step_run), tool_of(self.step)
        try:
            found = look(self.step)
        except HistoryUnreadable as error:
            return failed(self.step.task_id, f"a person has to decide: {error}")
        if found and found.wrong:  # it was in order before
            return failed(self.step.task_id, f"a person has to decide: {'; '.join(found.wrong)}")
        applied = found.applied if found else state.migration.applied
        ours = tuple(name for name in applied if name not in (state.migration.known or ()))
        known = state.migration.model_copy(update={"applied": ours})
        point = state.restore_point or state.backup
        choice = undo.undo(known, ours, ours if tool.undo_command else (), restorable=point is not None)
        log.info("%s: %s", choice.action, choice.why)
        return self._carry_out(choice, state, tool)

    def _carry_out(self, choice: UndoChoice, state: DeploymentState, tool: MigrationTool) -> Evidence:
        text = f"{choice.action}: {choice.why}" + (f" (may be lost: {choice.loses})" if choice.loses else "")
        if choice.action is Action.ASK:
            return failed(self.step.task_id, f"a person has to decide: {choice.why}")
        if choice.action is Action.KEEP:
            return passed(self.step.task_id, text)
        self.step.fence(self.step_run)
        if tool.undo_command and choice.names and (why := self._undone(tool.undo_command, choice.names, state)):
            return failed(self.step.task_id, f"{text}; {why}")
        if choice.action is Action.RESTORE:
            return self._repaired(state, text)
        self._forget()
        return passed(self.step.task_id, f"{text}; undone: {', '.join(choice.names)}")

    def _repaired(self, state: DeploymentState, text: str) -> Evidence:
        from handover.database import ledger, repair, runner, storage

        try:
            return self._restore((), state, text)
        except (runner.StatementFailed, ledger.Busy, storage.BackupDamaged, repair.RestoreFailed) as error:
            return failed(self.step.task_id, f"{text}; {error}")

    def _undone(self, command: tuple[str, ...], names: tuple[str, ...], state: DeploymentState) -> str:
        """Why the tool has not undone them; "" when its history is what it was."""
        known = state.migration.known or ()
        to = known[-1] if known else ""
        argv = [part.replace("{count}", str(len(names))).replace("{to}", to) for part in command]
        failure = asyncio.run(ToolJob(self.step, self.step_run).run(tuple(argv)))
        left = look(self.step)
        if left and set(left.applied) == set(known) and not left.wrong:
            return ""
        return f"{' '.join(argv)} has not undone them: {failure or 'its history is not what it was before'}"
