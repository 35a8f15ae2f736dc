"""What tables hold, as one number each that PostgreSQL works out where the rows are: two tables with the same rows have
the same one, in whatever order rows and columns lie.

Values of `PLAIN` types and `TEXTS` are hashed as they are, which takes a third of the time; all others as text, which
every type has: the session's formats are set for it, so that two servers of the same encoding write the same text. It
tells damage and change apart from none; it does not withstand somebody who forges.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.database import catalog

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

    from handover.database.catalog import Column

FORMATS = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog",  # names of tables and types that are values are written in full
    "statement_timeout": "0",
}


SINCE = 14
"""The version whose rows can be hashed."""
PLAIN = (
    "smallint", "integer", "bigint", "oid", "boolean", "date", "uuid", "bytea", "time without time zone",
    "timestamp without time zone", "timestamp with time zone",
)  # fmt: skip
"""Types whose values have the same hash only if they are the same to the last bit."""
TEXTS = ("text", "character varying")
_LENGTH = re.compile(r"\(\d+\)")


@dataclass(frozen=True)
class Digest:
    """How many rows a table has, and the sum of their hashes."""

    rows: int
    digest: str


def query(table: str, columns: Sequence[Column]) -> Composed:
    """SQL that gives the two parts of a `Digest`. A row counts as often as it is there.

    :param columns: with the types as they are written where the search path is that of `FORMATS`
    """
    from psycopg import sql

    plain, others = [], []
    for column in sorted(columns, key=lambda column: column.name):
        value, type_ = sql.Identifier("t", column.name), _LENGTH.sub("", column.type)
        if type_ in TEXTS:  # what a collation calls equal need not be the same
            plain.append(sql.SQL('{} COLLATE "C"').format(value))
        elif type_ in PLAIN:
            plain.append(sql.SQL("{}").format(value))
        else:
            others.append(value)
    hashed = sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(plain)) if plain else sql.SQL("0")
    if others or not plain:
        row = sql.SQL('hashtextextended(ROW({})::text COLLATE "C", {})').format(sql.SQL(", ").join(others), hashed)
    else:  # a record's hash is a sum over its columns: hashed once more, no value can change its row unseen
        row = sql.SQL("hashint8extended({}, 0)").format(hashed)
    return sql.SQL("SELECT count(*), coalesce(sum({}), 0)::text FROM {} t").format(row, catalog.identifier(table))


def content_digests(connection: Connection[Any], tables: Sequence[str]) -> dict[str, Digest]:
    """The digests of tables, all of one moment: that of the session's transaction, if it is in one.

    The session's settings stay what they are. Raises `LookupError` for a table that is not there, and what PostgreSQL
    says of one that cannot be read.
    """
    with formats(connection):
        return {table: digest_of(connection, table) for table in tables}


@contextmanager
def formats(connection: Connection[Any]) -> Iterator[None]:
    """While the body runs, the session reads one moment, and values are written as text in `FORMATS`."""
    from psycopg.pq import TransactionStatus

    own = connection.info.transaction_status is TransactionStatus.IDLE
    with connection.transaction(force_rollback=True):
        if own:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET TRANSACTION READ ONLY")
        for name, value in FORMATS.items():
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        yield


def digest_of(
    connection: Connection[Any],
    table: str,
    columns: Collection[str] | None = None,
    up_to: tuple[str, int] | None = None,
) -> Digest:
    """One table's, in `formats`: of these columns, or all; and of the rows whose key is not above a value, or all.

    Raises `LookupError` for a table that is not there.
    """
    if catalog.find(connection, table) is None:
        raise LookupError(f"there is no table {table}")
    wanted = [c for c in catalog.columns(connection, table) if columns is None or c.name in columns]
    found = connection.execute(query(table, wanted) + catalog.not_above(up_to)).fetchone()
    assert found is not None
    return Digest(*found)
