"""What a repair has to know of a table, and how it gets the backup's rows beside production's (`repair`).

Values come over as text, since the type that they had may be gone until ``down.sql`` has run; `fitting` gives them the
type that the column has then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from handover.database import aside, catalog
from handover.database.catalog import Column
from handover.models import table_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable, Composed

WORKING = ("keys", "text", "rows", "out")
NOTED = ("mine", "nulls", "fresh", "theirs")
"""Keys of production's rows: those that the migration wrote last, that lack a value that the backup requires, that it
wrote and the backup does not have, that somebody else has written since."""


@dataclass(frozen=True)
class Table:
    """A table to repair. ``number`` makes the names of its temporary tables.

    ``columns`` are the backup's; ``now``: production's before anything is undone; ``gone``: it has no such table, and
    had none under another name; ``oid``: PostgreSQL's number of it then.
    ``secured``: its row security is on in the backup, and the restored copy has neither that nor its policies.
    ``emptied``: the migration left none of the rows that were there before it.
    """

    number: int
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = field(repr=False)
    now: tuple[Column, ...] = field(repr=False)
    gone: bool = False
    secured: bool = False
    oid: int | None = None
    emptied: bool = False

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

    def sql(self, text: str, **names: Composable) -> Composed:
        """A query with this table's names filled in: its own, its temporary tables', ``{key}`` and ``{same}``
        (``t`` and ``r`` have the same key)."""
        from psycopg import sql

        working = (*WORKING, *NOTED, *(f"{what}_text" for what in NOTED))
        temporary = {what: sql.Identifier("pg_temp", f"_repair_{what}_{self.number}") for what in working}
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
    there = {name: oid for oid, name in catalog.numbers(connection).items()}
    found = [
        Table(
            number, name, catalog.key(backup, name), tuple(catalog.columns(backup, name)),
            tuple(catalog.columns(connection, name)), gone=name not in there, oid=there.get(name),
            secured=any(one.startswith(f"row security {' '.join(table_name.split(name))} ") for one in left_out),
        )
        for number, name in enumerate(catalog.tables(backup))
        if name.rpartition(".")[2] != catalog.MIGRATIONS_TABLE
    ]  # fmt: skip
    groups = aside.circles(sorted(table.name for table in found), catalog.references(backup))
    order = [name for group in groups for name in group]
    return sorted(found, key=lambda table: order.index(table.name))


def fetch(connection: Connection[Any], backup: Connection[Any], table: Table, writers: list[str] | None) -> None:
    """Brings the rows that may be needed from the backup into a temporary table beside production's own."""
    connection.execute(table.sql("CREATE TEMPORARY TABLE {name} ({columns})", name=table.sql("{text}"),
                                 columns=listed(_names(table), "{} text")))  # fmt: skip
    if not table.marked or table.lost or writers is None:
        _fetch_all(connection, backup, table)
    else:
        _wanted(connection, backup, table, writers)
        needed = table.sql("SELECT {names} FROM {own} t JOIN {keys} r ON {same}", names=listed(_names(table), "t.{}"),
                           own=catalog.own_rows(backup, table.name))  # fmt: skip
        _copy(backup, needed, connection, table.sql("{text}"))
    connection.execute(table.sql("ANALYZE {text}"))


def _names(table: Table) -> list[str]:
    return [column.name for column in table.columns]


def _fetch_all(connection: Connection[Any], backup: Connection[Any], table: Table) -> None:
    query = table.sql("SELECT {names} FROM {own}", names=listed(_names(table)),
                      own=catalog.own_rows(backup, table.name))  # fmt: skip
    _copy(backup, query, connection, table.sql("{text}"))


def _wanted(connection: Connection[Any], backup: Connection[Any], table: Table, writers: list[str]) -> None:
    """Tells the backup the keys of rows that are gone, that a writer wrote last or somebody after it, or that lack a
    value."""
    for where, columns in ((connection, table.now), (backup, table.columns)):
        kept = [next(column for column in columns if column.name == name) for name in table.key]
        where.execute(table.sql("CREATE TEMPORARY TABLE {keys} ({columns})", columns=typed(kept, "{} {}")))
    _copy(backup, table.sql("SELECT {key} FROM {own}", own=catalog.own_rows(backup, table.name)), connection,
          table.sql("{keys}"))  # fmt: skip
    wanted = table.sql(
        "SELECT {keys_r} FROM {keys} r LEFT JOIN {own} t ON {same} WHERE {absent} OR t.xmin = ANY({writers})"
        " OR {since}{nulls_}",
        keys_r=listed(table.key, "r.{}"), absent=listed(table.key[:1], "t.{} IS NULL"), writers=xids(writers),
        nulls_=listed(table.required, " OR t.{} IS NULL", ""), own=catalog.own_rows(connection, table.name),
        since=_since(writers),
    )  # fmt: skip
    _copy(connection, wanted, backup, table.sql("{keys}"))
    connection.execute(table.sql("DROP TABLE {keys}"))  # its types may be in the way of down.sql


def _copy(source: Connection[Any], query: Composed, target: Connection[Any], into: Composed) -> None:
    """Bytes as they are stored: a database without an encoding has some that are no text."""
    from psycopg import sql

    found = source.execute("SHOW server_encoding").fetchone()
    assert found is not None
    how = sql.SQL("(ENCODING {})").format(sql.Literal(found[0]))
    reading, writing = sql.SQL("COPY ({}) TO STDOUT {}"), sql.SQL("COPY {} FROM STDIN {}")
    with (
        source.cursor().copy(reading.format(query, how)) as rows,
        target.cursor().copy(writing.format(into, how)) as sink,
    ):
        for data in rows:
            sink.write(data)


def xids(writers: Sequence[str]) -> Composed:
    from psycopg import sql

    return sql.SQL("{}::text[]::xid[]").format(sql.Literal(list(writers)))


def _since(writers: Sequence[str]) -> Composed:
    """True of a row ``t`` that was written after the oldest of them began."""
    from psycopg import sql

    return sql.SQL("age(t.xmin) < (SELECT max(age(x)) FROM unnest({}) AS x)").format(xids(writers))


def mark(
    connection: Connection[Any], table: Table, columns: Sequence[Column], writers: list[str] | None
) -> Table:  # fmt: skip
    """Locks and notes production's rows of each kind (`NOTED`). ``columns``: what it has now.

    Keys are noted as text: a table with their types would be in the way of ``down.sql``.
    """
    from psycopg import sql

    own, wrote = catalog.own_rows(connection, table.name), sql.SQL("true") if writers is None else _wrote(writers)
    if not table.marked:
        if not table.gone:
            mine = sql.SQL("false") if writers is None else wrote
            _note(connection, table, "mine", table.sql("SELECT FROM {own} t WHERE {it}", own=own, it=mine))
        return table
    types = [next(column for column in columns if column.name == name) for name in table.key]
    there = {column.name for column in columns}
    required = [name for name in table.required if name in there]
    names: dict[str, Composable] = {
        "own": own, "wrote": wrote, "keys_": listed(table.key, "t.{0}::text AS {0}"),
        "equal": table.sql("({key_t}) = ({key_r})", key_t=listed(table.key, "t.{}"),
                           key_r=typed(types, "CAST(r.{} AS {})")),
        "flags": listed(required, ", t.{0} IS NULL AS {0}", ""), "any": listed(required, " OR t.{} IS NULL", ""),
        "lock": sql.SQL("FOR UPDATE OF t" if catalog.changeable(connection, table.name) else ""),
        "since": sql.SQL("false") if writers is None else _since(writers),
        "known": sql.SQL("false" if writers is None else "true"),
    }  # fmt: skip
    for what, query in {
        "mine": "SELECT {keys_} FROM {own} t JOIN {text} r ON {equal} WHERE {wrote} {lock}",
        "nulls": "SELECT {keys_}{flags} FROM {own} t JOIN {text} r ON {equal} WHERE false{any} {lock}",
        "fresh": "SELECT {keys_} FROM {own} t WHERE {known} AND {wrote} AND NOT EXISTS (SELECT FROM {text} r WHERE"
        " {equal})",
        "theirs": "SELECT {keys_} FROM {own} t JOIN {text} r ON {equal} WHERE {since} AND NOT {wrote}",
    }.items():
        _note(connection, table, what, table.sql(query, **names))
    left = "SELECT count(*) FROM (SELECT FROM {own} t WHERE NOT ({since} OR {wrote}) UNION ALL SELECT FROM {mine_text}"
    return replace(
        table, emptied=bool(writers) and not number(connection, table.sql(left + " LIMIT 1) AS it", **names))
    )


def _wrote(writers: Sequence[str]) -> Composed:
    from psycopg import sql

    return sql.SQL("t.xmin = ANY({})").format(xids(writers))


def _note(connection: Connection[Any], table: Table, what: str, query: Composed) -> None:
    name = table.sql(f"{{{what}_text}}")
    connection.execute(table.sql("DROP TABLE IF EXISTS {name}", name=name))
    connection.execute(table.sql("CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS {query}", name=name, query=query))


def followed(
    connection: Connection[Any], backup: Connection[Any], table: Table, before: Mapping[int, Sequence[Column]],
    writers: list[str] | None,
) -> Table:  # fmt: skip
    """The table of this name after ``down.sql``. ``before``: columns of all that were there before it, by number.

    One that had another name meanwhile is marked now; what ``down.sql`` itself has written counts as written since.
    """
    oid = catalog.find(connection, table.name)
    if oid in (None, table.oid):
        return table
    if not table.gone:
        connection.execute(table.sql("TRUNCATE {text}"))
        _fetch_all(connection, backup, table)
    assert oid is not None
    if oid not in before:
        return replace(table, gone=True, oid=oid)
    named_back = replace(table, gone=False, now=tuple(before[oid]), oid=oid)
    return mark(connection, named_back, catalog.columns(connection, table.name), writers)


def number(connection: Connection[Any], query: Composed) -> int:
    found = connection.execute(query).fetchone()
    assert found is not None
    return int(found[0])
