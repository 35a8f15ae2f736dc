"""What PostgreSQL's catalogue says: tables, keys, references, and what is wrong with indices and constraints.

Of every schema that is not PostgreSQL's own; what belongs to an extension comes and goes with it and is left out. A
table is called as `handover.models.table_name` writes it: by its name alone in the schema ``public``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable, Identifier

MIGRATIONS_TABLE = "_prisma_migrations"

_OURS = (
    "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (SELECT FROM pg_depend e"
    " WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')"
)
"""True of a table ``c`` in a schema ``n`` that is no extension's and not PostgreSQL's."""
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE OURS AND c.relkind IN ('r', 'p') AND NOT c.relispartition
ORDER BY n.nspname <> 'public', 1, 2
""".replace("OURS", _OURS)
_NUMBERS = _TABLES.replace("SELECT", "SELECT c.oid,", 1)
_FIND = """
SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')
"""
_HIDDEN = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE OURS AND c.relkind IN ('r', 'p') AND row_security_active(c.oid) ORDER BY 1, 2
""".replace("OURS", _OURS)
_OBJECTS = """
SELECT (SELECT count(*) FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE OURS AND k.contype <> 'n' AND k.conparentid = 0),
       (SELECT count(*) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE OURS AND (c.relkind = 'p' OR i.indisvalid AND i.indisready))
""".replace("OURS", _OURS)
"""What pg_dump carries: no index that a broken CREATE INDEX CONCURRENTLY has left."""
_INVALID_INDICES = """
SELECT n.nspname, x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = x.relnamespace
WHERE OURS AND NOT (i.indisvalid AND i.indisready) ORDER BY 1, 2
""".replace("OURS", _OURS)
_NOT_VALIDATED = """
SELECT n.nspname, c.relname, k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
JOIN pg_namespace n ON n.oid = c.relnamespace WHERE OURS AND NOT k.convalidated
AND coalesce((to_jsonb(k) ->> 'conenforced')::boolean, true) ORDER BY 1, 2, 3
""".replace("OURS", _OURS)
_KEY = """
SELECT a.attname, a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
FROM pg_attribute a JOIN (
    SELECT indrelid, (indkey::int2[])[0:indnkeyatts - 1] AS columns FROM pg_index i
    WHERE indrelid = %s::oid AND indisunique AND indisvalid AND indpred IS NULL AND indexprs IS NULL
      AND NOT EXISTS (SELECT FROM pg_attribute n WHERE n.attrelid = i.indrelid AND NOT n.attnotnull
                      AND n.attnum = ANY ((indkey::int2[])[0:indnkeyatts - 1]))
    ORDER BY NOT indisprimary, indnkeyatts, indexrelid LIMIT 1
) AS k ON a.attrelid = k.indrelid AND a.attnum = ANY (k.columns) ORDER BY array_position(k.columns, a.attnum)
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity = 'a', a.attnum,
       a.attgenerated <> '', (SELECT typnamespace FROM pg_type y WHERE y.oid = a.atttypid) = 'pg_catalog'::regnamespace
FROM pg_attribute a WHERE a.attrelid = %s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_REFERENCES = """
SELECT cn.nspname, child.relname, pn.nspname, parent.relname FROM pg_constraint k
JOIN pg_class child ON child.oid = coalesce(pg_partition_root(k.conrelid), k.conrelid)
JOIN pg_namespace cn ON cn.oid = child.relnamespace
JOIN pg_class parent ON parent.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace pn ON pn.oid = parent.relnamespace
WHERE k.contype = 'f'
"""
_PARTITIONS = """
SELECT n.nspname, c.relname, pn.nspname, p.relname, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_inherits h ON h.inhrelid = c.oid
JOIN pg_class p ON p.oid = h.inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE OURS AND c.relispartition AND c.relkind IN ('r', 'p')
ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid)), 1, 2
""".replace("OURS", _OURS)
_SCHEMAS = r"""
SELECT set_config('search_path', concat_ws(', ', nullif(current_setting('search_path'), ''), string_agg(
    quote_ident(nspname), ', ' ORDER BY nspname <> 'public', nspname)), false)
FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
"""


@dataclass(frozen=True)
class Column:
    """A column; ``type`` as SQL. ``always``: its values come from GENERATED ALWAYS AS IDENTITY; ``computed``: from an
    expression over others, so nobody can write it.

    ``number``: PostgreSQL's own, which stays when the column is renamed. ``builtin``: nobody can make its type anew.
    """

    name: str
    type: str
    required: bool
    always: bool = False
    number: int = 0
    computed: bool = False
    builtin: bool = True


@dataclass(frozen=True)
class Partition:
    """A partition, as SQL makes it. ``divided``: what its own partitions are told apart by."""

    name: str
    parent: str
    bound: str
    divided: str | None


def identifier(table: str) -> Identifier:
    """A table's name for SQL, always with its schema."""
    from psycopg import sql

    return sql.Identifier(*table_name.split(table))


def database_bytes(connection: Connection[Any]) -> int:
    return int(_one(connection, "SELECT pg_database_size(current_database())"))


def export_snapshot(connection: Connection[Any]) -> str:
    """Name under which pg_dump sees what this transaction sees, while the transaction lasts."""
    return str(_one(connection, "SELECT pg_export_snapshot()"))


def look_everywhere(connection: Connection[Any]) -> None:
    """For the rest of the session: types and operators are found in whichever schema they are."""
    connection.execute(_SCHEMAS)


def tables(connection: Connection[Any]) -> list[str]:
    return [table_name.written(*row) for row in connection.execute(_TABLES)]


def hidden(connection: Connection[Any]) -> list[str]:
    """Tables of whose rows this role sees only what policies let it see."""
    return [table_name.written(*row) for row in connection.execute(_HIDDEN)]


def find(connection: Connection[Any], table: str) -> int | None:
    """PostgreSQL's number of a table, None when there is none of this name."""
    found = connection.execute(_FIND, table_name.split(table)).fetchone()
    return found[0] if found else None


def row_count(connection: Connection[Any], table: str, up_to: tuple[str, int] | None = None) -> int:
    """Rows of a table; with ``up_to`` only those whose integer key is not above a value.

    These are all but the few above it, which an index finds: that takes as long as counting all does.
    """
    from psycopg import sql

    query = sql.SQL("SELECT (SELECT count(*) FROM {})").format(identifier(table))
    if up_to is not None:
        above = sql.SQL(" - (SELECT count(*) FROM {} WHERE {} > {})")
        query += above.format(identifier(table), sql.Identifier(up_to[0]), sql.Literal(up_to[1]))
    return int(_one(connection, query))


def not_above(up_to: tuple[str, int] | None) -> Composable:
    """SQL behind FROM: all rows, or those whose key is not above a value."""
    from psycopg import sql

    if up_to is None:
        return sql.SQL("")
    return sql.SQL(" WHERE {} <= {}").format(sql.Identifier(up_to[0]), sql.Literal(up_to[1]))


def row_counts(connection: Connection[Any]) -> dict[str, int]:
    """Rows of every table."""
    return {table: row_count(connection, table) for table in tables(connection)}


def object_counts(connection: Connection[Any]) -> dict[str, int]:
    """How many constraints (but NOT NULL) and indices there are of those that a dump carries."""
    found = connection.execute(_OBJECTS).fetchone()
    assert found is not None
    return {"constraints": found[0], "indices": found[1]}


def invalid_indices(connection: Connection[Any]) -> list[str]:
    return [table_name.written(*row) for row in connection.execute(_INVALID_INDICES)]


def constraints_not_validated(connection: Connection[Any]) -> list[str]:
    found = connection.execute(_NOT_VALIDATED)
    return [f"{table_name.written(schema, table)}.{constraint}" for schema, table, constraint in found]


def key(connection: Connection[Any], table: str) -> tuple[str, ...]:
    """The columns that name a row, in key order: those of the primary key, or else of a unique index without NULL.

    Empty when there is neither.
    """
    return tuple(row[0] for row in connection.execute(_KEY, (find(connection, table),)))


def integer_key(connection: Connection[Any], table: str) -> str | None:
    """The column of a key that is one integer."""
    found = connection.execute(_KEY, (find(connection, table),)).fetchall()
    return found[0][0] if len(found) == 1 and found[0][1] else None


def highest_key(connection: Connection[Any], table: str) -> int | None:
    """The highest integer key; None for other keys and for empty tables."""
    return _extreme_key(connection, table, "max")


def lowest_key(connection: Connection[Any], table: str) -> int | None:
    """The lowest, likewise."""
    return _extreme_key(connection, table, "min")


def _extreme_key(connection: Connection[Any], table: str, which: LiteralString) -> int | None:
    from psycopg import sql

    column = integer_key(connection, table)
    if column is None:
        return None
    query = sql.SQL("SELECT {}({}) FROM {}").format(sql.SQL(which), sql.Identifier(column), identifier(table))
    found = _one(connection, query)
    return None if found is None else int(found)


def columns(connection: Connection[Any], table: str) -> list[Column]:
    return [Column(*row) for row in connection.execute(_COLUMNS, (find(connection, table),))]


def partitions(connection: Connection[Any]) -> list[Partition]:
    """Of all tables, parents first."""
    return [
        Partition(table_name.written(*row[:2]), table_name.written(*row[2:4]), *row[4:])
        for row in connection.execute(_PARTITIONS)
    ]


def own_rows(connection: Connection[Any], table: str) -> Composable:
    """SQL for a table with its partitions, and without tables that inherit from it: their rows are theirs."""
    from psycopg import sql

    query = "SELECT relkind = 'p' FROM pg_class WHERE oid = %s"
    found = connection.execute(query, (find(connection, table),)).fetchone()
    return identifier(table) if found and found[0] else sql.SQL("ONLY {}").format(identifier(table))


def changeable(connection: Connection[Any], table: str) -> bool:
    """Whether this role may change, and so lock, rows of a table."""
    query = "SELECT has_any_column_privilege(%s::oid, 'UPDATE')"
    found = connection.execute(query, (find(connection, table),)).fetchone()
    return bool(found and found[0])


def numbers(connection: Connection[Any]) -> dict[int, str]:
    """The tables by PostgreSQL's number, which stays when a table is renamed."""
    return {number: table_name.written(*row) for number, *row in connection.execute(_NUMBERS)}


def secured(connection: Connection[Any], table: str) -> bool:
    """Whether a table's row security is on."""
    query = "SELECT relrowsecurity FROM pg_class WHERE oid = %s"
    found = connection.execute(query, (find(connection, table),)).fetchone()
    return bool(found and found[0])


def owned(connection: Connection[Any], table: str) -> bool:
    """Whether this role may alter a table."""
    query = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = %s"
    found = connection.execute(query, (find(connection, table),)).fetchone()
    return bool(found and found[0])


def references(connection: Connection[Any]) -> set[tuple[str, str]]:
    """Foreign keys as pairs of (child, parent); a partition's are its table's."""
    found = connection.execute(_REFERENCES)
    return {(table_name.written(*row[:2]), table_name.written(*row[2:])) for row in found}


def _one(connection: Connection[Any], query: Any) -> Any:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found[0]
