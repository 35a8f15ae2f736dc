"""Gives the backup's values, which came as text, the types that production's columns have now (`repair`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import server_major
from handover.database.catalog import Column
from handover.database.damage import NOTED, Table, listed, number, typed

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

_THROUGH = ("timestamp", "time ", "time(", "date", "character(")
"""Beginnings of types whose text another type would read otherwise than PostgreSQL converts it."""
_ZONE = "with time zone"
_ASKS = 16
"""The version that tells whether a type has a value, and does not fail instead."""


@dataclass(frozen=True)
class Fit:
    """``told``: what the columns' types do not hold. ``unsure``: columns whose times had a zone and have none, or the
    other way round: which one was meant only the migration knew."""

    told: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()


def unfold(connection: Connection[Any], table: Table, now: Sequence[Column]) -> Fit:
    """Makes typed tables of what was fetched and noted. Rows with a value that its column cannot hold stay out."""
    was = {column.name: column for column in table.columns}
    kept = [column for column in now if column.name in was and (not column.computed or column.name in table.key)]
    told = _leave_out(connection, table, kept)
    values = _separated([_value(was[column.name], column) for column in kept])
    connection.execute(
        table.sql("CREATE TEMPORARY TABLE {rows} ON COMMIT DROP AS SELECT {values} FROM {text}", values=values)
    )
    told += _cut(connection, table, kept)
    if table.marked:
        _unfold_noted(connection, table, [column for column in kept if column.name in table.key])
        connection.execute(table.sql("ALTER TABLE {rows} ADD PRIMARY KEY ({key})"))
    connection.execute(table.sql("ANALYZE {rows}"))
    zones = [c.name for c in kept if _timed(was[c.name]) and _timed(c) and _zoned(was[c.name]) is not _zoned(c)]
    return Fit(tuple(told), tuple(zones))


def _timed(column: Column) -> bool:
    return column.type.startswith(("timestamp", "time ", "time(", "date"))


def _zoned(column: Column) -> bool:
    return column.type.endswith(_ZONE)


def _unfold_noted(connection: Connection[Any], table: Table, key: Sequence[Column]) -> None:
    keys, fits = typed(key, "CAST({0} AS {1}) AS {0}"), _fits([c for c in key if _questionable(connection, table, c)])
    for what in NOTED:
        flags = listed(_flags(connection, table) if what == "nulls" else [], ", {}", "")
        made = "CREATE TEMPORARY TABLE {to} ON COMMIT DROP AS SELECT {keys_}{flags} FROM {noted} WHERE {fits}"
        names = {"to": table.sql(f"{{{what}}}"), "noted": table.sql(f"{{{what}_text}}")}
        connection.execute(table.sql(made, keys_=keys, flags=flags, fits=fits, **names))


def _flags(connection: Connection[Any], table: Table) -> list[str]:
    noted = connection.execute(table.sql("SELECT * FROM {nulls_text} LIMIT 0")).description or []
    return [column.name for column in noted if column.name not in table.key]


def _questionable(connection: Connection[Any], table: Table, column: Column) -> bool:
    """Whether a column may not hold what it held. A type of the same name may be another one by now."""
    was = next(one.type for one in table.columns if one.name == column.name)
    return column.type != was or not (column.builtin or server_major(connection) < _ASKS)


def _fits(columns: Sequence[Column]) -> Composed:
    from psycopg import sql

    one = "coalesce(pg_input_is_valid({}, {}), true)"
    found = [sql.SQL(one).format(sql.Identifier(c.name), sql.Literal(c.type)) for c in columns]
    return sql.SQL(" AND ").join([sql.SQL("true"), *found])


def _leave_out(connection: Connection[Any], table: Table, kept: Sequence[Column]) -> list[str]:
    """A cast to a shorter type would cut values off without a word, and one to another enum fail for all rows."""
    told = []
    for column in kept:
        if _questionable(connection, table, column):
            query = table.sql("DELETE FROM {text} WHERE NOT ({fits})", fits=_fits([column]))
            if wrong := connection.execute(query).rowcount:
                told.append(f"{wrong} of its rows are not mended: {column.name} does not hold their values any more")
    return told


def _value(was: Column, now: Column) -> Composed:
    from psycopg import sql

    text = "CAST(CAST({0} AS {2}) AS {1}) AS {0}" if _by_way(was, now) else "CAST({0} AS {1}) AS {0}"
    return sql.SQL(text).format(sql.Identifier(now.name), sql.SQL(now.type), sql.SQL(was.type))


def _by_way(was: Column, now: Column) -> bool:
    return was.builtin and was.type != now.type and was.type.startswith(_THROUGH)


def _separated(values: Sequence[Composed]) -> Composed:
    from psycopg import sql

    return sql.SQL(", ").join(values)


def _cut(connection: Connection[Any], table: Table, kept: Sequence[Column]) -> list[str]:
    """Columns that round, or otherwise hold less of a value than they did: told by casting there and back."""
    from psycopg import sql

    told = []
    for column in kept:
        was = next(one for one in table.columns if one.name == column.name)
        if was.type == column.type or not was.builtin or was.type == "json" or column.type == "jsonb":
            continue
        back = sql.SQL("CAST({} AS {})::text")
        query = table.sql(
            "SELECT count(*) FROM (SELECT {value}, {name} AS was FROM {text}) AS v (it, was)"
            " WHERE CASE WHEN pg_input_is_valid(it::text, {type}) THEN {now} <> {then} ELSE it IS NOT NULL END",
            value=_value(was, column), name=sql.Identifier(column.name), type=sql.Literal(was.type),
            now=back.format(sql.SQL("it::text"), sql.SQL(was.type)),
            then=back.format(sql.SQL("was"), sql.SQL(was.type)),
        )  # fmt: skip
        if wrong := number(connection, query):
            told.append(
                f"{wrong} values of its column {column.name} are less than they were: {column.type} rounds them"
            )
    return told
