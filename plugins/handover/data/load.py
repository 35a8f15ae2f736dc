"""Brings the rows of a CSV file into a table: all that are good, or none; one transaction, at the speed of COPY."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from handover import clock
from handover.adapters import sequences
from handover.adapters.postgres import cause
from handover.data import checks
from handover.data.checks import Statements, written
from handover.data.columns import columns_of, has_heirs, regclass, search_path, unique
from handover.models import table_name

if TYPE_CHECKING:
    import psycopg
    from psycopg import Connection
    from psycopg.sql import Composed

    from handover.data.csv_file import OnRejects, Rows
    from handover.data.targets import Target
    from handover.plan.data import Import

MOST_REFUSED = 20
"""Lines that the table itself does not take. Each costs as much as inserting what comes before it."""
LEAST_SERVER = 160000
"""PostgreSQL 16 has pg_input_is_valid."""
CHUNK_BYTES = 256 * 1024
_MAY = """
SELECT coalesce(bool_and(has_column_privilege(to_regclass(%s), name, 'INSERT')), true) FROM unnest(%s::text[]) AS name
"""
_FUNCTION = re.compile(r"function (\S+)")


class NotImported(Exception):
    """Nothing was imported; the text says why and what to do."""


@dataclass(frozen=True)
class Imported:
    """What became of the rows: imported, there already, rejected. ``first``: the first faults, without values."""

    rows: int
    imported: int
    present: int
    rejected: int
    faults: int
    first: tuple[str, ...]
    seconds: float


def import_rows(
    connection: Connection[Any], rows: Rows, spec: Import, *, on_rejects: OnRejects, timeout_seconds: float,
    write_report: Callable[[IO[bytes]], None],
) -> Imported:  # fmt: skip
    """Imports what is good. With ``on_rejects`` "abort" one rejected row keeps all of them out.

    Everything is one transaction, its working tables are temporary: a process that is killed leaves nothing behind.
    ``write_report`` gets the report of every rejected row, as CSV, before anybody else sees a row. Rows that are in the
    table already with the same values are left alone. Raises `NotImported`.
    """
    import psycopg

    began = clock.monotonic()
    imported = present = 0
    try:
        with connection.transaction() as transaction:
            _prepare(connection, spec, timeout_seconds)
            targets = _targets(connection, spec, written(spec, rows.columns))
            unique_columns = [one.columns for one in unique(connection, spec.table)]
            statements = Statements(spec, rows.columns, targets, _matches(connection, spec), unique_columns)
            _check_defaults(connection, statements)
            _stage(connection, statements, rows)
            _check(connection, statements)
            if on_rejects == "skip" or not _rejects(connection)[0]:
                imported, present = _insert(connection, statements, rows.count, on_rejects)
            rejected, faults, first = _rejects(connection)
            _report(connection, write_report)
            if rejected and on_rejects == "abort":
                raise psycopg.Rollback(transaction)
    except psycopg.errors.QueryCanceled:
        raise NotImported(f"it took longer than {timeout_seconds:g} s (data.statement_timeout_seconds)") from None
    except psycopg.Error as error:
        raise NotImported(_why(error)) from None
    return Imported(rows.count, imported, present, rejected, faults, first, clock.monotonic() - began)


def _why(error: psycopg.Error) -> str:
    """What PostgreSQL had against it; values of rows are not in it, but for what a trigger of the service says."""
    from psycopg import errors

    if (function := _FUNCTION.search(error.diag.context or "")) is not None:
        return f"the function {function[1]}, which the table calls, refuses rows that the plan allows: {cause(error)}"
    if isinstance(error, errors.IntegrityError | errors.DataError):
        return f"the table refuses rows that the plan allows: {cause(error)}"
    return cause(error)


def _prepare(connection: Connection[Any], spec: Import, timeout_seconds: float) -> None:
    """Settings that end with the transaction; nobody else imports into the same table meanwhile."""
    if connection.info.server_version < LEAST_SERVER:
        raise NotImported(
            f"the server is PostgreSQL {connection.info.server_version // 10000}; imports need 16 or newer"
        )
    settings = {
        "statement_timeout": f"{int(timeout_seconds * 1000)}ms", "work_mem": "64MB", "timezone": "UTC",
        "datestyle": "ISO, YMD", "search_path": search_path(connection, _tables(spec)),
    }  # fmt: skip
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, true)", (name, value))
    if not _one(connection, "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", f"pms import {spec.table}"):
        raise NotImported(f"another import into {spec.table} is running; wait for its end")


def _tables(spec: Import) -> list[str]:
    return [spec.table, *(column.lookup.table for column in spec.columns.values() if column.lookup)]


def _targets(connection: Connection[Any], spec: Import, writing: list[str]) -> dict[str, Target]:
    """The table's columns by name; the indices and rights that the import rests on are checked as well."""
    targets = columns_of(connection, spec.table)
    if missing := [name for name in map(spec.target, spec.columns) if name not in targets]:
        raise NotImported(
            f"the table {spec.table} has no {', '.join(missing)}: is the schema older than the plan? Migrate it first"
            if targets else f"there is no table {spec.table}; migrate the database first"
        )  # fmt: skip
    into = [spec.target(name) for name in writing]
    for name in into:
        if how := targets[name].makes:
            raise NotImported(
                f"{spec.table}.{name} is {how}: the table makes its values; take it out of the import's columns"
            )
    _check_unique(connection, spec.table, [spec.target(name) for name in spec.key], at_once=True)
    for lookup in (column.lookup for column in spec.columns.values() if column.lookup):
        _check_unique(connection, lookup.table, [lookup.match], at_once=False)
    if not _one(connection, _MAY, regclass(spec.table), into):
        user = connection.info.user
        raise NotImported(f"the role {user} may not insert into {spec.table}: GRANT INSERT ON {spec.table} TO {user}")
    return targets


def _check_unique(connection: Connection[Any], table: str, columns: list[str], *, at_once: bool) -> None:
    """``at_once``: rows have to be told apart while they come in."""
    which = f"unique index on {', '.join(columns)}"
    found = [one for one in unique(connection, table) if set(one.columns) == set(columns)]
    if not found:
        raise NotImported(f"{table} has no {which}, so a row could be two")
    if has_heirs(connection, table):
        raise NotImported(
            f"other tables inherit from {table}: its {which} does not hold for them, so a row could be two"
        )
    if at_once and not found[0].immediate:
        raise NotImported(f"the {which} of {table} is DEFERRABLE: rows are told apart by one that is not; add one")


def _matches(connection: Connection[Any], spec: Import) -> dict[str, Target]:
    """For columns of the file that are looked up: the column that they are found by."""
    lookups = {name: column.lookup for name, column in spec.columns.items() if column.lookup}
    return {name: columns_of(connection, lookup.table)[lookup.match] for name, lookup in lookups.items()}


def _stage(connection: Connection[Any], statements: Statements, rows: Rows) -> None:
    connection.execute(statements.create())
    connection.execute(checks.CREATE_REJECTS)
    with connection.cursor().copy(statements.copy()) as copy:
        while data := rows.stream.read(CHUNK_BYTES):
            copy.write(data)
    connection.execute("ANALYZE pg_temp.import_rows")


def _check_defaults(connection: Connection[Any], statements: Statements) -> None:
    for name, reason, query in statements.defaults():
        if not _one(connection, query):
            raise NotImported(f"the plan's default for {name} {reason}: mend the plan")


def _check(connection: Connection[Any], statements: Statements) -> None:
    """Collects everything that is wrong. A row is cast only after everything about its single values was right."""
    _reject(connection, [statements.malformed()])
    _reject(connection, [statements.flaws()])
    _reject(connection, [*statements.rules(), statements.others(), *statements.taken()])
    for query in statements.duplicates():  # an earlier line that is rejected itself keeps no other out
        _reject(connection, [query])


def _reject(connection: Connection[Any], queries: list[Composed]) -> None:
    if sum(connection.execute(query).rowcount for query in queries):
        connection.execute(checks.FORGET)


def _rejects(connection: Connection[Any]) -> tuple[int, int, tuple[str, ...]]:
    found = connection.execute(checks.COUNTS).fetchone()
    assert found is not None
    first = connection.execute(checks.FIRST).fetchall()
    return found[0], found[1], tuple(_said(*row) for row in first)


def _said(line: int, column: str, reason: str) -> str:
    return f"line {line}, {column} {reason}" if column else f"line {line}: {reason}"


def _report(connection: Connection[Any], write: Callable[[IO[bytes]], None]) -> None:
    with tempfile.TemporaryFile() as file:
        with connection.cursor().copy(checks.REPORT) as copy:
            for data in copy:
                file.write(data)
        file.seek(0)
        write(file)


def _insert(connection: Connection[Any], statements: Statements, rows: int, on_rejects: OnRejects) -> tuple[int, int]:
    """How many rows were inserted, and how many were there already. The service's next keys are free ones."""
    present = int(_one(connection, statements.present()))
    imported = _insert_all(connection, statements, most_refused=MOST_REFUSED if on_rejects == "skip" else 0)
    good = rows - _rejects(connection)[0]
    if imported + present != good:
        raise NotImported(
            f"{good - imported - present} rows are not in the table afterwards: somebody else added rows with the same "
            "keys meanwhile (then run it again), or a trigger leaves them out"
        )
    if imported:
        sequences.move_past(connection, table_name.split(statements.spec.table), statements.into)
    return imported, present


def _insert_all(connection: Connection[Any], statements: Statements, *, most_refused: int) -> int:
    """Gives the number of rows. Rejects lines that the table does not take; raises `NotImported` for one too many."""
    connection.execute("SET CONSTRAINTS ALL IMMEDIATE")  # at the end no line could be named
    rows, begin, end, refused = 0, 0, int(_one(connection, checks.LAST)), 0
    while begin < end:
        imported, why = _inserted(connection, statements, begin, end)
        if not why:
            return rows + imported
        good, bad = begin, end
        while bad - good > 1:
            middle = (good + bad) // 2
            imported, said = _inserted(connection, statements, good, middle)
            rows += imported
            if said:
                bad, why = middle, said
            else:
                good = middle
        if refused == most_refused:
            raise NotImported(f"line {bad}: {why}")
        connection.execute(checks.REFUSE, (bad, why))
        begin, refused = bad, refused + 1
    return rows


def _inserted(connection: Connection[Any], statements: Statements, after: int, until: int) -> tuple[int, str]:
    """How many rows, or none and why."""
    from psycopg import errors

    try:
        with connection.transaction():
            return connection.execute(statements.insert(after, until)).rowcount, ""
    except (errors.IntegrityError, errors.DataError, errors.RaiseException) as error:
        return 0, _why(error)


def _one(connection: Connection[Any], query: Any, *values: Any) -> Any:
    found = connection.execute(query, values or None).fetchone()
    assert found is not None
    return found[0]
