"""Repairs damaged data in place from a backup, without losing what users did since (rollback step 4, method 2).

Restoring the backup over production would lose every row written after it. So the backup is restored beside
production, and only what the migration damaged comes over from there, in one transaction with the migrations' own
``down.sql``:

1. Rows that were in the backup and are gone are put back. (A row that a user deleted meanwhile comes back too: a
   deleted row does not say who deleted it.)
2. Rows that the migration wrote last get the backup's values. PostgreSQL says who wrote a row last: its ``xmin``,
   and the migration's own is known, since the runner writes the migration's row in the same transaction.
   Rows that users have written since, or that the migration never touched, keep what they are.
3. Where a column may not be NULL in the backup and is NULL now, whoever wrote the row last, it gets the backup's
   value: users cannot have meant that.
4. Columns and tables that the migration dropped and ``down.sql`` has made again get the backup's contents; a column
   that was renamed, and renamed back, keeps what it holds. A table that no ``down.sql`` makes is made from the backup.
5. Sequences move past every key that was put back, and to where they stood in the backup.
6. Partitions that the migration dropped are made again.

The service's triggers do not fire meanwhile: what they would write is in the backup itself. Writers of a table that has
some wait until the repair is done.

What cannot be mended is named by its table and number of rows, never by values, and everything else is mended:
each table on its own, those whose references make a circle together. Also named is what only a person can tell: rows
that the migration wrote and the backup does not have, and rows that others have written since and that may have been
damaged or lost before.

What can be lost: a user's change to a row of 2., made after the backup and before the migration. If somebody else
than our runner migrated (Prisma), nobody knows who wrote a row, and every row that differs from the backup gets the
backup's values. In a table without a key (primary, or unique without NULL) rows are told apart by all that they hold:
lost ones are put back, changed ones cannot be told from them, and the table is named. So is what did not come back, a
column that no ``down.sql`` made again. Rows that a migration wrote in a subtransaction (a DO block that catches
exceptions) are not recognised as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from handover.adapters import postgres, sequences
from handover.adapters.postgres import Database
from handover.database import aside, blockers, catalog, damage, dump, lacking, ledger, mending, parts, runner
from handover.database.catalog import Partition
from handover.database.damage import Table
from handover.database.mending import Repaired, Work
from handover.database.migrations import Script
from handover.database.restore import RestoreFailed, restore, scratch_database
from handover.models import table_name
from handover.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.encryption import BackupKey

__all__ = ["Repaired", "RestoreFailed", "repair"]

Found = TypeVar("Found")
Define = Callable[[Sequence[str]], bytes]
"""Gives the SQL that makes tables of the backup."""


@dataclass(frozen=True)
class Source:
    """The backup as it was restored; ``left_out``: what of it was not."""

    backup: Connection[Any]
    define: Define
    left_out: tuple[str, ...]


def repair(
    production: Database, server: Database, scratch_name: str, client: Any, point: BackupRecord,
    scripts: Sequence[Script], limits: runner.StatementLimits, *, writers_known: bool = True,
    open_with: BackupKey | None = None, timeout_seconds: float = 3600,
) -> list[Repaired]:  # fmt: skip
    """Repairs production from the backup ``point``, which is restored on ``server`` meanwhile.

    ``scripts``: the migrations that did the damage, newest first; they are undone when all of them have a down.sql.
    ``writers_known``: they were run by `handover.database.runner`. Raises `RestoreFailed`, `BackupDamaged`, `Busy` or
    `StatementFailed`; then production is as before, and the repair may be tried again.
    """
    with scratch_database(server, scratch_name, like=production) as beside:
        left_out = restore(client, point, beside, open_with=open_with, timeout_seconds=timeout_seconds).left_out
        with (
            beside.connect() as backup,
            production.connect() as connection,
            ledger.locked(connection, limits.other_runner),
        ):
            names = {script.name for script in scripts}
            rows = [row for row in ledger.rows(connection) if row.applied and row.name in names]
            writers = [row.xid for row in rows] if writers_known or not rows else None
            there = {row.name for row in rows}
            reversible = all(script.reversible for script in scripts)
            undoing = [script for script in scripts if reversible and script.name in there]
            source = Source(backup, partial(dump.definition, beside), left_out)
            return _explained(connection, source, undoing, writers, limits)


def _explained(
    connection: Connection[Any], source: Source, undoing: Sequence[Script], writers: list[str] | None,
    limits: runner.StatementLimits,
) -> list[Repaired]:  # fmt: skip
    import psycopg

    try:
        return _repair(connection, source, undoing, writers, limits)
    except psycopg.Error as error:
        raise _failed(error) from error


def _failed(error: Any) -> runner.StatementFailed:
    return runner.StatementFailed(error.sqlstate or "", f"the repair failed: {postgres.cause(error)}", 0)


def _repair(
    connection: Connection[Any], source: Source, undoing: Sequence[Script], writers: list[str] | None,
    limits: runner.StatementLimits,
) -> list[Repaired]:  # fmt: skip
    zone = connection.execute("SELECT current_setting('TimeZone')").fetchone()
    source.backup.execute("SELECT set_config('TimeZone', %s, false)", zone)
    for session in (connection, source.backup):
        _speak(session)
    all_tables = damage.tables(connection, source.backup, source.left_out)
    define = _known_before(source.define, [table.name for table in all_tables if table.gone])
    stood, whole = sequences.positions(source.backup), lacking.look(source.backup)
    found, unread = _fetched(connection, source.backup, all_tables, writers)
    change = Change(connection, replace(source, define=define), found, writers, limits)
    done: list[Repaired] = []

    def attempt() -> None:
        import psycopg

        try:
            blockers.make_way(connection, [table_name.split(table.name)[-1] for table in found])
            tables, mended = change.made(undoing)
            mended += _caught_up(connection, stood)
            done[:] = lacking.named(connection, whole, tables, [*mended, *unread], writers)
        except psycopg.Error as error:
            raise _failed(error) from error

    runner.patiently(attempt, limits)
    return done


def _fetched(
    connection: Connection[Any], backup: Connection[Any], tables: Sequence[Table], writers: list[str] | None
) -> tuple[list[Table], list[Repaired]]:
    """The tables whose rows came over, and what is said of the others."""
    import psycopg

    found, unread = [], []
    for table in tables:
        try:
            damage.fetch(connection, backup, table, writers)
            found.append(table)
        except psycopg.Error as error:
            if not parts.of_a_table(error):
                raise
            unread.append(_not_mended(table, error))
    return found, unread


def _caught_up(connection: Connection[Any], stood: dict[sequences.Name, sequences.Position]) -> list[Repaired]:
    """Moves sequences on; all else is mended by now, and has to be told."""
    import psycopg

    try:
        sequences.catch_up(connection, stood)
    except psycopg.Error as error:
        return [lacking.Other("sequences", left=f"not all were moved past what they gave out: {postgres.cause(error)}")]
    return []


def _not_mended(table: Table, error: Any) -> Repaired:
    return Repaired(table.name, left=f"nothing of it was mended: {parts.why(error)}")


def _known_before(define: Define, gone: list[str]) -> Define:
    """The same; but pg_dump was asked for these before the repair has locks that people wait for."""
    try:
        known = define(gone) if gone else b""
    except dump.DumpFailed:  # asked again, it says so where it is told
        return define
    return lambda tables: known if list(tables) == gone else define(tables)


def _speak(session: Connection[Any]) -> None:
    """Two servers write the same value alike, and types and operators are found in any schema."""
    session.execute("SET lc_monetary = 'C'")
    catalog.look_everywhere(session)


@dataclass(frozen=True)
class Change:
    """The one transaction in which all is mended."""

    connection: Connection[Any]
    source: Source
    tables: list[Table]
    writers: list[str] | None
    limits: runner.StatementLimits

    def made(self, undoing: Sequence[Script]) -> tuple[list[Table], list[Repaired]]:
        """Who wrote what is asked before ``down.sql`` writes too."""
        connection = self.connection
        with connection.transaction():
            runner.set_limits(connection, self.limits)
            connection.execute("SET CONSTRAINTS ALL DEFERRED")
            before = {oid: catalog.columns(connection, name) for oid, name in catalog.numbers(connection).items()}
            tables, unmarked = _each(connection, self.tables, lambda t: damage.mark(connection, t, t.now, self.writers))
            for script in undoing:
                assert script.back is not None
                self._settle()
                runner.execute_script(connection, script.back.joined)
            self._settle()
            follow = partial(damage.followed, connection, self.source.backup, before=before, writers=self.writers)
            tables, lost = _each(connection, tables, follow)
            why_gone = self._make_again(tables)
            self._settle()
            for script in undoing:
                ledger.roll_back(connection, script.name)
            _speak(connection)
            return tables, [*self._mend_all(tables, why_gone), *unmarked, *lost]

    def _settle(self) -> None:
        postgres.settle(self.connection)
        runner.set_limits(self.connection, self.limits)

    def _make_again(self, tables: Sequence[Table]) -> str:
        """Makes tables that are gone, and that no ``down.sql`` has made, as they are in the backup; says why it
        cannot. Partitions that are gone, too."""
        connection, there = self.connection, set(catalog.tables(self.connection))
        why, gone = "", [table.name for table in tables if table.name not in there]
        if gone:
            connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # pg_dump takes its time
            try:
                with connection.transaction():  # what it began to make must not stay
                    runner.execute_script(connection, self.source.define(gone))
            except (runner.StatementFailed, dump.DumpFailed) as error:
                if isinstance(error, runner.StatementFailed) and error.passing:
                    raise
                why = str(error)
        for partition in catalog.partitions(self.source.backup):
            if partition.parent not in gone and catalog.find(connection, partition.name) is None:
                _make_partition(connection, partition)
        return why

    def _mend_all(self, tables: Sequence[Table], why_gone: str) -> list[Repaired]:
        connection, there = self.connection, set(catalog.tables(self.connection))
        done = [Repaired(t.name, left=f"the table is gone, and cannot be made again: {why_gone}") for t in tables
                if t.name not in there]  # fmt: skip
        _check_now(connection)
        works, refused = _each(connection, [t for t in tables if t.name in there], partial(_ready, connection))
        done += refused
        names, references = [work.table.name for work in works], aside.references(connection)
        for group in aside.circles(names, catalog.references(connection)):
            those = [work for work in works if work.table.name in group]
            between = [one for one in references if len(group) > 1 and {one.table, one.parent} <= set(group)]
            done += _mend_group(connection, those, between)
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for work in works:
            mending.stand_back(connection, work)
        return done


def _make_partition(connection: Connection[Any], partition: Partition) -> None:
    """What this refuses is told of the rows that find no place then."""
    import psycopg
    from psycopg import sql

    made = sql.SQL("CREATE TABLE {} PARTITION OF {} {}").format(
        catalog.identifier(partition.name), catalog.identifier(partition.parent), sql.SQL(partition.bound)
    )
    if partition.divided:
        made += sql.SQL(" PARTITION BY {}").format(sql.SQL(partition.divided))
    try:
        with connection.transaction():
            connection.execute(made)
    except psycopg.Error as error:
        if not parts.of_a_table(error):
            raise


def _check_now(connection: Connection[Any]) -> None:
    """No table can be altered, and no row be told to be refused, before it was checked; but what ``down.sql`` has
    written may lack rows that come back only now."""
    import psycopg

    with suppress(psycopg.IntegrityError), connection.transaction():
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


def _ready(connection: Connection[Any], table: Table) -> Work:
    work = mending.prepare(connection, table)
    mending.stand_aside(connection, work)
    return work


def _each(
    connection: Connection[Any], tables: Iterable[Table], do: Callable[[Table], Found]
) -> tuple[list[Found], list[Repaired]]:  # fmt: skip
    """What is found of each table, and what is said of those of which PostgreSQL refuses it: nothing of it stays."""
    import psycopg

    found, refused = [], []
    for table in tables:
        try:
            with connection.transaction():
                found.append(do(table))
        except psycopg.Error as error:
            if not parts.of_a_table(error):
                raise
            refused.append(_not_mended(table, error))
    return found, refused


def _mend_group(
    connection: Connection[Any], works: Sequence[Work], between: Iterable[aside.Reference]
) -> list[Repaired]:  # fmt: skip
    """Tables whose references make a circle, or a table: all are mended, or none."""
    import psycopg

    late = list(between) if any(work.damaged for work in works) else []
    try:
        with connection.transaction(), aside.late(connection, late):
            return [mending.mend(connection, work) for work in works]
    except psycopg.Error as error:
        if not parts.of_a_table(error):
            raise
        return [_not_mended(work.table, error) for work in works]
