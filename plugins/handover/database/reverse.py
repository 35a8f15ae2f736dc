"""Rollback step 4 as a sequence: decide, then keep, reverse or repair."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from handover.database import alone, blockers, encryption, ledger, migrations, repair, runner, storage, undo, validation
from handover.database.alone import State
from handover.database.migrations import Bundle, Script, SqlFile
from handover.database.undo import Action, UndoChoice
from handover.models.evidence import Evidence, Measurement, combined, failed, passed

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.adapters.postgres import Database
    from handover.database.operators import RollBackDatabase
    from handover.database.statements import Statement
    from handover.models.deployment import BackupRecord, DeploymentState
    from handover.step import StepRun

log = logging.getLogger(__name__)


class DatabaseRollback:
    """One try of the step `handover.database.operators.RollBackDatabase`."""

    def __init__(self, step: RollBackDatabase, step_run: StepRun) -> None:
        self.step, self.step_run, self.plan = step, step_run, step.plan
        self.primary = step.primary
        self.limits = runner.StatementLimits.of(self.plan.database)

    def run(self) -> Evidence:
        state = self.step.state(self.step_run)
        if not state.migration.started:
            return passed(self.step.task_id, "keep: no migration ran")
        release = self.step.bundle(self.step_run)
        try:
            applied = self._applied(release, state)
        except (runner.MigrationFailed, ledger.Busy) as error:
            return failed(self.step.task_id, f"a person has to decide: {error}")
        reversible = {script.name for script in release.scripts if script.reversible}
        point = state.restore_point or state.backup
        decision = undo.undo(
            state.migration, applied, reversible, restorable=point is not None, unknown=self._unknown(release, state)
        )
        log.info("%s: %s", decision.action, decision.why)
        return self._do(decision, release, state)

    def _applied(self, release: Bundle, state: DeploymentState) -> tuple[str, ...]:
        """What is applied, once it is known of what a killed run has left half done."""
        with self.primary.connect() as connection:
            if state.migration.method == "sql" and any(row.marked(ledger.OURS) for row in ledger.rows(connection)):
                self.step.fence(self.step_run)
                with ledger.locked(connection, self.limits.other_runner):
                    runner.settle(connection, release, self.limits)
            return migrations.applied(ledger.rows(connection))

    def _unknown(self, release: Bundle, state: DeploymentState) -> list[str]:
        """Migrations of this deployment that are neither applied nor sure to have left nothing; what one transaction
        did is undone with it, whoever ran it.
        """
        with self.primary.connect() as connection:
            begun = [row for row in ledger.rows(connection) if row.open and row.name in state.migration.planned]
        whole = {script.name for script in release.scripts if script.forward.atomic}
        return [row.name for row in begun if row.name not in whole]

    def _do(self, decision: UndoChoice, release: Bundle, state: DeploymentState) -> Evidence:
        text = f"{decision.action}: {decision.why}"
        if decision.loses:
            text += f" (may be lost: {decision.loses})"
        if decision.action is Action.ASK:
            return failed(self.step.task_id, f"a person has to decide: {decision.why}")
        if decision.action is Action.KEEP:
            self._mark_failed(release, state)
            return passed(self.step.task_id, text)
        self.step.fence(self.step_run)
        scripts = [script for name in decision.names if (script := release.script(name))]
        try:
            if decision.action is Action.REVERSE:
                undone = reverse(self.primary, scripts, self.limits)
                self._forget()
                return passed(self.step.task_id, f"{text}; undone: {', '.join(undone) or 'all was undone already'}")
            return self._restore(scripts, state, text)
        except (runner.StatementFailed, ledger.Busy) as error:
            return failed(self.step.task_id, f"{text}; {error}")
        except (storage.BackupDamaged, repair.RestoreFailed) as error:
            return failed(self.step.task_id, f"{text}; the backup cannot be used: {error}")

    def _restore(self, scripts: Sequence[Script], state: DeploymentState, text: str) -> Evidence:
        point = state.restore_point or state.backup
        assert point is not None
        server = self.step._database(self.plan.backups.restore_connection)
        done = repair.repair(
            self.primary, server, self.step.scratch_name(self.step_run, "restore_point"),
            storage.s3(self.plan.backups.connection), point, scripts, self.limits,
            writers_known=state.migration.method == "sql", open_with=encryption.key_of(self.plan.backups),
            timeout_seconds=self.plan.backups.timeout_seconds,
        )  # fmt: skip
        self._forget()
        seen = tuple(
            Measurement(what=f"{table.name} rows {what}", value=number, source=point.uri)
            for table in done
            for what, number in table.numbers.items()
        )
        parts = self._checks(state, point)
        told = "; ".join(table.text for table in done if table.changed) or "nothing differed"
        if lost := [m for part in parts for m in part.measurements if m.what.endswith(validation.ROWS_LOST)]:
            told += (
                f"; written between backup and migration, and lost: {', '.join(f'{m.what} {m.value:g}' for m in lost)}"
            )
            seen += tuple(lost)
        parts += [failed(f"repair of {table.name}", table.left) for table in done if table.left]
        if bad := [part for part in parts if not part.passed]:
            return failed(self.step.task_id, f"{text}; {told}; still wrong: {combined('', bad).reason}", *seen)
        return passed(self.step.task_id, f"{text}; {told}", *seen)

    def _checks(self, state: DeploymentState, point: BackupRecord) -> list[Evidence]:
        """Whether the data is whole again, as far as the backup has it."""
        before = validation.Counts(state.migration.counts, state.migration.last_keys)
        seconds = self.plan.database.statement_timeout_seconds
        with self.primary.connect() as connection:
            return validation.compare_counts(connection, before, point.counts) + [
                validation.run(connection, query, max_seconds=seconds)
                for query in validation.load(self.plan.database.integrity_checks)
            ]

    def _forget(self) -> None:
        """What was undone is not there any more: a second rollback finds nothing to do."""
        self.step.remember_migration(self.step_run, applied=(), corrupt=False)

    def _mark_failed(self, release: Bundle, state: DeploymentState) -> None:
        """The plan's ``prisma migrate resolve --rolled-back``, for this deployment's migrations that failed."""
        self.step.fence(self.step_run)
        with self.primary.connect() as connection:
            for row in ledger.rows(connection):
                if row.open and row.name in state.migration.planned:
                    ledger.roll_back(connection, row.name)


def reverse(
    database: Database, scripts: Sequence[Script], limits: runner.StatementLimits, stop: runner.Stop | None = None
) -> list[str]:
    """Runs ``down.sql`` of the given migrations in the given order (newest first); gives the names that were undone.

    Each is one transaction that also marks its row as rolled back, or a statement that PostgreSQL takes only alone;
    killed half-way it can run again. Raises `handover.database.runner.StatementFailed` or
    `handover.database.ledger.Busy`.
    """
    undone = []
    with database.connect() as connection, ledger.locked(connection, limits.other_runner), runner.converted():
        done = migrations.applied(ledger.rows(connection))
        for script in scripts:
            if script.name in done:
                if not script.reversible:
                    raise runner.StatementFailed("", script.problem or f"{script.name} has no down.sql", 0)
                runner.patiently(partial(_undo_one, connection, script, limits, stop or runner.Never()), limits)
                undone.append(script.name)
    return undone


def _undo_one(connection: Connection[Any], script: Script, limits: runner.StatementLimits, stop: runner.Stop) -> None:
    assert script.back is not None
    with runner.converted():
        blockers.make_way(connection, files=[script.back])
    if one := script.back.alone:
        _undo_alone(connection, script, script.back, one, limits, stop)
        ledger.roll_back(connection, script.name)
        return
    with runner.transaction(connection):
        runner.set_limits(connection, limits)
        with stop.cancellable(connection):
            runner.execute_script(connection, script.back.sent)
        runner.own_again(connection, limits)
        ledger.roll_back(connection, script.name)


def _undo_alone(
    connection: Connection[Any], script: Script, file: SqlFile, one: Statement, limits: runner.StatementLimits,
    stop: runner.Stop,
) -> None:  # fmt: skip
    """Goes on with what a killed run has begun, by the catalogue. Raises `handover.database.runner.StatementFailed`."""
    found, ours = alone.state(connection, one), ledger.undo_begun(connection, script.name)
    if ours and found is State.DONE:
        return
    if ours and found is State.HALF and (left := alone.take_back(connection, one, set())) and not one.detaches:
        raise runner.StatementFailed("", f"half of it is there, and stays: {', '.join(left)}", 0)
    if not ours and (found is State.NOT or (found is State.HALF and one.detaches)):
        ledger.begin_undo(connection, script)
    runner.run_alone(connection, file, one, set(alone.invalid(connection, one)), limits, stop)
