"""What tables hold, as one number each that PostgreSQL works out where the rows are: two tables with the same rows have
the same one, in whatever order rows and columns lie.

A row is hashed as text, which every type has; the session's formats are set for it, so that two servers of the same
encoding write the same text. It tells damage and change apart from none; it does not withstand somebody who forges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.database import catalog

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composed

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


@dataclass(frozen=True)
class Digest:
    """How many rows a table has, and the sum of their hashes."""

    rows: int
    digest: str


def query(table: str, columns: Sequence[str]) -> Composed:
    """SQL that gives the two parts of a `Digest`. A row counts as often as it is there."""
    from psycopg import sql

    row = sql.SQL(", ").join(sql.Identifier("t", name) for name in sorted(columns))
    return sql.SQL(
        'SELECT count(*), coalesce(sum(hashtextextended(ROW({})::text COLLATE "C", 0)), 0)::text FROM {} t'
    ).format(row, catalog.identifier(table))


def content_digests(connection: Connection[Any], tables: Sequence[str]) -> dict[str, Digest]:
    """The digests of tables, all of one moment: that of the session's transaction, if it is in one.

    The session's settings stay what they are. Raises `LookupError` for a table that is not there, and what PostgreSQL
    says of one that cannot be read.
    """
    from psycopg.pq import TransactionStatus

    own = connection.info.transaction_status is TransactionStatus.IDLE
    with connection.transaction(force_rollback=True):
        if own:
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SET TRANSACTION READ ONLY")
        for name, value in FORMATS.items():
            connection.execute("SELECT set_config(%s, %s, true)", (name, value))
        return {table: _digest(connection, table) for table in tables}


def _digest(connection: Connection[Any], table: str) -> Digest:
    if catalog.find(connection, table) is None:
        raise LookupError(f"there is no table {table}")
    names = [column.name for column in catalog.columns(connection, table)]
    found = connection.execute(query(table, names)).fetchone()
    assert found is not None
    return Digest(*found)
