"""What a statement that PostgreSQL takes only outside a transaction has done, by the catalogue.

Such a statement may end half-way: an index that is not valid, a partition that is half detached. So nobody believes its
end alone: `state` looks what there is, `go_on` brings a half of it to an end, `take_back` removes it where that can be.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import cause

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.database.statements import Statement

log = logging.getLogger(__name__)
TIDY_SECONDS = 60.0
"""How long removing an index may wait for other transactions; nobody waits behind it."""

_INDEX = """
SELECT i.indisvalid AND i.indisready FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
WHERE CASE WHEN %(table)s::text IS NULL THEN c.oid = to_regclass(%(name)s)
      ELSE i.indrelid = to_regclass(%(table)s) AND c.relname = (parse_ident(%(name)s))[1]::name END
"""
_PARTITION = """
SELECT coalesce((to_jsonb(i) ->> 'inhdetachpending')::boolean, false) FROM pg_catalog.pg_inherits i
WHERE i.inhparent = to_regclass(%s) AND i.inhrelid = to_regclass(%s)
"""
_DETACHING = """
SELECT format('%s from %s', i.inhrelid::regclass, i.inhparent::regclass) FROM pg_catalog.pg_inherits i
WHERE (to_jsonb(i) ->> 'inhdetachpending')::boolean ORDER BY 1
"""
_LEFT = """
SELECT i.indexrelid::bigint, format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready) AND CASE
    WHEN %(name)s::text IS NULL THEN
        (%(table)s::text IS NULL OR i.indrelid = to_regclass(%(table)s)) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_database d ON d.oid = l.database
            WHERE d.datname = current_database() AND l.relation = i.indrelid AND l.granted
              AND l.pid <> pg_backend_pid() AND l.mode = 'ShareUpdateExclusiveLock')
    WHEN %(table)s::text IS NULL THEN c.oid = to_regclass(%(name)s)
    ELSE i.indrelid = to_regclass(%(table)s) AND c.relname = (parse_ident(%(name)s))[1]::name END
"""
"""Of a statement without a name: but those of tables where somebody may be building one now."""


class State(StrEnum):
    """Of what a statement is there for."""

    NOT = "not begun"
    HALF = "half done"
    DONE = "done"


def state(connection: Connection[Any], statement: Statement) -> State | None:
    """How far it is; None when the catalogue cannot tell."""
    if pair := statement.detaches:
        found = connection.execute(_PARTITION, pair).fetchone()
        return State.DONE if found is None else State.HALF if found[0] else State.NOT
    if (name := statement.index) is None:
        return None
    found = connection.execute(_INDEX, {"name": name, "table": statement.indexed}).fetchone()
    if statement.words[0] == "DROP":
        return State.DONE if found is None else State.NOT
    return State.NOT if found is None else State.DONE if found[0] else State.HALF


def invalid(connection: Connection[Any], statement: Statement) -> dict[int, str]:
    """Indices that are not valid and may be this statement's: names by number."""
    if not statement.concurrent:
        return {}
    return dict(connection.execute(_LEFT, {"name": statement.index, "table": statement.indexed}).fetchall())


def detaching(connection: Connection[Any]) -> list[str]:
    """Partitions that are half detached: their rows are not seen through their table."""
    return [row[0] for row in connection.execute(_DETACHING)]


def go_on(connection: Connection[Any], statement: Statement) -> bool:
    """Finishes what is half done and can only be finished; gives whether that is all that was to be done.

    Raises psycopg's errors; the session's limits hold.
    """
    if statement.detaches is None:
        return False
    parent, partition = statement.detaches
    connection.execute(f"ALTER TABLE {parent} DETACH PARTITION {partition} FINALIZE".encode())
    return True


def take_back(connection: Connection[Any], statement: Statement, before: set[int]) -> list[str]:
    """Drops indices that are not valid and were not so ``before``; gives the names of what stays half done.

    A DROP INDEX that came half-way comes to its end by that.
    """
    from psycopg import Error, sql

    if statement.detaches is not None:
        return detaching(connection) if state(connection, statement) is State.HALF else []
    for name, milliseconds in (("lock_timeout", 0), ("statement_timeout", int(TIDY_SECONDS * 1000))):
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, str(milliseconds)))
    for number, name in invalid(connection, statement).items():
        if number not in before:
            try:
                connection.execute(sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(sql.SQL(name)))
            except Error as error:
                log.warning("the invalid index %s cannot be dropped: %s", name, cause(error))
    return [name for number, name in invalid(connection, statement).items() if number not in before]
