"""What PostgreSQL's catalogue says: tables, keys, references, and what is wrong with indices and constraints.

Only tables of the schema ``public``: Prisma's default, and where the plan's SQL looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

SCHEMA = "public"
MIGRATIONS_TABLE = "_prisma_migrations"

_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
_OBJECTS = """
SELECT (SELECT count(*) FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
        WHERE n.nspname = 'public' AND k.contype <> 'n'),
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind = 'i')
"""
_INVALID_INDICES = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND NOT (i.indisvalid AND i.indisready) ORDER BY 1
"""
_NOT_VALIDATED = """
SELECT c.relname || '.' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND NOT k.convalidated ORDER BY 1
"""
_KEY = """
SELECT a.attname, a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)
WHERE n.nspname = 'public' AND c.relname = %s AND i.indisprimary ORDER BY array_position(i.indkey::int2[], a.attnum)
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum
"""
_REFERENCES = """
SELECT child.relname, parent.relname FROM pg_constraint k
JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid
JOIN pg_namespace n ON n.oid = child.relnamespace WHERE k.contype = 'f' AND n.nspname = 'public'
"""


@dataclass(frozen=True)
class Column:
    """A column that can be written; ``type`` as SQL."""

    name: str
    type: str
    required: bool


def database_bytes(connection: Connection[Any]) -> int:
    return int(_one(connection, "SELECT pg_database_size(current_database())"))


def export_snapshot(connection: Connection[Any]) -> str:
    """Name under which pg_dump sees what this transaction sees, while the transaction lasts."""
    return str(_one(connection, "SELECT pg_export_snapshot()"))


def tables(connection: Connection[Any]) -> list[str]:
    return [row[0] for row in connection.execute(_TABLES)]


def row_count(connection: Connection[Any], table: str, up_to: tuple[str, int] | None = None) -> int:
    """Rows of a table; with ``up_to`` only those whose integer key is not above a value."""
    from psycopg import sql

    query = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(SCHEMA, table))
    if up_to is not None:
        query += sql.SQL(" WHERE {} <= {}").format(sql.Identifier(up_to[0]), sql.Literal(up_to[1]))
    return int(_one(connection, query))


def row_counts(connection: Connection[Any]) -> dict[str, int]:
    """Rows of every table."""
    return {table: row_count(connection, table) for table in tables(connection)}


def object_counts(connection: Connection[Any]) -> dict[str, int]:
    """How many constraints (but NOT NULL) and indices there are."""
    found = connection.execute(_OBJECTS).fetchone()
    assert found is not None
    return {"constraints": found[0], "indices": found[1]}


def invalid_indices(connection: Connection[Any]) -> list[str]:
    return [row[0] for row in connection.execute(_INVALID_INDICES)]


def constraints_not_validated(connection: Connection[Any]) -> list[str]:
    return [row[0] for row in connection.execute(_NOT_VALIDATED)]


def primary_key(connection: Connection[Any], table: str) -> tuple[str, ...]:
    """Column names in key order; empty when there is no primary key."""
    return tuple(row[0] for row in connection.execute(_KEY, (table,)))


def integer_key(connection: Connection[Any], table: str) -> str | None:
    """The column of a primary key that is one integer."""
    found = connection.execute(_KEY, (table,)).fetchall()
    return found[0][0] if len(found) == 1 and found[0][1] else None


def highest_key(connection: Connection[Any], table: str) -> int | None:
    """The highest integer key; None for other keys and for empty tables."""
    from psycopg import sql

    column = integer_key(connection, table)
    if column is None:
        return None
    query = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(column), sql.Identifier(SCHEMA, table))
    found = _one(connection, query)
    return None if found is None else int(found)


def columns(connection: Connection[Any], table: str) -> list[Column]:
    return [Column(*row) for row in connection.execute(_COLUMNS, (table,))]


def parents_first(names: list[str], references: set[tuple[str, str]]) -> list[str]:
    """The tables in an order in which rows can be inserted; ``references``: pairs of (child, parent).

    Tables that refer to each other in a circle come in the order of their names.
    """
    left, ordered = sorted(names), list[str]()
    while left:
        free = [t for t in left if not any(c == t and p in left and p != t for c, p in references)] or left[:1]
        ordered += free
        left = [table for table in left if table not in free]
    return ordered


def references(connection: Connection[Any]) -> set[tuple[str, str]]:
    """Foreign keys as pairs of (child, parent)."""
    return {(row[0], row[1]) for row in connection.execute(_REFERENCES)}


def _one(connection: Connection[Any], query: Any) -> Any:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found[0]
