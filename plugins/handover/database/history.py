"""What a migration tool of the release has written down in the database: what is applied, and what is wrong with it.

The tables are those that the tools make themselves: Flyway's ``flyway_schema_history``, Liquibase's
``databasechangelog``, Alembic's ``alembic_version``, Django's ``django_migrations``, ``schema_migrations`` of Rails and
of golang-migrate, goose's ``goose_db_version``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import cause

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.migration import HistoryTable, MigrationTool

_PLACE = """
SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'v') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1
"""


class HistoryUnreadable(Exception):
    """The history is there, and is not what it should be; the text holds no row of it."""


@dataclass(frozen=True)
class History:
    """``applied``: names, oldest first; ``wrong``: what a person has to mend before the tool may run again."""

    applied: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    """``query`` gives a name and what is wrong with it ("" for nothing); ``lock``: who holds ``lock_table``."""

    name: str
    query: str
    lock_table: str = ""
    lock: str = ""


_TABLES: dict[HistoryTable, _Table] = {
    "alembic": _Table("alembic_version", "SELECT version_num, '' FROM {table} ORDER BY 1"),
    "django": _Table("django_migrations", "SELECT app || '.' || name, '' FROM {table} ORDER BY id"),
    "flyway": _Table(
        "flyway_schema_history",
        # The newest row of a version counts: undoing one adds a row. A repeatable script runs again when it changes;
        # one in Java need not have a checksum.
        """
        SELECT name, CASE WHEN success THEN '' ELSE 'failed' END FROM (
            SELECT DISTINCT ON (COALESCE(version, script)) installed_rank, type, success,
                COALESCE(version, concat_ws('@', script, checksum)) AS name
            FROM {table} WHERE type NOT IN ('SCHEMA', 'BASELINE')
            ORDER BY COALESCE(version, script), installed_rank DESC
        ) newest WHERE type NOT LIKE 'UNDO%%' AND type <> 'DELETE' ORDER BY installed_rank
        """,
    ),
    "golang_migrate": _Table(
        "schema_migrations", "SELECT version::text, CASE WHEN dirty THEN 'dirty' ELSE '' END FROM {table} ORDER BY 1"
    ),
    "goose": _Table(
        "goose_db_version",
        """
        SELECT version_id::text, '' FROM (
            SELECT DISTINCT ON (version_id) id, version_id, is_applied FROM {table} WHERE version_id > 0
            ORDER BY version_id, id DESC
        ) newest WHERE is_applied ORDER BY id
        """,
    ),
    "liquibase": _Table(
        "databasechangelog",
        """
        SELECT filename || '::' || id || '::' || author,
            CASE WHEN exectype IN ('EXECUTED', 'RERAN', 'MARK_RAN') THEN '' ELSE lower(exectype) END
        FROM {table} ORDER BY orderexecuted
        """,
        "databasechangeloglock",
        "SELECT concat_ws(' ', 'locked since', lockgranted, 'by', lockedby) FROM {table} WHERE locked",
    ),
    "rails": _Table("schema_migrations", "SELECT version, '' FROM {table} ORDER BY version"),
}


def tables(tool: MigrationTool) -> tuple[str, ...]:
    """Names of the tables that a known tool keeps for itself."""
    table = _TABLES[tool.history] if tool.history else None
    return tuple(name for name in (table.name, table.lock_table) if name) if table else ()


def read(connection: Connection[Any], tool: MigrationTool) -> History | None:
    """What the database says; None where the plan names no history. Before its first run a known tool has none.

    Raises `HistoryUnreadable` for a table that is another one, or is there several times.
    """
    if tool.history_query:
        rows = _rows(connection, tool.history_query)
        if any(len(row) != 1 or row[0] is None for row in rows):
            raise HistoryUnreadable("migration.tool.history_query does not give one column with a name in each row")
        return History(tuple(str(row[0]) for row in rows))
    if tool.history is None:
        return None
    table = _TABLES[tool.history]
    rows = _of(connection, tool.history, table.name, table.query)
    if any(name is None for name, _ in rows):
        raise HistoryUnreadable(f"{table.name} has a migration without a name: say history_query instead")
    wrong = [f"{name} {why}" for name, why in rows if why]
    if table.lock_table:
        wrong += [
            f"{table.lock_table}: {row[0]}" for row in _of(connection, tool.history, table.lock_table, table.lock)
        ]
    return History(tuple(str(name) for name, why in rows if not why), tuple(wrong))


def _of(connection: Connection[Any], tool: str, name: str, query: str) -> list[tuple[Any, ...]]:
    places = [str(row[0]) for row in connection.execute(_PLACE, (name,))]
    if len(places) > 1:
        raise HistoryUnreadable(f"{name} is there {len(places)} times ({', '.join(places)}): say history_query instead")
    return _rows(connection, query.format(table=places[0]), f"{places[0]} is no table of {tool}: ") if places else []


def _rows(connection: Connection[Any], query: str, said: str = "") -> list[tuple[Any, ...]]:
    import psycopg

    try:
        with connection.transaction():
            connection.execute("SET TRANSACTION READ ONLY")
            return connection.execute(query.replace("%%", "%").encode()).fetchall()
    except (psycopg.ProgrammingError, psycopg.DataError, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise HistoryUnreadable(f"{said}{cause(error)}") from None
