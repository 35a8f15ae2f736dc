"""What stands aside while rows are put back, and comes back as it was: triggers, rules, identities, references.

A trigger's state is each partition's own: what is set at the table goes down to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString

from handover.database import catalog
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

_ACTIVE, _OFF = ("O", "A"), "D"
_STATES = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA", "D": "DISABLE"}
_TRIGGERS = """
SELECT n.nspname, c.relname, t.tgname, t.tgenabled::text
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE (c.oid = %(table)s::oid OR c.oid IN (SELECT relid FROM pg_partition_tree(%(table)s::oid)))
  AND NOT t.tgisinternal ORDER BY (SELECT count(*) FROM pg_partition_ancestors(c.oid)), 1, 2, 3
"""
_RULES = """
SELECT n.nspname, c.relname, r.rulename, r.ev_enabled::text
FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %(table)s::oid AND r.rulename <> '_RETURN' ORDER BY 3
"""
_REFERENCES = """
SELECT n.nspname, c.relname, k.conname, pn.nspname, p.relname, k.condeferrable
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_class p ON p.oid = coalesce(pg_partition_root(k.confrelid), k.confrelid)
JOIN pg_namespace pn ON pn.oid = p.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY 1, 2, 3
"""


@dataclass(frozen=True)
class Hook:
    """A ``TRIGGER`` or a ``RULE`` of the service. ``state``: PostgreSQL's letter for when it fires."""

    kind: LiteralString
    table: str
    name: str
    state: str

    @property
    def active(self) -> bool:
        return self.state in _ACTIVE


@dataclass(frozen=True)
class Reference:
    """A foreign key between two tables."""

    table: str
    name: str
    parent: str
    deferrable: bool


def hooks(connection: Connection[Any], table: str) -> list[Hook]:
    """What of the service's fires on writes to a table or to its partitions, or is switched off, parents first."""
    which = {"table": catalog.find(connection, table)}
    found = [("TRIGGER", row) for row in connection.execute(_TRIGGERS, which)]
    found += [("RULE", row) for row in connection.execute(_RULES, which)]
    return [
        Hook("RULE" if kind == "RULE" else "TRIGGER", table_name.written(*row[:2]), *row[2:]) for kind, row in found
    ]


def take(connection: Connection[Any], table: str, those: Iterable[Hook], identities: Iterable[str]) -> None:
    """Nothing fires, and columns that are GENERATED ALWAYS may be set."""
    for hook in those:
        if hook.active:
            _set(connection, hook, _OFF)
    _generate(connection, table, identities, "BY DEFAULT")


def give_back(connection: Connection[Any], table: str, those: Sequence[Hook], identities: Iterable[str]) -> None:
    """Each is as it was: first what the table has, then what its partitions have."""
    for hook in those if any(hook.active for hook in those) else ():
        _set(connection, hook, hook.state)
    _generate(connection, table, identities, "ALWAYS")


def _set(connection: Connection[Any], hook: Hook, state: str) -> None:
    from psycopg import sql

    change = sql.SQL("ALTER TABLE ONLY {} {} {} {}").format(
        catalog.identifier(hook.table), sql.SQL(_STATES[state]), sql.SQL(hook.kind), sql.Identifier(hook.name)
    )
    connection.execute(change)


def _generate(connection: Connection[Any], table: str, columns: Iterable[str], how: LiteralString) -> None:
    from psycopg import sql

    change = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET GENERATED {}")
    for column in columns:
        connection.execute(change.format(catalog.identifier(table), sql.Identifier(column), sql.SQL(how)))


def references(connection: Connection[Any]) -> list[Reference]:
    return [
        Reference(table_name.written(*row[:2]), row[2], table_name.written(*row[3:5]), row[5])
        for row in connection.execute(_REFERENCES)
    ]


@contextmanager
def late(connection: Connection[Any], those: Sequence[Reference]) -> Iterator[None]:
    """References that are looked at only afterwards, though they are not made so."""
    for one in those:
        if not one.deferrable:
            _defer(connection, one, "DEFERRABLE")
    _look(connection, those, "DEFERRED")
    yield
    _look(connection, those, "IMMEDIATE")
    for one in those:
        if not one.deferrable:
            _defer(connection, one, "NOT DEFERRABLE")


def _defer(connection: Connection[Any], one: Reference, how: LiteralString) -> None:
    from psycopg import sql

    change = sql.SQL("ALTER TABLE {} ALTER CONSTRAINT {} {}")
    connection.execute(change.format(catalog.identifier(one.table), sql.Identifier(one.name), sql.SQL(how)))


def _look(connection: Connection[Any], those: Sequence[Reference], when: LiteralString) -> None:
    from psycopg import sql

    if those:
        connection.execute(sql.SQL("SET CONSTRAINTS {} {}").format(_named(those), sql.SQL(when)))


def _named(those: Sequence[Reference]) -> Composed:
    from psycopg import sql

    return sql.SQL(", ").join(
        [sql.Identifier(*one) for one in sorted({(table_name.split(each.table)[0], each.name) for each in those})]
    )


def circles(tables: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The tables, parents first, those that refer to each other in a circle together."""
    parents: dict[str, set[str]] = {table: set() for table in tables}
    for child, parent in pairs:
        if child in parents and parent in parents:
            parents[child].add(parent)
    reached = {table: _reached(table, parents) for table in tables}
    groups: list[list[str]] = []
    for table in tables:
        if not any(table in group for group in groups):
            groups.append([one for one in tables if one == table or (one in reached[table] and table in reached[one])])
    return sorted(groups, key=lambda group: len(reached[group[0]] | set(group)))  # who refers to a table reaches more


def _reached(table: str, parents: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [table]
    while waiting:
        new = parents[waiting.pop()] - found
        found |= new
        waiting += new
    return found
