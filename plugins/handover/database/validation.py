"""Checks of the data and of the schema, written as SQL (plan 3.1, 3.3 and "Data Validation Post-Migration").

A file in ``include/sql`` is a list of named queries. Each begins with a line ``-- check: <name>`` and passes when it
gives no row, or exactly one row with the one value true. In a file of critical queries the line is
``-- query: <name>``; any result is fine, only its time counts. Every query is one statement, and runs in a transaction
that may only read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import cause
from handover.database import alone, catalog, ledger, sketch, statements
from handover.models.deployment import Sketch
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.plan.parts import included

if TYPE_CHECKING:
    from psycopg import Connection

SOURCE = "database"
ROWS_LOST = "rows lost"
MANY_ROWS = 1000
LONG_TRANSACTION_SECONDS = 30
_HEADER = re.compile(r"^[ \t]*--[ \t]*(check|query)[ \t]*:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_NEARLY = re.compile(r"^.*(?:--|/\*)[-\s]*(?:checks?|query|queries)\s*[:=].*$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Query:
    """A named query of a file. ``timed``: any result is fine, only the time counts; ``unfit``: why it cannot be run."""

    name: str
    sql: str
    timed: bool
    unfit: str = ""


def parse(text: str) -> list[Query]:
    """The queries of a file's text. Raises ValueError for SQL outside of them, doubled names, and whatever would not be
    judged: an empty query, a second statement, a line that is only nearly a header.
    """
    found = list(_HEADER.finditer(text))
    starts = {header.start() for header in found}
    if nearly := next((line for line in _NEARLY.finditer(text) if line.start() not in starts), None):
        raise ValueError(f"{nearly.group().strip()!r} is only nearly a line '-- check: <name>' or '-- query: <name>'")
    if statements.read(text[: found[0].start()] if found else text):
        raise ValueError("SQL before the first line '-- check: <name>'")
    ends = [next_.start() for next_ in found[1:]] + [len(text)]
    queries = [
        Query(header.group(2), text[header.end() : end].strip().rstrip(";"), header.group(1).lower() == "query")
        for header, end in zip(found, ends, strict=True)
    ]
    names = [query.name for query in queries]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two checks are called {', '.join(sorted(doubled))}")
    for query in queries:
        if (many := len(statements.read(query.sql))) != 1:
            only = f"{many} statements, and only the first is judged: each needs its own line '-- check: <name>'"
            raise ValueError(f"{query.name} has {only if many else 'no query'}")
    return queries


def load(name: str | None) -> list[Query]:
    """The queries of a file in ``include/sql``; none where the plan names none. A file that cannot be read is a check
    that fails.
    """
    if name is None:
        return []
    try:
        return parse(included("sql", name).read_text(encoding="utf-8"))
    except ValueError as error:
        return [Query(f"include/sql/{name}", "", timed=False, unfit=str(error))]


def run(connection: Connection[Any], query: Query, *, max_seconds: float) -> Evidence:
    """Runs one query; ``max_seconds`` also ends it when nobody waits any more. Shows no row's contents."""
    import psycopg

    if query.unfit:
        return failed(query.name, query.unfit)
    begin = clock.monotonic()
    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            limit = max_seconds * (2 if query.timed else 1)
            connection.execute("SELECT set_config('statement_timeout', %s, true)", (f"{int(limit * 1000)}ms",))
            cursor = connection.execute(query.sql.encode())
            if cursor.description is None:
                return failed(query.name, "it is no query: it gives no rows")
            found = cursor.fetchmany(MANY_ROWS)
    except psycopg.Error as error:
        return failed(query.name, f"{error.sqlstate}: {cause(error)}")
    return _verdict(query, found, clock.monotonic() - begin, max_seconds)


def _verdict(query: Query, found: Sequence[tuple[Any, ...]], seconds: float, max_seconds: float) -> Evidence:
    if query.timed:
        took = Measurement(what=f"{query.name} seconds", value=round(seconds, 4), unit="s", source=SOURCE)
        if seconds > max_seconds:
            return failed(query.name, f"took {seconds:.2f} s, the limit is {max_seconds:g} s", took)
        return passed(query.name, f"{seconds * 1000:.0f} ms", took)
    only = _only_value(found)
    good = not found or only is True  # 1 == True, and it may be the key of a bad row
    bad_rows = 0 if good else len(found)
    seen = Measurement(what=f"{query.name} rows", value=bad_rows, source=SOURCE)
    if good:
        return passed(query.name, "ok", seen)
    many = "at least " if bad_rows == MANY_ROWS else ""
    what = f"{many}{bad_rows} rows" if bad_rows > 1 else "1 row, which is not the one value true"
    return failed(query.name, "it is not so" if only is False or only is None else what, seen)


def _only_value(found: Sequence[tuple[Any, ...]]) -> object:
    """The value, where there is but one; of several ``...``."""
    return found[0][0] if len(found) == 1 and len(found[0]) == 1 else ...


@dataclass(frozen=True)
class Counts:
    """Rows of tables, the highest integer key of those that have one, and what these held, of one moment."""

    rows: dict[str, int]
    last_keys: dict[str, int]
    sketches: dict[str, Sketch] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """As the state's MigrationRecord has them."""
        return {"counts": self.rows, "last_keys": self.last_keys, "sketches": self.sketches}


def count(connection: Connection[Any], tables: Sequence[str]) -> Counts:
    """Counts in one snapshot, so that a row that users add meanwhile is in both numbers or in none.

    Tables that are not there are not in what is found: see `missing`.
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        tables = [table for table in tables if catalog.find(connection, table) is not None]
        rows = {table: catalog.row_count(connection, table) for table in tables}
        keys = {table: catalog.highest_key(connection, table) for table in tables}
        held = {table: sketch.take(connection, table, rows[table], keys[table]) for table in tables}
    return Counts(
        rows,
        {table: key for table, key in keys.items() if key is not None},
        {table: one for table, one in held.items() if one is not None},
    )


def missing(connection: Connection[Any], tables: Sequence[str]) -> Evidence:
    """Whether every table that the plan wants counted is there; what is not known is never counted as nothing."""
    absent = [table for table in tables if catalog.find(connection, table) is None]
    return _none("counted tables are there", absent, "there is no table")


def compare_counts(
    connection: Connection[Any], before: Counts, backed_up: Mapping[str, int] | None = None
) -> list[Evidence]:
    """Whether every row that was there before is there still, while users go on adding rows.

    With an integer key the rows up to the highest key of then are counted: what users add since gets higher keys, so
    it cannot hide a loss. Other tables may only not have shrunk. A table that is gone has lost all its rows.

    :param backed_up: after a repair, the rows in the backup: what was written after it and then damaged cannot come
        back, so that is said as a loss (the plan's RPO) and fails no check
    """
    found = []
    for table, was in before.rows.items():
        if catalog.find(connection, table) is None:
            found.append(_gone(table, was))
            continue
        key, last = catalog.integer_key(connection, table), before.last_keys.get(table)
        up_to = (key, last) if key is not None and last is not None else None
        now = catalog.row_count(connection, table, up_to)
        unsaved = max(0, was - backed_up.get(table, was)) if backed_up is not None else 0
        found.append(compared(table, was, now, exact=up_to is not None, unsaved=unsaved))
    return found


def _gone(table: str, rows: int) -> Evidence:
    seen = (
        Measurement(what=f"{table} rows before", value=rows, source=SOURCE),
        Measurement(what=f"{table} rows now", value=0, source=SOURCE, why="there is no such table"),
    )
    return failed(f"rows of {table}", f"the table is gone, and with it all its {rows} rows", *seen)


def compared(table: str, before: int, now: int, *, exact: bool, unsaved: int = 0) -> Evidence:
    """The rule of `compare_counts`. Rows may be more: keys given out before the count may have been committed after."""
    which = "rows from before" if exact else "rows"
    seen = (
        Measurement(what=f"{table} {which} before", value=before, source=SOURCE),
        Measurement(what=f"{table} {which} now", value=now, source=SOURCE),
    )
    if 0 < before - now <= unsaved:
        lost = Measurement(what=f"{table} {ROWS_LOST}", value=before - now, source=SOURCE)
        return passed(f"rows of {table}", f"{before - now} rows written after the backup are lost", *seen, lost)
    if now < before:
        return failed(f"rows of {table}", f"{before - now} of {before} {which} are gone", *seen)
    return passed(f"rows of {table}", f"{now} {which}", *seen)


def structure(connection: Connection[Any]) -> list[Evidence]:
    """Indices that are not valid, constraints that are not validated, partitions that a broken DETACH has left."""
    return [
        _none("valid indices", catalog.invalid_indices(connection), "not valid"),
        _none("validated constraints", catalog.constraints_not_validated(connection), "not validated"),
        _none("whole tables", alone.detaching(connection), "half detached"),
    ]


def quiet(connection: Connection[Any], seconds: float = LONG_TRANSACTION_SECONDS) -> list[Evidence]:
    """No transaction is open or prepared for long, which would hold up a migration and everybody behind it; nobody
    migrates.
    """
    old = connection.execute(
        "SELECT 'process ' || pid || ' of ' || coalesce(nullif(application_name, ''), 'unknown') || ' for '"
        " || extract(epoch FROM now() - xact_start)::int || ' s' FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        " AND xact_start < now() - make_interval(secs => %s) ORDER BY xact_start LIMIT 5",
        (seconds,),
    ).fetchall()
    prepared = connection.execute(
        "SELECT quote_literal(gid) || ' of ' || owner || ' for ' || extract(epoch FROM now() - prepared)::int || ' s'"
        " FROM pg_prepared_xacts WHERE database = current_database() AND prepared < now() - make_interval(secs => %s)"
        " ORDER BY prepared LIMIT 5",
        (seconds,),
    ).fetchall()
    migrating = [f"process {pid}" for pid in ledger.holders(connection)]
    return [
        _none("no long transactions", [row[0] for row in old], "open"),
        _none("no other migration", migrating, "migrating now"),
        _none("no prepared transactions", [row[0] for row in prepared], "neither committed nor rolled back"),
    ]


def _none(check: str, wrong: Sequence[str], what: str) -> Evidence:
    seen = Measurement(what=check, value=len(wrong), source=SOURCE)
    return failed(check, f"{what}: {', '.join(wrong)}", seen) if wrong else passed(check, "ok", seen)


def history(problems: Mapping[str, list[str]]) -> list[Evidence]:
    """Evidence of what the pure checks of `handover.database.migrations` found, by check name."""
    return [failed(check, "; ".join(found)) if found else passed(check, "ok") for check, found in problems.items()]
