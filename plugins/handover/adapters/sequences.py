"""Moves sequences on after rows with keys of their own were written, so that the service's next insert is no collision.

A sequence is only ever moved forward, by whole steps of its own, and never one that may begin again (CYCLE).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

Name = tuple[str, str]
"""Schema and name."""
_ALL = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax
FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE NOT s.seqcycle AND n.nspname !~ '^pg_'
"""
_OF_COLUMNS = """
SELECT DISTINCT sn.nspname, sc.relname, a.attname FROM (
    SELECT refobjid AS relation, refobjsubid AS number, objid AS sequence FROM pg_depend
    WHERE classid = 'pg_class'::regclass AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')
    UNION ALL
    SELECT v.adrelid, v.adnum, d.refobjid FROM pg_attrdef v
    JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = v.oid AND d.refclassid = 'pg_class'::regclass
) AS used
JOIN pg_class sc ON sc.oid = used.sequence AND sc.relkind = 'S' JOIN pg_namespace sn ON sn.oid = sc.relnamespace
JOIN pg_attribute a ON a.attrelid = used.relation AND a.attnum = used.number
  AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
JOIN pg_class t ON t.oid = used.relation JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = %s AND t.relname = %s
"""


@dataclass(frozen=True)
class Position:
    """Where a sequence stands: the value it gave last, or will give first while nobody has ``called`` it."""

    increment: int
    least: int
    most: int
    last: int
    called: bool

    @property
    def given(self) -> int:
        """The value that was given last; before the first one, the one before it."""
        return self.last if self.called else self.last - self.increment

    def past(self, used: int) -> int | None:
        """What has to be its last value, so that it never gives ``used``; None when it will not anyway."""
        if not self.least <= used <= self.most or (used - self.given) * self.increment <= 0:
            return None
        steps = -((self.given - used) // self.increment)
        return max(self.least, min(self.most, self.given + steps * self.increment))


def positions(connection: Connection[Any]) -> dict[Name, Position]:
    """Where every sequence of a database stands."""
    return {name: _position(connection, name, limits) for name, limits in _all(connection).items()}


def catch_up(connection: Connection[Any], others: dict[Name, Position]) -> list[str]:
    """Moves those that stand before where they stood in another database; gives their names."""
    here = positions(connection)
    return [
        name[1]
        for name, other in others.items()
        if name in here
        and other.increment * here[name].increment > 0
        and _move(connection, name, here[name], other.given)
    ]


def move_past(connection: Connection[Any], table: Name, columns: Collection[str]) -> list[str]:
    """Moves the sequences that such columns of a table get their values from past what is in them; gives their names.

    Nothing is asked about other columns, so a role that may not use their sequences needs not. Raises
    ``psycopg.errors.InsufficientPrivilege``.
    """
    moved = []
    limits = _all(connection)
    for schema, sequence, column in connection.execute(_OF_COLUMNS, table).fetchall():
        name = (schema, sequence)
        if column not in columns or name not in limits:
            continue
        position = _position(connection, name, limits[name])
        used = _furthest(connection, table, column, position)
        if used is not None and _move(connection, name, position, used):
            moved.append(sequence)
    return moved


def _all(connection: Connection[Any]) -> dict[Name, tuple[int, int, int]]:
    found = connection.execute(_ALL).fetchall()
    return {(schema, name): (increment, least, most) for schema, name, increment, least, most in found}


def _position(connection: Connection[Any], name: Name, limits: tuple[int, int, int]) -> Position:
    from psycopg import sql

    found = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(*name))).fetchone()
    assert found is not None
    return Position(*limits, *found)


def _furthest(connection: Connection[Any], table: Name, column: str, position: Position) -> int | None:
    """The value in a column that the sequence would come to last."""
    from psycopg import sql

    query = sql.SQL("SELECT {}({}) FROM {} WHERE {} BETWEEN {} AND {}").format(
        sql.SQL("max" if position.increment > 0 else "min"), sql.Identifier(column), sql.Identifier(*table),
        sql.Identifier(column), sql.Literal(position.least), sql.Literal(position.most),
    )  # fmt: skip
    found = connection.execute(query).fetchone()
    return found[0] if found else None


def _move(connection: Connection[Any], name: Name, position: Position, used: int) -> bool:
    from psycopg import sql

    to = position.past(used)
    if to is None:
        return False
    regclass = sql.Literal(sql.Identifier(*name).as_string(connection))
    connection.execute(sql.SQL("SELECT setval({}::regclass, {})").format(regclass, sql.Literal(to)))
    return True
