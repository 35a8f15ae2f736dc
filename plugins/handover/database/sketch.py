"""What tables held before a migration, beside how many rows: so that changed values are found, too, where rows are
counted in full (plan 3.3).

A small table is compared exactly, by the digest of its rows from before, as long as nobody else changed one. Of a table
of any size the rows at `PLACES` evenly spread keys are looked at, which an index finds: that is a sample, and says so.
What is kept of a value is one byte of its hash, which tells it from others and not what it was.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import server_major
from handover.database import catalog, digest
from handover.models.deployment import Sketch
from handover.models.evidence import Evidence, Measurement, failed, passed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from psycopg import Connection
    from psycopg.sql import Composed

PLACES = 128
"""Rows to look at: a share of 5 % or more is hardly missed, and told to some percent."""
SMALL = 100_000
"""Rows that are read in full, in a tenth of a second."""
SOURCE = "database"


def take(connection: Connection[Any], table: str, rows: int, high: int | None) -> Sketch | None:
    """The sketch of a table; None for one without an integer key or rows, which can only be counted.

    ``rows``, ``high``: its rows and highest key, as the transaction sees them. Raises psycopg's errors.
    """
    key = catalog.integer_key(connection, table)
    if key is None or high is None or not rows:
        return None
    low = catalog.lowest_key(connection, table)
    assert low is not None
    with digest.formats(connection):
        columns = [column.name for column in catalog.columns(connection, table)]
        places = _places(connection, table, key, (low, high), columns)
        exact = rows <= SMALL and server_major(connection) >= digest.SINCE
        whole = digest.digest_of(connection, table, columns, (key, high)).digest if exact else ""
    return Sketch(low=low, high=high, places={name: _text(found) for name, found in places.items()}, digest=whole)


def compare(connection: Connection[Any], before: Mapping[str, Sketch], most: float | None = None) -> list[Evidence]:
    """What has become of tables since; one that is gone is none of those (`validation.compare_counts` finds it).

    :param most: share of a table's rows that may have another value in a column that both have; None: any
    """
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        there = {table: one for table, one in before.items() if catalog.find(connection, table) is not None}
        return [_compare(connection, table, one, most) for table, one in there.items()]


def _compare(connection: Connection[Any], table: str, before: Sketch, most: float | None) -> Evidence:
    check, key = f"content of {table}", catalog.integer_key(connection, table)
    if key not in before.places:
        return passed(check, "not compared: its key is another one")
    with digest.formats(connection):
        now = {column.name for column in catalog.columns(connection, table)}
        gone, kept = sorted(before.places.keys() - now), sorted(before.places.keys() & now)
        if before.digest and not gone:
            whole = digest.digest_of(connection, table, kept, (key, before.high))
            if whole.digest == before.digest:
                return passed(check, f"all {whole.rows} rows are what they were")
        after = _places(connection, table, key, (before.low, before.high), kept)
    was = {name: base64.b64decode(text) for name, text in before.places.items()}
    looked = sum(byte != 0 for byte in was[key])
    changed = {name: sum(a != b for a, b in zip(was[name], after[name], strict=True)) for name in kept}
    emptied = {name: sum(a != 0 == b for a, b in zip(was[name], after[name], strict=True)) for name in kept}
    seen = [
        Measurement(what=f"{table}.{name} changed, of {looked} rows", value=count, source=SOURCE)
        for name, count in changed.items()
        if count
    ]
    said = [f"{name} is gone" for name in gone] + [
        f"{name} has changed in {count}" + (f" ({emptied[name]} empty now)" if emptied[name] else "")
        for name, count in changed.items()
        if count
    ]
    text = f"sampled, {looked} rows: {', '.join(said) or 'as they were'}"
    if most is not None and any(count > most * looked for count in changed.values()):
        return failed(check, f"{text}; {most:.0%} may (migration.max_changed)", *seen)
    return passed(check, text, *seen)


def _places(
    connection: Connection[Any], table: str, key: str, keys: tuple[int, int], columns: list[str]
) -> dict[str, bytes]:
    """By column: a byte for each place, 0 where there is no value."""
    found = connection.execute(_query(table, key, keys, columns)).fetchall()
    return {name: bytes(row[number] for row in found) for number, name in enumerate(columns)}


def _query(table: str, key: str, keys: tuple[int, int], columns: list[str]) -> Composed:
    """Of each place the first row that is there; a row that is gone has its neighbour's values, so it has changed."""
    from psycopg import sql

    byte = sql.SQL(
        "CASE WHEN {0} IS DISTINCT FROM NULL"
        ' THEN 1 + (hashtextextended(ROW({0})::text COLLATE "C", 0) & 2147483647) % 255 ELSE 0 END'
    )
    last = min(PLACES - 1, keys[1] - keys[0])
    low, high = (sql.Literal(value) for value in keys)
    return sql.SQL(
        "SELECT {bytes} FROM generate_series(0, {last}) p (n) LEFT JOIN LATERAL (SELECT * FROM {table} i"
        " WHERE i.{key} >= trunc({low} + ({high}::numeric - {low}) * p.n / greatest({last}, 1))::bigint"
        " AND i.{key} <= {high} ORDER BY i.{key} LIMIT 1) t ON true ORDER BY p.n"
    ).format(
        bytes=sql.SQL(", ").join(byte.format(sql.Identifier("t", name)) for name in columns),
        last=sql.Literal(last), table=catalog.identifier(table), key=sql.Identifier(key), low=low, high=high,
    )  # fmt: skip


def _text(places: bytes) -> str:
    return base64.b64encode(places).decode()
