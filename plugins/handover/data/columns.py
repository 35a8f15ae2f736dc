"""Asks the database for the columns of a table, and where the operators of their types are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.data.targets import Target
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, b.type,
    CASE WHEN a.attcollation <> t.typcollation THEN (
        SELECT quote_ident(n.nspname) || '.' || quote_ident(c.collname) FROM pg_collation c
        JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) ELSE '' END,
    CASE WHEN a.attidentity = 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN a.attgenerated <> '' THEN 'GENERATED ALWAYS'
        ELSE '' END
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class r ON r.oid = a.attrelid
JOIN pg_namespace s ON s.oid = r.relnamespace CROSS JOIN LATERAL (
    WITH RECURSIVE base (oid, modifier) AS (
        SELECT a.atttypid, a.atttypmod
        UNION ALL SELECT d.typbasetype, d.typtypmod FROM base JOIN pg_type d ON d.oid = base.oid AND d.typtype = 'd')
    SELECT format_type(base.oid, base.modifier) AS type FROM base
    JOIN pg_type d ON d.oid = base.oid AND d.typtype <> 'd'
) AS b
WHERE s.nspname = %s AND r.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
"""
_SCHEMAS = """
WITH RECURSIVE used (oid) AS (
    SELECT a.atttypid FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid
    JOIN pg_namespace s ON s.oid = r.relnamespace
    WHERE s.nspname = %s AND r.relname = %s AND a.attnum > 0 AND NOT a.attisdropped
    UNION SELECT unnest(ARRAY[t.typbasetype, t.typelem]) FROM used JOIN pg_type t ON t.oid = used.oid)
SELECT DISTINCT n.nspname FROM used JOIN pg_type t ON t.oid = used.oid JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname <> 'pg_catalog' ORDER BY 1
"""
_UNIQUE = """
SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = i.indrelid
             AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) ORDER BY 1), i.indimmediate
FROM pg_index i WHERE i.indrelid = to_regclass(%s) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
  AND i.indexprs IS NULL ORDER BY 1, 2 DESC
"""
_HEIRS = """
SELECT count(*) > 0 FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhrelid
WHERE h.inhparent = to_regclass(%s) AND NOT c.relispartition
"""


@dataclass(frozen=True)
class Unique:
    """An index of columns, by their names; ``immediate``: it is no DEFERRABLE constraint's."""

    columns: tuple[str, ...]
    immediate: bool


def unique(connection: Connection[Any], table: str) -> list[Unique]:
    """Those that hold for the whole table."""
    found = connection.execute(_UNIQUE, (regclass(table),)).fetchall()
    return [Unique(tuple(names), immediate) for names, immediate in found]


def has_heirs(connection: Connection[Any], table: str) -> bool:
    """Whether tables inherit from it, for whose rows its indices do not hold. Partitions do not."""
    found = connection.execute(_HEIRS, (regclass(table),)).fetchone()
    return bool(found and found[0])


def columns_of(connection: Connection[Any], table: str) -> dict[str, Target]:
    """By name, as the session's search path has their types; none where there is no such table."""
    found = connection.execute(_COLUMNS, table_name.split(table)).fetchall()
    return {name: Target(*rest) for name, *rest in found}


def search_path(connection: Connection[Any], tables: Iterable[str]) -> str:
    """Types and operators are found where the tables are, and where the types of their columns are: an extension's
    often have a schema of their own.
    """
    names = [table_name.split(table) for table in tables]
    types = [schema for name in names for (schema,) in connection.execute(_SCHEMAS, name).fetchall()]
    schemas = dict.fromkeys([table_name.PUBLIC, *(schema for schema, _ in names), *types])
    return ", ".join([table_name.quoted(schema) for schema in schemas] + ["pg_temp"])


def regclass(table: str) -> str:
    """As PostgreSQL reads a table's name."""
    return ".".join(map(table_name.quoted, table_name.split(table)))
