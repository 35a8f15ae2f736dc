"""What tables held before a migration, beside how many rows: so that changed values are found, too, where rows are
counted in full (plan 3.3).

A small table is compared exactly, by the digest of its rows from before, as long as nobody else changed one. Of a table
of any size the rows at `PLACES` evenly spread keys are looked at, which an index finds: that is a sample, and says so.
What is kept of a value is one byte of its hash, which tells it from others and not what it was. Values of types that
are known to hold the same (`ALIKE`) are hashed alike, so that another type is not another value; where that is not
known, it is said, and only what is empty is compared.
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
CHECKS_INPUT = 16
"""The version that can say whether a text is jsonb: not every json is."""
ALIKE = {
    "smallint": "number", "integer": "number", "bigint": "number", "numeric": "number", "date": "time",
    "timestamp without time zone": "time", "json": "json", "jsonb": "json", "real": "real",
    "double precision": "double precision",
}  # fmt: skip
HELD = {
    "number": "CASE WHEN {0}::text LIKE '%.%' THEN rtrim(rtrim({0}::text, '0'), '.') ELSE {0}::text END",
    "time": "replace({0}::text, ' 00:00:00', '')",
    "json": "CASE WHEN pg_input_is_valid({0}::text, 'jsonb') THEN {0}::text::jsonb::text ELSE {0}::text END",
    "text": "{0}::text",
    "real": "CASE WHEN {0} = 0 THEN '0' ELSE {0}::text END",
    "double precision": "CASE WHEN {0} = 0 THEN '0' ELSE {0}::text END",
}
"""What is hashed, by kind; of any other the value as it is written."""
_TYPES = """
WITH RECURSIVE held AS (
    SELECT attname, format_type(atttypid, atttypmod) AS called, atttypid AS type FROM pg_attribute
    WHERE attrelid = %s::oid AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT attname, called, typbasetype FROM held JOIN pg_type ON oid = type AND typtype = 'd'
)
SELECT attname, called, format_type(type, NULL), typtype = 'e' OR typcategory = 'S'
FROM held JOIN pg_type ON oid = type AND typtype <> 'd' ORDER BY 1
"""
"""Of each column: its type, that without domains, whether its values are texts."""


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
        kinds = _kinds(connection, table)
        places = _places(connection, table, key, (low, high), kinds)
        exact = rows <= SMALL and server_major(connection) >= digest.SINCE
        whole = digest.digest_of(connection, table, kinds, (key, high)).digest if exact else ""
    texts = {name: _text(found) for name, found in places.items()}
    return Sketch(low=low, high=high, places=texts, kinds=kinds, digest=whole)


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
        kinds = _kinds(connection, table)
        gone, kept = sorted(before.places.keys() - kinds), sorted(before.places.keys() & kinds)
        if before.digest and not gone:
            whole = digest.digest_of(connection, table, kept, (key, before.high))
            if whole.digest == before.digest:
                return passed(check, f"all {whole.rows} rows are what they were")
        if not before.kinds:
            return passed(check, "not compared: another release of this system has looked at it before")
        after = _places(connection, table, key, (before.low, before.high), {name: kinds[name] for name in kept})
    was = {name: base64.b64decode(text) for name, text in before.places.items()}
    looked = sum(byte != 0 for byte in was[key])
    other = [name for name in kept if kinds[name] != before.kinds[name]]
    changed = {name: _changed(was[name], after[name], alike=name not in other) for name in kept}
    emptied = {name: sum(a != 0 == b for a, b in zip(was[name], after[name], strict=True)) for name in kept}
    seen = [
        Measurement(what=f"{table}.{name} changed, of {looked} rows", value=count, source=SOURCE)
        for name, count in changed.items()
        if count
    ]
    said = [f"{name} is gone" for name in gone]
    said += [f"{name} is of another type now: its values were not compared" for name in other]
    said += [
        f"{name} has changed in {count}" + (f" ({emptied[name]} empty now)" if emptied[name] else "")
        for name, count in changed.items()
        if count
    ]
    text = f"sampled, {looked} rows: {', '.join(said) or 'as they were'}"
    if most is not None and any(count > most * looked for count in changed.values()):
        return failed(check, f"{text}; {most:.0%} may (migration.max_changed)", *seen)
    return passed(check, text, *seen)


def _changed(was: bytes, now: bytes, *, alike: bool) -> int:
    """In how many places; of values that are not hashed alike those which are empty on one side."""
    return sum(a != b if alike else (a == 0) != (b == 0) for a, b in zip(was, now, strict=True))


def _kinds(connection: Connection[Any], table: str) -> dict[str, str]:
    """By column: which values are hashed alike, else its type as it is called."""
    major, found = server_major(connection), dict[str, str]()
    for name, called, bare, is_text in connection.execute(_TYPES, (catalog.find(connection, table),)):
        alike = "text" if is_text else ALIKE.get(bare, called)
        found[name] = bare if alike == "json" and major < CHECKS_INPUT else alike
    return found


def _places(
    connection: Connection[Any], table: str, key: str, keys: tuple[int, int], kinds: Mapping[str, str]
) -> dict[str, bytes]:
    """By column: a byte for each place, 0 where there is no value."""
    found = connection.execute(_query(table, key, keys, kinds)).fetchall()
    return {name: bytes(row[number] for row in found) for number, name in enumerate(kinds)}


def _query(table: str, key: str, keys: tuple[int, int], kinds: Mapping[str, str]) -> Composed:
    """Of each place the first row that is there; a row that is gone has its neighbour's values, so it has changed."""
    from psycopg import sql

    byte = sql.SQL(
        "CASE WHEN {0} IS DISTINCT FROM NULL"
        ' THEN 1 + (hashtextextended(({1}) COLLATE "C", 0) & 2147483647) % 255 ELSE 0 END'
    )
    values = {name: sql.Identifier("t", name) for name in kinds}
    held = {name: sql.SQL(HELD.get(kind, "ROW({0})::text")).format(values[name]) for name, kind in kinds.items()}
    last = min(PLACES - 1, keys[1] - keys[0])
    low, high = (sql.Literal(value) for value in keys)
    return sql.SQL(
        "SELECT {bytes} FROM generate_series(0, {last}) p (n) LEFT JOIN LATERAL (SELECT * FROM {table} i"
        " WHERE i.{key} >= trunc({low} + ({high}::numeric - {low}) * p.n / greatest({last}, 1))::bigint"
        " AND i.{key} <= {high} ORDER BY i.{key} LIMIT 1) t ON true ORDER BY p.n"
    ).format(
        bytes=sql.SQL(", ").join(byte.format(values[name], held[name]) for name in kinds),
        last=sql.Literal(last), table=catalog.identifier(table), key=sql.Identifier(key), low=low, high=high,
    )  # fmt: skip


def _text(places: bytes) -> str:
    return base64.b64encode(places).decode()
