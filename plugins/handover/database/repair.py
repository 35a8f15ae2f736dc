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
4. Columns and tables that the migration dropped and ``down.sql`` has made again get the backup's contents.

What can be lost: a user's change to a row of 2., made after the backup and before the migration. If somebody else
than our runner migrated (Prisma), nobody knows who wrote a row, and every row that differs from the backup gets the
backup's values. Tables without a primary key cannot be repaired and are named. Rows that a migration wrote in a
subtransaction (a DO block that catches exceptions) are not recognised as its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import Database
from handover.database import catalog, ledger, runner
from handover.database.catalog import Column
from handover.database.migrations import Script
from handover.database.restore import RestoreFailed, restore, scratch_database
from handover.models.deployment import BackupRecord
from handover.models.table_name import split

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

__all__ = ["Repaired", "RestoreFailed", "repair"]


@dataclass(frozen=True)
class Repaired:
    """What was done to one table."""

    name: str
    inserted: int = 0
    not_inserted: int = 0
    updated: int = 0
    filled: int = 0
    skipped: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        found = {"put back": self.inserted, "in the way of rows to put back": self.not_inserted}
        return found | {"set to the backup's values": self.updated, "with filled columns": self.filled}

    @property
    def changed(self) -> bool:
        return bool(self.skipped) or any(self.numbers.values())

    @property
    def text(self) -> str:
        done = [f"{number} rows {what}" for what, number in self.numbers.items() if number]
        return f"{self.name}: {self.skipped or ', '.join(done) or 'as it was'}"


@dataclass(frozen=True)
class Table:
    """A table to repair. ``number`` makes the names of its temporary tables.

    ``columns`` are the backup's; ``lost``: those that production has no more; ``gone``: production has no such table.
    """

    number: int
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = field(repr=False)
    lost: tuple[str, ...] = ()
    gone: bool = False

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that may not be NULL in the backup, and that production has."""
        return tuple(c.name for c in self.columns if c.required and c.name not in (*self.key, *self.lost))

    def sql(self, text: str, **names: Composed) -> Composed:
        """A query with this table's names filled in: its own, its temporary tables', ``{key}`` and ``{same}``
        (``t`` and ``r`` have the same key)."""
        from psycopg import sql

        temporary = {
            what: sql.Identifier(f"_repair_{what}_{self.number}") for what in ("keys", "rows", "mine", "nulls")
        }
        same = sql.SQL(" AND ").join(
            sql.SQL("t.{0} = r.{0}").format(sql.Identifier(column)) for column in self.key
        )  # fmt: skip
        return sql.SQL(text).format(
            table=catalog.identifier(self.name), key=listed(self.key), same=same, **temporary, **names
        )


def listed(columns: Sequence[str], each: str = "{}", between: str = ", ") -> Composed:
    """Quoted column names in a row, each in a piece of SQL like ``t.{}``."""
    from psycopg import sql

    pieces = [sql.SQL(each).format(sql.Identifier(column)) for column in columns]
    return sql.SQL(between).join(pieces)


def repair(
    production: Database, server: Database, scratch_name: str, client: Any, point: BackupRecord,
    scripts: Sequence[Script], limits: runner.StatementLimits, *, writers_known: bool = True,
    timeout_seconds: float = 3600,
) -> list[Repaired]:  # fmt: skip
    """Repairs production from the backup ``point``, which is restored on ``server`` meanwhile.

    ``scripts``: the migrations that did the damage, newest first; they are undone when all of them have a down.sql.
    ``writers_known``: they were run by `handover.database.runner`. Raises `RestoreFailed`, `BackupDamaged`, `Busy` or
    `StatementFailed`; then production is as before, and the repair may be tried again.
    """
    with scratch_database(server, scratch_name, like=production) as beside:
        restore(client, point, beside, timeout_seconds=timeout_seconds)
        with (
            beside.connect() as backup,
            production.connect() as connection,
            ledger.locked(connection, limits.other_runner),
        ):
            names = {script.name for script in scripts}
            rows = [row for row in ledger.rows(connection) if row.applied and row.name in names]
            writers = [row.xid for row in rows] if writers_known or not rows else None
            there = {row.name for row in rows}
            undoing = [script for script in scripts if script.name in there]
            if any(script.down is None for script in scripts):
                undoing = []
            return _repair(connection, backup, undoing, writers, limits)


def _repair(
    connection: Connection[Any], backup: Connection[Any], undoing: Sequence[Script], writers: list[str] | None,
    limits: runner.StatementLimits,
) -> list[Repaired]:  # fmt: skip
    found, skipped = _tables(connection, backup)
    for table in found:
        _fetch(connection, backup, table, writers)
    order = catalog.parents_first([table.name for table in found], catalog.references(backup))
    found.sort(key=lambda table: order.index(table.name))
    done: list[Repaired] = []

    def change() -> None:
        import psycopg

        try:
            done[:] = _change(connection, found, undoing, writers, limits)
        except psycopg.Error as error:
            text = error.diag.message_primary or type(error).__name__
            raise runner.StatementFailed(error.sqlstate or "", f"the repair failed: {text}", 0) from error

    runner.patiently(change, limits)
    return done + skipped


def _tables(connection: Connection[Any], backup: Connection[Any]) -> tuple[list[Table], list[Repaired]]:
    """What can be repaired, and what cannot because it has no key."""
    there = set(catalog.tables(connection))
    found, skipped = [], []
    for number, name in enumerate(catalog.tables(backup)):
        if name == catalog.MIGRATIONS_TABLE:
            continue
        table = Table(number, name, catalog.key(backup, name), tuple(catalog.columns(backup, name)))
        if name not in there:
            table = replace(table, gone=True)
        else:
            now = {column.name for column in catalog.columns(connection, name)}
            table = replace(table, lost=tuple(c.name for c in table.columns if c.name not in now))
        if table.key and not set(table.key) & set(table.lost):
            found.append(table)
        else:
            skipped.append(Repaired(name, skipped="it has no primary key to find rows by, look at it yourself"))
    return found, skipped


def _fetch(connection: Connection[Any], backup: Connection[Any], table: Table, writers: list[str] | None) -> None:
    """Brings the rows that may be needed from the backup into a temporary table beside production's own."""
    names = [column.name for column in table.columns]
    _temporary(connection, table, "{rows}", names)
    everything = table.sql("SELECT {names} FROM {table}", names=listed(names))
    if table.gone or table.lost or writers is None:
        _copy(backup, everything, connection, table.sql("COPY {rows} FROM STDIN"))
    else:
        for where in (connection, backup):
            _temporary(where, table, "{keys}", table.key)
        _copy(backup, table.sql("SELECT {key} FROM {table}"), connection, table.sql("COPY {keys} FROM STDIN"))
        wanted = table.sql(
            "SELECT {keys_r} FROM {keys} r LEFT JOIN {table} t ON {same} WHERE {absent} OR t.xmin = ANY({writers})"
            "{nulls_}",
            keys_r=listed(table.key, "r.{}"), absent=listed(table.key[:1], "t.{} IS NULL"), writers=_xids(writers),
            nulls_=listed(table.required, " OR t.{} IS NULL", ""),
        )  # fmt: skip
        _copy(connection, wanted, backup, table.sql("COPY {keys} FROM STDIN"))
        needed = table.sql("SELECT {names} FROM {table} t JOIN {keys} r ON {same}", names=listed(names, "t.{}"))
        _copy(backup, needed, connection, table.sql("COPY {rows} FROM STDIN"))
    connection.execute(table.sql("ALTER TABLE {rows} ADD PRIMARY KEY ({key})"))
    connection.execute(table.sql("ANALYZE {rows}"))


def _temporary(connection: Connection[Any], table: Table, what: str, names: Sequence[str]) -> None:
    from psycopg import sql

    types = {column.name: column.type for column in table.columns}
    columns = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(types[name])) for name in names)
    connection.execute(table.sql(f"CREATE TEMPORARY TABLE {what} ({{columns}})", columns=columns))


def _copy(source: Connection[Any], query: Composed, target: Connection[Any], into: Composed) -> None:
    from psycopg import sql

    reading = sql.SQL("COPY ({}) TO STDOUT").format(query)
    with source.cursor().copy(reading) as rows, target.cursor().copy(into) as sink:
        for data in rows:
            sink.write(data)


def _xids(writers: Sequence[str]) -> Composed:
    from psycopg import sql

    return sql.SQL("{}::text[]::xid[]").format(sql.Literal(list(writers)))


def _change(
    connection: Connection[Any], tables: Sequence[Table], undoing: Sequence[Script], writers: list[str] | None,
    limits: runner.StatementLimits,
) -> list[Repaired]:  # fmt: skip
    """The one transaction. Who wrote what is asked before ``down.sql`` writes too."""
    with connection.transaction():
        runner.set_limits(connection, limits)
        connection.execute("SET CONSTRAINTS ALL DEFERRED")
        for table in tables:
            if not table.gone:
                _mark(connection, table, writers)
        for script in undoing:
            assert script.down is not None
            runner.execute_script(connection, script.down)
            ledger.roll_back(connection, script.name)
        there = set(catalog.tables(connection))
        return [
            _mend(connection, table) if table.name in there else Repaired(table.name, skipped="the table is gone")
            for table in tables
        ]


def _mark(connection: Connection[Any], table: Table, writers: list[str] | None) -> None:
    """Locks and notes the rows that the migration wrote last, and those where a required column is NULL."""
    wrote = table.sql("true") if writers is None else table.sql("t.xmin = ANY({xids})", xids=_xids(writers))
    connection.execute(
        table.sql(
            "CREATE TEMPORARY TABLE {mine} ON COMMIT DROP AS SELECT {keys_t} FROM {table} t JOIN {rows} r ON {same} "
            "WHERE {wrote} FOR UPDATE OF t", keys_t=listed(table.key, "t.{}"), wrote=wrote,
        )
    )  # fmt: skip
    connection.execute(
        table.sql(
            "CREATE TEMPORARY TABLE {nulls} ON COMMIT DROP AS SELECT {keys_t}{flags} FROM {table} t "
            "JOIN {rows} r ON {same} WHERE false{any} FOR UPDATE OF t",
            keys_t=listed(table.key, "t.{}"), flags=listed(table.required, ", t.{0} IS NULL AS {0}", ""),
            any=listed(table.required, " OR t.{} IS NULL", ""),
        )
    )  # fmt: skip


def _mend(connection: Connection[Any], table: Table) -> Repaired:
    now = {column.name for column in catalog.columns(connection, table.name)}
    names = [column.name for column in table.columns if column.name in now]
    values = [name for name in names if name not in table.key]
    missing = _number(
        connection, table.sql("SELECT count(*) FROM {rows} r WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same})")
    )
    inserted = connection.execute(
        table.sql(
            "INSERT INTO {table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {rows} r "
            "WHERE NOT EXISTS (SELECT FROM {table} t WHERE {same}) ON CONFLICT DO NOTHING", names=listed(names),
        )
    ).rowcount  # fmt: skip
    if table.gone:
        _continue_sequences(connection, table, names)
        return Repaired(table.name, inserted, missing - inserted)
    filled = _fill(connection, table, [name for name in table.required if name in now])
    filled += _update(connection, table, [name for name in table.lost if name in now], only_mine=False)
    updated = _update(connection, table, values, only_mine=True)
    return Repaired(table.name, inserted, missing - inserted, updated, filled)


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


def _continue_sequences(connection: Connection[Any], table: Table, names: Sequence[str]) -> None:
    """A table that was made anew must not give its old keys out again."""
    for name in names:
        sequence = connection.execute(
            "SELECT pg_get_serial_sequence(%s, %s)", (".".join(f'"{p}"' for p in split(table.name)), name)
        ).fetchone()
        if sequence and sequence[0]:
            query = table.sql("SELECT setval(%s, max({column})) FROM {table}", column=listed([name]))
            connection.execute(query, (sequence[0],))


def _number(connection: Connection[Any], query: Composed) -> int:
    found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])
