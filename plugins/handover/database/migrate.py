"""Step 3.2 as a sequence: what is pending, may it run, run it under guard, remember what happened."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import server_major
from handover.coordination.routing import moved_back
from handover.database import blockers, ledger, lint, migrations, runner, validation
from handover.database.cpu import Cpu
from handover.database.guard import Guard
from handover.database.migrations import Bundle, Row, Script
from handover.database.progress import Progress
from handover.models.evidence import Evidence, Measurement, failed, passed

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.operators import Migrate
    from handover.models.deployment import DeploymentState
    from handover.step import StepRun

log = logging.getLogger(__name__)


class GuardedRun:
    """One try of the step `handover.database.operators.Migrate`: what is the same whoever runs the migrations."""

    def __init__(self, step: Migrate, step_run: StepRun) -> None:
        self.step, self.step_run, self.plan = step, step_run, step.plan

    def begin(self, started: bool, first: Mapping[str, Any], **always: Any) -> DeploymentState:
        """Writes down what is about to happen, so that a rollback knows it whatever happens to this process.

        :param started: an earlier try has done so; then ``first`` is written already
        """
        self.step.fence(self.step_run)
        if not started:
            with self.step.primary.connect() as connection:
                counts = validation.count(connection, self.plan.database.counted_tables)
            facts = {"started": True, "method": self.step_run.release.method}
            always |= {**facts, **counts.facts, **first}
        return self.step.remember_migration(self.step_run, running=True, **always)

    def guard(self, cancels: Callable[[Connection[Any]], Sequence[int]] | None) -> Guard:
        return Guard(
            self.step.primary, self.step.replicas, self.plan.thresholds.max_migration_lag_seconds,
            called_off=self._called_off, cancels=cancels,
        )  # fmt: skip

    async def _called_off(self) -> str:
        async with self.step_run.kube() as kube:
            if why := await moved_back(self.step_run.router(kube), self.step_run.token):
                return why
            return (await self.step_run.state(kube)).migration.cancelled


class MigrationRun(GuardedRun):
    """SQL of the release by our runner, or by its own Prisma."""

    def __init__(self, step: Migrate, step_run: StepRun) -> None:
        super().__init__(step, step_run)
        self.primary = step.primary
        self.limits = runner.StatementLimits.of(self.plan.database)

    def run(self) -> Evidence:
        release = self.step.bundle(self.step_run)
        with self.primary.connect() as connection:
            problems = ledger.obstacles(connection)
            rows = [] if problems else ledger.rows(connection)
            pending = migrations.pending(release, rows)
            problems = problems or self._against(release, rows, pending, connection)
        if problems:
            return self._failed("refused, nothing was changed: " + "; ".join(problems))
        names = tuple(script.name for script in pending)
        begun = self.step.state(self.step_run).migration
        if not names:
            applied = self._applied(release, begun.planned)
            self.step.remember_migration(self.step_run, applied=applied)
            done = f"; this deployment has applied {', '.join(applied)}" if applied else ""
            return passed(self.step.task_id, f"nothing is pending{done}", *self._measured(applied, 0, 0))
        state = self.begin(begun.started, {}, planned=tuple(dict.fromkeys((*begun.planned, *names))))
        if why := state.migration.cancelled:
            return self._failed(f"cancelled before it began: {why}")
        return self._guarded(release)

    def _guarded(self, release: Bundle) -> Evidence:
        prisma = self.step_run.release.method == "prisma"
        guard = self.guard(ledger.holders if prisma else None)
        cpu, progress = Cpu(self.plan.database.cpu), Progress(self.primary, ledger.holders)
        seconds, waits, failure = 0.0, 0, ""
        with guard.watching(), cpu.watching(), progress.watching():
            self.step.fence(self.step_run)
            try:
                if prisma:
                    failure = asyncio.run(self._prisma(release))
                else:
                    done = runner.apply(self.primary, release, self.limits, guard)
                    seconds, waits = done.seconds, done.lock_waits
            except (runner.MigrationRefused, runner.MigrationFailed, ledger.Busy, ledger.PooledSession) as error:
                failure = str(error)
        planned = self.step.state(self.step_run).migration.planned
        applied = self._applied(release, planned)
        self.step.remember_migration(self.step_run, applied=applied, running=False)
        seen = (
            *self._measured(applied, seconds, waits), *guard.seen.measurements(), *cpu.measurements(),
            *progress.measurements(),
        )  # fmt: skip
        if failure := failure or guard.breach() or "":
            return self._failed(failure, *seen)
        return passed(self.step.task_id, f"applied {', '.join(applied)}", *seen)

    async def _prisma(self, release: Bundle) -> str:
        """The release's own ``prisma migrate deploy``; what it failed with, empty when its table says all is well.

        Its exit code alone proves nothing: it is 0 for edited and for missing migrations.
        """
        from handover.kube import jobs

        timeout = f"-c lock_timeout={int(self.limits.lock_timeout * 1000)}"
        command = jobs.Command(
            name=f"{self.plan.cluster.app}-prisma-migrate",
            key=f"{self.step_run.run_id}/{self.step.task_id}",
            image=await self._image(),
            argv=self.plan.database.prisma_command,
            env={"PGOPTIONS": f"{timeout}ms", "PRISMA_HIDE_UPDATE_MESSAGE": "1"},
            pull_secret=self.plan.image.pull_secret,
        )
        async with self.step_run.kube() as kube:
            result = await jobs.run(kube, self.plan.cluster, command)
            await jobs.answered(kube, result)
        for line in result.output.splitlines():
            log.info("%s", line)
        rows = self._rows()
        left = [f"{script.name} is not applied" for script in migrations.pending(release, rows)]
        wrong = left + migrations.stuck(rows) + migrations.drift(release, rows)
        if result.succeeded and not wrong:
            return ""
        return "; ".join(part for part in (*wrong, result.reason, result.output.strip()[-300:]) if part)

    async def _image(self) -> str:
        async with self.step_run.kube() as kube:
            return (await self.step_run.state(kube)).image

    def _rows(self) -> list[Row]:
        with self.primary.connect() as connection:
            return ledger.rows(connection)

    def _against(
        self, release: Bundle, rows: list[Row], pending: Sequence[Script], connection: Connection[Any]
    ) -> list[str]:
        judged = lint.judged(pending, self.plan.database.lint, server_major(connection))
        found = self._refusals(release, rows) + judged.refusals + ledger.obstacles(connection, pending)
        files = [script.forward for script in pending if not script.forward.unreadable]
        return list(dict.fromkeys(found + blockers.blockers(connection, files)))

    def _refusals(self, release: Bundle, rows: list[Row]) -> list[str]:
        if self.step_run.release.method == "sql":
            return runner.refusals(release, rows)
        bad = migrations.unreadable(migrations.pending(release, rows))
        return migrations.stuck(rows) + migrations.drift(release, rows) + bad

    def _applied(self, release: Bundle, planned: tuple[str, ...]) -> tuple[str, ...]:
        """What of this deployment's plan the database says is applied."""
        done = set(migrations.applied(self._rows()))
        return tuple(name for name in release.names if name in done and name in planned)

    def _measured(self, applied: tuple[str, ...], seconds: float, waits: int) -> tuple[Measurement, ...]:
        return (
            Measurement(what="migrations_applied", value=len(applied), source="database"),
            Measurement(what="migration_seconds", value=round(seconds, 3), unit="s", source="database"),
            Measurement(what="lock_waits", value=waits, source="database"),
        )

    def _failed(self, reason: str, *seen: Measurement) -> Evidence:
        return failed(self.step.task_id, reason, *seen)
