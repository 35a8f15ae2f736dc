"""The steps that touch the database: backup (1.2), validation (3.1, 3.3), migration (3.2), rollback (step 4)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from handover import clock
from handover.models.deployment import BackupRecord, DeploymentState
from handover.models.evidence import Evidence, Measurement, combined, failed, passed
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from airflow.sdk import Context
    from psycopg import Connection

    from handover.adapters.postgres import Database
    from handover.database.dump import Taken
    from handover.database.migrations import Bundle

BackupKind = Literal["backup", "restore_point"]


class DatabaseRefused(Exception):
    """A database said no, or nothing at all."""


class DatabaseStep(Step):
    """What steps share that ask the plan's databases."""

    needs = "migration"

    def execute(self, context: Context) -> Any:
        return self.asking(context, lambda: super(DatabaseStep, self).execute(context))

    def resumed(self, context: Context, event: Any) -> Any:
        return self.asking(context, lambda: super(DatabaseStep, self).resumed(context, event))

    def asking(self, context: Context, work: Callable[[], Any]) -> Any:
        """Whatever the database says where nobody expects it is tried again, as a network may come back; but it is the
        step's reason meanwhile, and quotes no row (psycopg's own text does).
        """
        import psycopg

        from handover.adapters.postgres import cause

        try:
            return work()
        except psycopg.Error as error:
            reason = f"{type(error).__name__}: {cause(error)}"
        self._leave(context, failed(self.task_id, reason))
        raise DatabaseRefused(reason)

    @property
    def primary(self) -> Database:
        return self._database(self.plan.database.primary_connection)

    @property
    def replicas(self) -> list[Database]:
        return [self._database(name) for name in self.plan.database.replica_connections]

    def _database(self, connection_id: str) -> Database:
        from handover.adapters.postgres import database

        return database(connection_id)

    def state(self, run: StepRun) -> DeploymentState:
        return asyncio.run(self._remember(run))

    def remember(self, run: StepRun, **changes: Any) -> DeploymentState:
        """Stores facts, if this deployment is still the one that holds the lock."""
        return asyncio.run(self._remember(run, **changes))

    async def _remember(self, run: StepRun, **changes: Any) -> DeploymentState:
        async with run.kube() as kube:
            return await run.remember(kube, **changes)

    def remember_migration(self, run: StepRun, **changes: Any) -> DeploymentState:
        """Stores parts of the state's MigrationRecord."""
        return asyncio.run(self._remember_migration(run, **changes))

    async def _remember_migration(self, run: StepRun, **changes: Any) -> DeploymentState:
        def change(old: DeploymentState) -> DeploymentState:
            return old.model_copy(update={"migration": old.migration.model_copy(update=changes)})

        async with run.kube() as kube:
            return await run.change(kube, change)

    def fence(self, run: StepRun) -> None:
        asyncio.run(self._fence(run))

    async def _fence(self, run: StepRun) -> None:
        async with run.kube() as kube:
            await run.fenced(kube)

    def bundle(self, run: StepRun) -> Bundle:
        """The migrations of the deployment's release; raises `handover.database.migrations.BundleError`."""
        return asyncio.run(self._bundle(run))

    async def _bundle(self, run: StepRun) -> Bundle:
        from handover.database import release

        async with run.kube() as kube:
            state = await run.state(kube)
            return await release.bundle(kube, self.plan, state.image, state.deployment)

    def scratch_name(self, run: StepRun, what: str) -> str:
        return f"{self.plan.name}_{what}_{run.token.generation}"


class Backup(DatabaseStep):
    """Plan 1.2 and the point before 3.2: a backup of production in S3, hashed end to end.

    Run twice it takes one backup. The object is ``<prefix><kind>_<UTC time>_<deployment>.dump``.

    :param kind: ``backup`` before the deployment, or ``restore_point`` right before the migration
    """

    def __init__(self, *, kind: BackupKind = "backup", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kind: BackupKind = kind

    def work(self, run: StepRun) -> Evidence:
        from handover.database import storage
        from handover.database.dump import DumpFailed, dump_to_s3
        from handover.database.encryption import BadKey, key_of, told
        from handover.database.tools import ToolMissing

        plan, state = self.plan.backups, self.state(run)
        client, secret = storage.s3(plan.connection), key_of(plan)
        there: BackupRecord | None = getattr(state, self.kind)
        if there and storage.intact(client, there):
            return passed(self.task_id, f"{there.uri} is there already", self._size(there))
        ending = f"_{re.sub(r'[^A-Za-z0-9-]+', '-', state.deployment)}.dump"
        storage.abort_leftovers(client, plan.bucket, f"{plan.prefix}{self.kind}_", ending)
        key = f"{plan.prefix}{self.kind}_{clock.utc():%Y%m%d_%H%M%S}{ending}"
        try:
            taken = dump_to_s3(
                self.primary, client, plan.bucket, key,
                compression=plan.compression, content_digest=plan.content_digest, encrypt_with=secret,
                timeout_seconds=plan.timeout_seconds,
            )  # fmt: skip
        except (DumpFailed, ToolMissing, BadKey) as error:
            return failed(self.task_id, str(error))
        if taken.record.size_bytes < plan.min_bytes:
            storage.delete(client, plan.bucket, key)
            return failed(self.task_id, too_small(taken.record.size_bytes, plan.min_bytes), *self._measured(taken))
        there = taken.record
        self.remember(run, **{self.kind: there})
        return passed(
            self.task_id,
            f"{there.uri}: {there.size_bytes} bytes, SHA-256 {there.sha256[:12]}...; {told(secret)}",
            *self._measured(taken),
        )

    def _measured(self, taken: Taken) -> Sequence[Measurement]:
        source = f"pg_dump {taken.compression}"
        rate = round(taken.bytes_per_second)
        return (
            self._size(taken.record),
            Measurement(what="backup_seconds", value=round(taken.seconds, 3), unit="s", source=source),
            Measurement(what="backup_bytes_per_second", value=rate, unit="B/s", source=source),
        )

    def _size(self, record: BackupRecord) -> Measurement:
        return Measurement(what="backup_size_bytes", value=record.size_bytes, unit="B", source=record.uri)


def too_small(size: int, least: int) -> str:
    return f"the backup has {size} bytes, realistic data has at least {least} (backup.min_bytes)"


class TestRestore(DatabaseStep):
    """Plan 1.2 "restore test successful (on non-prod DB)": reads the whole backup back into a database of its own.

    Passes when every byte is what was written and the restored database has as many rows, constraints and indices as
    the backup's own snapshot had.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.database import storage
        from handover.database.encryption import key_of
        from handover.database.restore_test import prove_restore

        record, plan = self.state(run).backup, self.plan.backups
        if record is None:
            return failed(self.task_id, "there is no backup to test")
        return prove_restore(
            self.task_id, record, storage.s3(plan.connection), server=self._database(plan.restore_connection),
            production=self.primary, scratch=self.scratch_name(run, "restore_test"), open_with=key_of(plan),
            timeout_seconds=plan.timeout_seconds,
        )  # fmt: skip


class SchemaCheck(DatabaseStep):
    """Plan 3.1: may the migration begin? Counts the rows for 3.3.

    Passes when the plan's SQL checks of schema and data hold, no migration is stuck, edited or missing, none breaks a
    rule of the linter that refuses, every index is valid, every constraint is validated, and no transaction has been
    open for long.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.database import validation

        plan = self.plan.database
        release = None if plan.tool else self.bundle(run)
        with self.primary.connect() as connection:
            before, warnings = self._before(connection, release, run)
            parts = validation.history(before)
            parts += validation.structure(connection) + validation.quiet(connection)
            parts.append(validation.missing(connection, plan.counted_tables))
            for name in (plan.schema_check, plan.integrity_checks):
                parts += [
                    validation.run(connection, query, max_seconds=plan.statement_timeout_seconds)
                    for query in validation.load(name)
                ]
            later = validation.load(plan.critical_queries)
            parts += [validation.run(connection, query, max_seconds=0) for query in later if query.unfit]
            counts = validation.count(connection, plan.counted_tables)
        if not self.state(run).migration.started:
            self.remember_migration(run, **counts.facts)
        seen = [Measurement(what=f"{table}_count", value=n, source="database") for table, n in counts.rows.items()]
        verdict = combined(self.task_id, parts)
        reason = verdict.reason if not verdict.passed else f"{len(parts)} checks passed{warnings}"
        return verdict.model_copy(update={"reason": reason, "measurements": (*seen, *verdict.measurements)})

    def _before(
        self, connection: Connection[Any], release: Bundle | None, run: StepRun
    ) -> tuple[dict[str, list[str]], str]:
        """What has to be empty, by what is looked at; and the warnings, as the end of a sentence."""
        from handover.adapters.postgres import server_major
        from handover.database import blockers, ledger, lint, migrations, tool

        if release is None:
            return tool.order(connection, self.plan.database.tool), ""
        if run.release.method != "none" and (obstacles := ledger.obstacles(connection)):
            return {"the database can be migrated": obstacles}, ""
        rows = ledger.rows(connection)
        pending = migrations.pending(release, rows) if run.release.method != "none" else ()
        fit = migrations.unfit if run.release.method == "sql" else migrations.unreadable
        judged = lint.judged(pending, self.plan.database.lint, server_major(connection))
        files = [script.forward for script in pending if not script.forward.unreadable]
        return {
            "the database can be migrated": ledger.obstacles(connection, pending) if pending else [],
            "no migration is stuck": migrations.stuck(rows, ledger.OURS),
            "applied migrations are the release's": migrations.drift(release, rows),
            "new migrations can be run": fit(pending),
            "new migrations break no rule": judged.refusals,
            "nobody holds what they change": blockers.blockers(connection, files),
        }, judged.told


class Migrate(DatabaseStep):
    """Plan 3.2: applies the release's migrations while users go on.

    In `handover.database`, ``migrations`` decides what is pending and whether it may run, ``runner`` runs it (method
    ``sql``) or the release's own Prisma does (method ``prisma``), ``guard`` watches replicas and sessions and stops it
    when replicas fall behind, ``cpu`` measures the machine. A failed migration leaves nothing behind; a killed one is
    found and run again.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.database.migrate import MigrationRun
        from handover.database.tool import ToolRun

        if run.release.method == "none":
            return passed(self.task_id, "the release was asked for without a migration")
        return ToolRun(self, run).run() if run.release.method == "tool" else MigrationRun(self, run).run()


class DataIntegrity(DatabaseStep):
    """Plan 3.3: the data after the migration is the data before it, plus what users added.

    Lost rows, more changed values than the plan allows, and broken data checks are remembered as corruption before the
    step fails, so that the rollback repairs the data; a slow query or an invalid index fails the step without that.
    """

    def work(self, run: StepRun) -> Evidence:
        from handover.database import sketch, validation

        plan = self.plan.database
        release = None if plan.tool else self.bundle(run)
        before = self.state(run).migration
        with self.primary.connect() as connection:
            data = validation.compare_counts(connection, validation.Counts(before.counts, before.last_keys))
            held = sketch.compare(connection, before.sketches, plan.max_changed)
            data += held + [
                validation.run(connection, query, max_seconds=plan.statement_timeout_seconds)
                for query in validation.load(plan.integrity_checks)
            ]
            parts = validation.history(self._after(connection, release, run))
            parts += validation.structure(connection)
            parts += [
                validation.run(connection, query, max_seconds=plan.max_query_seconds)
                for query in validation.load(plan.critical_queries)
            ]
        if any(not part.passed for part in data):
            self.remember_migration(run, corrupt=True)
        verdict = combined(self.task_id, data + parts)
        if not verdict.passed:
            return verdict
        said = "; ".join((f"{len(data + parts)} checks passed", *(f"{part.check}: {part.reason}" for part in held)))
        return verdict.model_copy(update={"reason": said})

    def _after(self, connection: Connection[Any], release: Bundle | None, run: StepRun) -> dict[str, list[str]]:
        """What has to be empty, by what is looked at."""
        from handover.database import ledger, migrations, tool

        if release is None:
            return tool.order(connection, self.plan.database.tool)
        rows = ledger.rows(connection)
        missing = [] if run.release.method == "none" else migrations.pending(release, rows)
        return {
            "the schema is the release's": [f"{script.name} is not applied" for script in missing],
            "applied migrations are the release's": migrations.drift(release, rows),
            "no migration is stuck": migrations.stuck(rows),
        }


class RollBackDatabase(DatabaseStep):
    """Rollback step 4: keeps, reverses or repairs the database, as `handover.database.undo` decides."""

    def work(self, run: StepRun) -> Evidence:
        from handover.database.reverse import DatabaseRollback
        from handover.database.tool import ToolRollback

        by_tool = self.state(run).migration.method == "tool"
        return (ToolRollback if by_tool else DatabaseRollback)(self, run).run()
