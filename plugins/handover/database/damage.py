"""What a repair has to know of a table, and how it gets the backup's rows beside production's (`repair`).

Values come over as text, since the type that they had may be gone until ``down.sql`` has run; they are cast to the type
that the column has when they are used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover.database import catalog
from handover.database.catalog import Column
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

WORKING = ("keys", "text", "rows", "mine_text", "mine", "nulls_text", "nulls")


@dataclass(frozen=True)
class Table:
    """A table to repair. ``number`` makes the names of its temporary tables.

    ``columns`` are the backup's; ``now``: production's before anything is undone; ``gone``: it has no such table.
    ``secured``: its row security is on in the backup, and the restored copy has neither that nor its policies.
    """

    number: int
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = field(repr=False)
    now: tuple[Column, ...] = field(repr=False)
    gone: bool = False
    secured: bool = False

    @property
    def lost(self) -> tuple[str, ...]:
        """Columns that production has no more."""
        there = {column.name for column in self.now}
        return () if self.gone else tuple(c.name for c in self.columns if c.name not in there)

    @property
    def marked(self) -> bool:
        """Whether production's rows can be told by their keys before anything is undone."""
        return bool(self.key) and not self.gone and not set(self.key) & set(self.lost)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that may not be NULL in the backup, and that production has."""
        return tuple(c.name for c in self.columns if c.required and c.name not in (*self.key, *self.lost))

    def sql(self, text: str, **names: Composed) -> Composed:
        """A query with this table's names filled in: its own, its temporary tables', ``{key}`` and ``{same}``
        (``t`` and ``r`` have the same key)."""
        from psycopg import sql

        temporary = {what: sql.Identifier("pg_temp", f"_repair_{what}_{self.number}") for what in WORKING}
        return sql.SQL(text).format(
            table=catalog.identifier(self.name), key=listed(self.key),
            same=listed(self.key, "t.{0} = r.{0}", " AND "), **temporary, **names,
        )  # fmt: skip


def listed(columns: Sequence[str], each: str = "{}", between: str = ", ") -> Composed:
    """Quoted column names in a row, each in a piece of SQL like ``t.{}``."""
    from psycopg import sql

    return sql.SQL(between).join([sql.SQL(each).format(sql.Identifier(column)) for column in columns])


def typed(columns: Sequence[Column], each: str = "CAST({} AS {})") -> Composed:
    """The same with the columns' types."""
    from psycopg import sql

    return sql.SQL(", ").join([sql.SQL(each).format(sql.Identifier(c.name), sql.SQL(c.type)) for c in columns])


def tables(connection: Connection[Any], backup: Connection[Any], left_out: Sequence[str] = ()) -> list[Table]:
    """Every table of the backup, parents first. ``left_out``: what its restore has left out."""
    there = set(catalog.tables(connection))
    found = [
        Table(
            number, name, catalog.key(backup, name), _written(backup, name), tuple(catalog.columns(connection, name)),
            gone=name not in there,
            secured=any(one.startswith(f"row security {' '.join(table_name.split(name))} ") for one in left_out),
        )
        for number, name in enumerate(catalog.tables(backup))
        if name.rpartition(".")[2] != catalog.MIGRATIONS_TABLE
    ]  # fmt: skip
    order = catalog.parents_first([table.name for table in found], catalog.references(backup))
    return sorted(found, key=lambda table: order.index(table.name))


def _written(connection: Connection[Any], table: str) -> tuple[Column, ...]:
    return tuple(column for column in catalog.columns(connection, table) if not column.computed)


def fetch(connection: Connection[Any], backup: Connection[Any], table: Table, writers: list[str] | None) -> None:
    """Brings the rows that may be needed from the backup into a temporary table beside production's own."""
    names = [column.name for column in table.columns]
    connection.execute(table.sql("CREATE TEMPORARY TABLE {name} ({columns})", name=table.sql("{text}"),
                                 columns=listed(names, "{} text")))  # fmt: skip
    if not table.marked or table.lost or writers is None:
        _copy(backup, table.sql("SELECT {names} FROM {table}", names=listed(names)), connection,
              table.sql("COPY {text} FROM STDIN"))  # fmt: skip
    else:
        _wanted(connection, backup, table, writers)
        needed = table.sql("SELECT {names} FROM {table} t JOIN {keys} r ON {same}", names=listed(names, "t.{}"))
        _copy(backup, needed, connection, table.sql("COPY {text} FROM STDIN"))
    connection.execute(table.sql("ANALYZE {text}"))


def _wanted(connection: Connection[Any], backup: Connection[Any], table: Table, writers: list[str]) -> None:
    """Tells the backup the keys of rows that are gone, that a writer wrote last, or that lack a value."""
    for where, columns in ((connection, table.now), (backup, table.columns)):
        kept = [next(column for column in columns if column.name == name) for name in table.key]
        where.execute(table.sql("CREATE TEMPORARY TABLE {keys} ({columns})", columns=typed(kept, "{} {}")))
    _copy(backup, table.sql("SELECT {key} FROM {table}"), connection, table.sql("COPY {keys} FROM STDIN"))
    wanted = table.sql(
        "SELECT {keys_r} FROM {keys} r LEFT JOIN {table} t ON {same} WHERE {absent} OR t.xmin = ANY({writers})"
        "{nulls_}",
        keys_r=listed(table.key, "r.{}"), absent=listed(table.key[:1], "t.{} IS NULL"), writers=xids(writers),
        nulls_=listed(table.required, " OR t.{} IS NULL", ""),
    )  # fmt: skip
    _copy(connection, wanted, backup, table.sql("COPY {keys} FROM STDIN"))
    connection.execute(table.sql("DROP TABLE {keys}"))  # its types may be in the way of down.sql


def _copy(source: Connection[Any], query: Composed, target: Connection[Any], into: Composed) -> None:
    from psycopg import sql

    reading = sql.SQL("COPY ({}) TO STDOUT").format(query)
    with source.cursor().copy(reading) as rows, target.cursor().copy(into) as sink:
        for data in rows:
            sink.write(data)


def xids(writers: Sequence[str]) -> Composed:
    from psycopg import sql

    return sql.SQL("{}::text[]::xid[]").format(sql.Literal(list(writers)))


def mark(connection: Connection[Any], table: Table, writers: list[str] | None) -> None:
    """Locks and notes the rows that the migration wrote last, and those where a required column is NULL.

    Keys are noted as text: a table with their types would be in the way of ``down.sql``.
    """
    types = [next(column for column in table.now if column.name == name) for name in table.key]
    same = table.sql("({key_t}) = ({key_r})", key_t=listed(table.key, "t.{}"), key_r=typed(types, "CAST(r.{} AS {})"))
    keys = listed(table.key, "t.{0}::text AS {0}")
    wrote = table.sql("true") if writers is None else table.sql("t.xmin = ANY({xids})", xids=xids(writers))
    connection.execute(
        table.sql(
            "CREATE TEMPORARY TABLE {mine_text} ON COMMIT DROP AS SELECT {keys_t} FROM {table} t JOIN {text} r"
            " ON {equal} WHERE {wrote} FOR UPDATE OF t", keys_t=keys, wrote=wrote, equal=same,
        )
    )  # fmt: skip
    connection.execute(
        table.sql(
            "CREATE TEMPORARY TABLE {nulls_text} ON COMMIT DROP AS SELECT {keys_t}{flags} FROM {table} t "
            "JOIN {text} r ON {equal} WHERE false{any} FOR UPDATE OF t", keys_t=keys, equal=same,
            flags=listed(table.required, ", t.{0} IS NULL AS {0}", ""),
            any=listed(table.required, " OR t.{} IS NULL", ""),
        )
    )  # fmt: skip


def unfold(connection: Connection[Any], table: Table, now: Sequence[Column]) -> None:
    """Gives fetched and noted values the types that production's columns have ``now``. Raises `DoesNotFit`."""
    kept = [column for column in now if column.name in {c.name for c in table.columns}]
    _look(connection, table, kept)
    connection.execute(
        table.sql(
            "CREATE TEMPORARY TABLE {rows} ON COMMIT DROP AS SELECT {values} FROM {text}",
            values=typed(kept, "CAST({0} AS {1}) AS {0}"),
        )
    )  # fmt: skip
    if table.marked:
        keys = typed([column for column in kept if column.name in table.key], "CAST({0} AS {1}) AS {0}")
        flags = listed(table.required, ", {}", "")
        for query in ("{mine} ON COMMIT DROP AS SELECT {keys_} FROM {mine_text}",
                      "{nulls} ON COMMIT DROP AS SELECT {keys_}{flags} FROM {nulls_text}"):  # fmt: skip
            connection.execute(table.sql(f"CREATE TEMPORARY TABLE {query}", keys_=keys, flags=flags))
        connection.execute(table.sql("ALTER TABLE {rows} ADD PRIMARY KEY ({key})"))
    connection.execute(table.sql("ANALYZE {rows}"))


class DoesNotFit(Exception):
    """A column has another type than it had, and it does not hold what is in the backup."""


def _look(connection: Connection[Any], table: Table, kept: Sequence[Column]) -> None:
    """A cast to a shorter type would cut values off without a word."""
    from psycopg import sql

    was = {column.name: column.type for column in table.columns}
    for column in kept:
        if column.type == was[column.name]:
            continue
        query = table.sql(
            "SELECT count(*) FROM {text} WHERE NOT pg_input_is_valid({value}, {type})",
            value=listed([column.name]), type=sql.SQL("{}").format(sql.Literal(column.type)),
        )  # fmt: skip
        if wrong := number(connection, query):
            raise DoesNotFit(f"{wrong} values of {table.name}.{column.name} do not fit {column.type}, its type now")


def number(connection: Connection[Any], query: Composed) -> int:
    found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])
