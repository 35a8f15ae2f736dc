"""What a repair does not bring back, by kind and name: what the restored copy has beside rows, and production lacks.

Definitions are not compared: what has the name counts as there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from handover.database import catalog
from handover.database.backfill import shape
from handover.database.damage import Table
from handover.database.mending import Repaired
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection

_OBJECTS = """
WITH ours AS (
    SELECT c.oid, c.relkind, c.relname, c.relispartition, n.nspname FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relname <> %(ledger)s
      AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid
                      AND e.deptype = 'e')
), named AS (
    SELECT n.oid, n.nspname FROM pg_namespace n WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
)
SELECT CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
       WHEN 'c' THEN 'type' ELSE 'foreign table' END, c.nspname, c.relname, NULL
FROM ours c WHERE c.relkind IN ('v', 'm', 'S', 'f', 'c')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
                  AND d.deptype = 'i' AND c.relkind = 'S')
UNION ALL
SELECT 'index', c.nspname, c.relname, x.relname FROM pg_index i JOIN ours c ON c.oid = i.indrelid
JOIN pg_class x ON x.oid = i.indexrelid
WHERE NOT x.relispartition AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.oid AND k.conrelid = c.oid)
UNION ALL
SELECT 'constraint', c.nspname, c.relname, k.conname FROM pg_constraint k JOIN ours c ON c.oid = k.conrelid
WHERE k.contype IN ('c', 'u', 'p', 'x', 'f') AND k.conparentid = 0 AND k.conislocal
UNION ALL
SELECT 'trigger', c.nspname, c.relname, t.tgname FROM pg_trigger t JOIN ours c ON c.oid = t.tgrelid
WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'rule', c.nspname, c.relname, r.rulename FROM pg_rewrite r JOIN ours c ON c.oid = r.ev_class
WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT w.what, c.nspname, c.relname, a.attname FROM pg_attribute a JOIN ours c ON c.oid = a.attrelid
CROSS JOIN LATERAL (VALUES ('NOT NULL of the column', a.attnotnull),
    ('default of the column', a.attgenerated = '' AND (a.atthasdef OR a.attidentity <> '')),
    ('expression of the column', a.attgenerated <> '')) AS w (what, is_so)
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped AND w.is_so
UNION ALL
SELECT 'function', n.nspname, format('%%s(%%s)', p.proname, pg_get_function_identity_arguments(p.oid)), NULL
FROM pg_proc p JOIN named n ON n.oid = p.pronamespace
WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_proc'::regclass AND e.objid = p.oid AND e.deptype = 'e')
UNION ALL
SELECT 'type', n.nspname, t.typname, NULL FROM pg_type t JOIN named n ON n.oid = t.typnamespace
WHERE t.typtype IN ('e', 'd', 'r')
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
UNION ALL
SELECT 'schema', n.nspname, NULL, NULL FROM named n
WHERE NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_namespace'::regclass AND e.objid = n.oid
                  AND e.deptype = 'e')
"""
"""Kind, schema, name; and what of it, where it belongs to a table."""
_LARGE = "SELECT oid FROM pg_largeobject_metadata"
_THERE = """
SELECT array_agg(a.attname) FILTER (WHERE a.attnum > 0 AND NOT a.attisdropped)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid
WHERE n.nspname = %s AND c.relname = %s GROUP BY c.oid
"""
_VIEWS = """
SELECT n.nspname, c.relname, age(c.xmin) <= %(age)s FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND c.relispopulated ORDER BY 1, 2
"""
_AGE = "SELECT max(age(x)) FROM unnest(%s::text[]::xid[]) AS x"
_GRANTED = """
SELECT n.nspname, c.relname, array_agg(DISTINCT coalesce(r.rolname, 'PUBLIC')) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace CROSS JOIN LATERAL aclexplode(c.relacl) AS a
LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.grantee <> c.relowner GROUP BY 1, 2
"""
_MADE = """
SELECT a.attrelid FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relkind IN ('r', 'p') AND a.attname = 'ctid' AND a.xmin = ANY (%s::text[]::xid[])
"""
"""Renaming leaves this as it is."""


@dataclass(frozen=True)
class Object:
    """Something of a database. ``table``: what it belongs to."""

    kind: str
    schema: str
    name: str | None
    part: str | None

    @property
    def table(self) -> str:
        return table_name.written(self.schema, self.name or "") if self.part else ""

    @property
    def ours(self) -> bool:
        """A data migration's own, which goes with it."""
        return any((name or "").startswith(shape.guard("")) for name in (self.name, self.part))

    @property
    def text(self) -> str:
        if self.part:
            return f"{self.kind} {self.part}"
        if self.kind == "function":
            return f"{self.kind} {'' if self.schema == table_name.PUBLIC else self.schema + '.'}{self.name}"
        return f"{self.kind} {table_name.written(self.schema, self.name) if self.name else self.schema}"


@dataclass(frozen=True)
class Other(Repaired):
    """What is no table's: it has no rows to count."""

    @property
    def numbers(self) -> dict[str, int]:
        return {}


@dataclass(frozen=True)
class Copy:
    """What the restored copy has beside rows."""

    objects: frozenset[Object]
    large: frozenset[int]


def look(connection: Connection[Any]) -> Copy:
    found = connection.execute(_OBJECTS, {"ledger": catalog.MIGRATIONS_TABLE})
    return Copy(frozenset(Object(*row) for row in found), _large(connection))


def _large(connection: Connection[Any]) -> frozenset[int]:
    return frozenset(row[0] for row in connection.execute(_LARGE))


def named(
    connection: Connection[Any], copy: Copy, tables: Sequence[Table], done: Iterable[Repaired],
    writers: list[str] | None,
) -> list[Repaired]:  # fmt: skip
    """What was done, with what production lacks: of a table at the table, all else at the end."""
    lacking = sorted(copy.objects - look(connection).objects, key=lambda one: (one.kind, one.text))
    columns = {one.table: _columns(connection, one.table) for one in lacking if one.table}
    lacking = [one for one in lacking if not one.ours and (not one.table or _is_left(one, columns[one.table]))]
    of_tables = _made_again(connection, tables, writers or [])
    done = [
        _with(table, [one.text for one in lacking if one.table == table.name], of_tables.get(table.name, []))
        for table in done
    ]
    known = {table.name for table in done}
    told = [f"{one.text} of {one.table}" if one.table else one.text for one in lacking if one.table not in known]
    if gone := len(copy.large - _large(connection)):
        told.append(f"{gone} large objects")
    left = [f"did not come back: {', '.join(told)}"] if told else []
    if any(any(table.numbers.values()) for table in done) and (views := _stale(connection, writers or [])):
        left.append(f"filled by the migration or since: materialized view {', '.join(views)}: refresh it")
    return [*done, *([Other("other objects", left="; ".join(left))] if left else [])]


def _columns(connection: Connection[Any], relation: str) -> set[str] | None:
    """None when it is not there."""
    found = connection.execute(_THERE, table_name.split(relation)).fetchone()
    return set(found[0] or ()) if found else None


def _is_left(one: Object, columns: set[str] | None) -> bool:
    """Whether it is not told already that what it belongs to is gone."""
    return columns is not None and (one.part in columns or not one.kind.endswith("column"))


def _with(table: Repaired, lacking: Collection[str], left: Collection[str]) -> Repaired:
    told = [*filter(None, [table.left]), *left, *([f"did not come back: {', '.join(lacking)}"] if lacking else [])]
    return replace(table, left="; ".join(told))


def _made_again(connection: Connection[Any], tables: Sequence[Table], writers: Sequence[str]) -> dict[str, list[str]]:
    """What is to be told of tables that were made again or could not be: whose grants are lost, and what they may be
    called now."""
    numbers, theirs = catalog.numbers(connection), _made_by(connection, writers)
    there = {name: oid for oid, name in numbers.items()}
    lost = [table for table in tables if table.gone or there.get(table.name) in theirs]
    if not lost:
        return {}
    made = [table.name for table in lost if table.name in there]
    found = {
        table: [f"it was made again, and {', '.join(roles)} may use other tables of its schema and not this one"]
        for table, roles in _without_grants(connection, made).items()
    }
    known = {table.name for table in tables}
    older = [name for oid, name in numbers.items() if name not in known and oid not in theirs
             and table_name.split(name)[1] != catalog.MIGRATIONS_TABLE]  # fmt: skip
    for name in older:
        columns = _columns(connection, name) or set()
        for table in lost:
            if {column.name for column in table.columns} <= columns:
                told = f"{name} is older than the migration, and may be this table under another name"
                found.setdefault(table.name, []).append(told)
    return found


def _stale(connection: Connection[Any], writers: Sequence[str]) -> list[str]:
    """Views that were filled by the migration or since; by anybody's refresh, if it is not known who migrated."""
    from psycopg import sql

    (age,) = connection.execute(_AGE, (list(writers),)).fetchone() or (None,)
    found = []
    for schema, name, filled in connection.execute(_VIEWS, {"age": age}).fetchall():
        rows = sql.SQL("SELECT EXISTS (SELECT FROM {} WHERE age(xmin) <= {})").format(
            sql.Identifier(schema, name), sql.Literal(age)
        )
        if filled is not False or (connection.execute(rows).fetchone() or (True,))[0]:
            found.append(table_name.written(schema, name))
    return found


def _without_grants(connection: Connection[Any], made: Collection[str]) -> dict[str, list[str]]:
    """Roles that may use other tables of the same schema, and not this one: which it was for nobody knows any more."""
    granted = {table_name.written(*row[:2]): set(row[2]) for row in connection.execute(_GRANTED)}
    found = {}
    for table in made:
        schema = table_name.split(table)[0]
        near = [roles for name, roles in granted.items() if name not in made and table_name.split(name)[0] == schema]
        if missing := sorted(set().union(*near) - granted.get(table, set())):
            found[table] = missing
    return found


def _made_by(connection: Connection[Any], writers: Sequence[str]) -> set[int]:
    """Numbers of the tables that the migration made."""
    return {row[0] for row in connection.execute(_MADE, (list(writers),))}
