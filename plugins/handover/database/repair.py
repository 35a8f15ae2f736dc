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

The service's triggers do not fire meanwhile: what they would write is in the backup itself. Writers of a table that has
some wait until the repair is done.

What can be lost: a user's change to a row of 2., made after the backup and before the migration. If somebody else
than our runner migrated (Prisma), nobody knows who wrote a row, and every row that differs from the backup gets the
backup's values. In a table without a key (primary, or unique without NULL) rows are told apart by all that they hold:
lost ones are put back, changed ones cannot be told from them, and the table is named. So is what did not come back, a
column that no ``down.sql`` made again. Rows that a migration wrote in a subtransaction (a DO block that catches
exceptions) are not recognised as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from handover.adapters import postgres, sequences
from handover.adapters.postgres import Database
from handover.database import blockers, catalog, damage, dump, ledger, runner
from handover.database.catalog import Column, Trigger
from handover.database.damage import Table, listed, number
from handover.database.migrations import Script
from handover.database.restore import RestoreFailed, restore, scratch_database
from handover.models import table_name
from handover.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.encryption import BackupKey

__all__ = ["Repaired", "RestoreFailed", "repair"]

Define = Callable[[Sequence[str]], bytes]
"""Gives the SQL that makes tables of the backup."""


@dataclass(frozen=True)
class Source:
    """The backup as it was restored; ``left_out``: what of it was not."""

    backup: Connection[Any]
    define: Define
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Repaired:
    """What was done to one table. ``left``: what is not as it was, for a person to look at."""

    name: str
    inserted: int = 0
    not_inserted: int = 0
    updated: int = 0
    filled: int = 0
    left: str = ""
    said: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        found = {"put back": self.inserted, "in the way of rows to put back": self.not_inserted}
        return found | {"set to the backup's values": self.updated, "with filled columns": self.filled}

    @property
    def changed(self) -> bool:
        return bool(self.left) or any(self.numbers.values())

    @property
    def text(self) -> str:
        done = [f"{number} rows {what}" for what, number in self.numbers.items() if number]
        return f"{self.name}: {', '.join(part for part in (*done, self.said, self.left) if part) or 'as it was'}"


@dataclass(frozen=True)
class Work:
    """A table as it is after ``down.sql``, and what is stood aside while it is mended."""

    table: Table
    now: tuple[Column, ...]
    triggers: tuple[Trigger, ...] = ()
    identities: tuple[str, ...] = ()
    """Columns that are GENERATED ALWAYS, whose values nobody may set else."""
    fired: tuple[str, ...] = ()
    """Triggers that this role may not turn off."""
    unsecured: bool = False
    """It was made again without the row security that it had, and people would see rows that policies hid from them."""

    @property
    def writable(self) -> dict[str, Column]:
        """The backup's columns that can be written."""
        there = {column.name: column for column in self.now if not column.computed}
        return {c.name: there[c.name] for c in self.table.columns if c.name in there}

    @property
    def made_again(self) -> list[str]:
        """Lost columns that ``down.sql`` has made, not renamed."""
        numbers = {column.number for column in self.table.now}
        return [n for n, c in self.writable.items() if n in self.table.lost and c.number not in numbers]

    @property
    def missing(self) -> list[str]:
        there = {column.name for column in self.now}
        return [column.name for column in self.table.columns if column.name not in there]


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
    for session in (connection, source.backup):
        _speak(session)
    found = damage.tables(connection, source.backup, source.left_out)
    define = _known_before(source.define, [table.name for table in found if table.gone])
    stood = sequences.positions(source.backup)
    for table in found:
        damage.fetch(connection, source.backup, table, writers)
    done: list[Repaired] = []

    def change() -> None:
        import psycopg

        try:
            blockers.make_way(connection, [table_name.split(table.name)[-1] for table in found])
            done[:] = _change(connection, found, define, undoing, writers, limits)
            sequences.catch_up(connection, stood)
        except psycopg.Error as error:
            raise _failed(error) from error
        except damage.DoesNotFit as error:
            raise runner.StatementFailed("", f"the repair failed: {error}", 0) from None

    runner.patiently(change, limits)
    return done


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


def _change(
    connection: Connection[Any], tables: Sequence[Table], define: Define, undoing: Sequence[Script],
    writers: list[str] | None, limits: runner.StatementLimits,
) -> list[Repaired]:  # fmt: skip
    """The one transaction. Who wrote what is asked before ``down.sql`` writes too."""
    with connection.transaction():
        runner.set_limits(connection, limits)
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        for table in tables:
            if table.marked:
                damage.mark(connection, table, writers)
        for script in undoing:
            assert script.back is not None
            postgres.settle(connection)
            runner.set_limits(connection, limits)
            runner.execute_script(connection, script.back.joined)
        postgres.settle(connection)
        runner.set_limits(connection, limits)
        why_gone = _make_again(connection, tables, define)
        postgres.settle(connection)
        runner.set_limits(connection, limits)
        for script in undoing:
            ledger.roll_back(connection, script.name)
        _speak(connection)
        return _mend_all(connection, tables, why_gone)


def _make_again(connection: Connection[Any], tables: Sequence[Table], define: Define) -> str:
    """Makes tables that are gone, and that no ``down.sql`` has made, as they are in the backup; says why it cannot."""
    there = set(catalog.tables(connection))
    gone = [table.name for table in tables if table.name not in there]
    if not gone:
        return ""
    connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")  # pg_dump takes its time
    try:
        with connection.transaction():  # what it began to make must not stay
            runner.execute_script(connection, define(gone))
    except (runner.StatementFailed, dump.DumpFailed) as error:
        if isinstance(error, runner.StatementFailed) and error.passing:
            raise
        return str(error)
    return ""


def _mend_all(connection: Connection[Any], tables: Sequence[Table], why_gone: str) -> list[Repaired]:
    there = set(catalog.tables(connection))
    done = [Repaired(t.name, left=f"the table is gone, and cannot be made again: {why_gone}") for t in tables
            if t.name not in there]  # fmt: skip
    works = [_prepare(connection, table) for table in tables if table.name in there]
    if any(work.triggers or work.identities for work in works):
        connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # no table can be altered before it was checked
        for work in works:
            _stand_aside(connection, work, "DISABLE TRIGGER", "DISABLE TRIGGER", "BY DEFAULT")
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
    done += [_mend(connection, work) for work in works]
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for work in works:
        _stand_aside(connection, work, "ENABLE TRIGGER", "ENABLE ALWAYS TRIGGER", "ALWAYS")
        if work.unsecured:
            connection.execute(work.table.sql("ALTER TABLE {table} ENABLE ROW LEVEL SECURITY"))
    return done


def _prepare(connection: Connection[Any], table: Table) -> Work:
    """Looks whether there is anything to mend, and what would be in the way."""
    now = tuple(catalog.columns(connection, table.name))
    damage.unfold(connection, table, tuple(column for column in now if not column.computed))
    work = Work(table, now, unsecured=table.gone and table.secured and not catalog.secured(connection, table.name))
    query = _absent(work)
    if table.marked:
        query += table.sql(" UNION ALL SELECT FROM {mine} UNION ALL SELECT FROM {nulls}")
    if not (work.made_again or number(connection, table.sql("SELECT count(*) FROM ({it} LIMIT 1) AS it", it=query))):
        return work
    found = tuple(catalog.triggers(connection, table.name))
    if not catalog.owned(connection, table.name):
        return replace(work, fired=tuple(trigger.name for trigger in found))
    always = tuple(name for name, column in work.writable.items() if column.always and name not in table.key)
    return replace(work, triggers=found, identities=() if table.gone or not table.key else always)


def _absent(work: Work) -> Any:
    """The backup's rows that are not in the table."""
    table = work.table
    if table.key and not set(table.key) & set(work.missing):
        return table.sql("SELECT FROM {rows} r WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same})")
    columns = listed(list(work.writable), "{}::text")
    return table.sql("SELECT FROM (SELECT {c} FROM {rows} EXCEPT ALL SELECT {c} FROM {table}) AS r", c=columns)


def _stand_aside(connection: Connection[Any], work: Work, usual: str, always: str, identity: str) -> None:
    from psycopg import sql

    for trigger in work.triggers:
        connection.execute(
            sql.SQL("ALTER TABLE {} " + (always if trigger.always else usual) + " {}").format(
                catalog.identifier(trigger.table), sql.Identifier(trigger.name)
            )
        )
    for column in work.identities:
        text = "ALTER TABLE {table} ALTER COLUMN {column} SET GENERATED " + identity
        connection.execute(work.table.sql(text, column=listed([column])))


def _mend(connection: Connection[Any], work: Work) -> Repaired:
    table, names = work.table, list(work.writable)
    left = [f"its column {name} is gone, and no down.sql makes it again" for name in work.missing]
    if work.unsecured:
        left.append("it was made again without its policies: its row security is on, and nobody it binds sees a row")
    keyed = bool(table.key) and not set(table.key) & set(work.missing)
    inserted, not_inserted, told = (
        _put_back(connection, work, names) if keyed else _put_back_whole(connection, work, names)
    )
    filled = updated = 0
    if table.marked:
        filled = _fill(connection, table, [name for name in table.required if name in work.writable])
        filled += _update(connection, table, work.made_again, only_mine=False)
        updated = _update(connection, table, [name for name in names if name not in table.key], only_mine=True)
    elif keyed and not table.gone:
        told = "its key was gone: rows that were changed cannot be told"
    sequences.move_past(connection, table_name.split(table.name), names)
    said = f"its triggers {', '.join(work.fired)} fired" if work.fired else ""
    if work.triggers:
        said = f"its triggers {', '.join(trigger.name for trigger in work.triggers)} did not fire"
    return Repaired(
        table.name, inserted, not_inserted, updated, filled, "; ".join([*left, *([told] if told else [])]), said
    )


def _put_back(connection: Connection[Any], work: Work, names: Sequence[str]) -> tuple[int, int, str]:
    """Rows whose key is gone: how many were put back, and how many could not be."""
    table = work.table
    absent = number(connection, table.sql("SELECT count(*) FROM ({it}) AS it", it=_absent(work)))
    inserted = connection.execute(
        table.sql(
            "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {rows} r "
            "WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same}) ON CONFLICT DO NOTHING", names=listed(names),
        )
    ).rowcount if absent else 0  # fmt: skip
    return inserted, absent - inserted, ""


def _put_back_whole(connection: Connection[Any], work: Work, names: Sequence[str]) -> tuple[int, int, str]:
    """The same in a table without a key, unless it has rows that the backup does not have: they may be lost ones,
    changed."""
    table, columns = work.table, listed(names, "{}::text")
    absent = number(connection, table.sql("SELECT count(*) FROM ({it}) AS it", it=_absent(work)))
    query = "SELECT count(*) FROM (SELECT {c} FROM {table} EXCEPT ALL SELECT {c} FROM {rows}) AS it"
    if absent and number(connection, table.sql(query, c=columns)):
        return 0, 0, f"{absent} of its rows are gone or changed, and it has no key to find them by: look at it yourself"
    if not absent:
        return 0, 0, ""
    inserted = connection.execute(
        table.sql(
            "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {cast} FROM (SELECT {c} FROM {rows} "
            "EXCEPT ALL SELECT {c} FROM {table}) AS r ({names})", names=listed(names), c=columns,
            cast=damage.typed(list(work.writable.values())),
        )
    ).rowcount  # fmt: skip
    return inserted, absent - inserted, ""


def _update(connection: Connection[Any], table: Table, names: Sequence[str], *, only_mine: bool) -> int:
    """Sets columns to the backup's values where they differ; compared as text, since some types have no equality."""
    if not names:
        return 0
    which = table.sql(
        "AND EXISTS (SELECT FROM {mine} m WHERE {of_m})", of_m=listed(table.key, "m.{0} = t.{0}", " AND ")
    )
    return connection.execute(
        table.sql(
            "UPDATE {table} t SET {sets} FROM {rows} r WHERE {same} AND ({differ}) {which}",
            sets=listed(names, "{0} = r.{0}"), differ=listed(names, "t.{0}::text IS DISTINCT FROM r.{0}::text", " OR "),
            which=which if only_mine else table.sql(""),
        )
    ).rowcount  # fmt: skip


def _fill(connection: Connection[Any], table: Table, names: Sequence[str]) -> int:
    """Sets required columns that were NULL, in rows that users have written since; the others are `_update`'s."""
    if not names:
        return 0
    return connection.execute(
        table.sql(
            "UPDATE {table} t SET {sets} FROM {rows} r JOIN {nulls} n USING ({key}) WHERE {same} "
            "AND NOT EXISTS (SELECT FROM {mine} m WHERE {of_m})",
            sets=listed(names, "{0} = CASE WHEN n.{0} THEN r.{0} ELSE t.{0} END"),
            of_m=listed(table.key, "m.{0} = t.{0}", " AND "),
        )
    ).rowcount  # fmt: skip
