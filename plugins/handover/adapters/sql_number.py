"""One number from a PostgreSQL database: one statement that reads, in a transaction that cannot write."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from handover.adapters.messages import masked
from handover.adapters.postgres import database_async
from handover.adapters.query_source import QuerySource, Sample, number, only
from handover.plan.sources import Sql
from handover.ports.metrics import NoAnswer, NoData, Query

if TYPE_CHECKING:
    import asyncpg

NUMBERS = {"int2", "int4", "int8", "float4", "float8", "numeric", "oid"}
ABOUT_THE_STATEMENT = "42"
"""Class of errors that speak of the statement alone (syntax, unknown names, rights); others may quote a row."""
ABOUT_THE_SERVER = ("08", "28", "53", "57")
"""Connections, who we are, too little of something, a server that goes down."""
CANCELED = "57014"
SHARE = 0.9
"""Of our time; so it is the server that ends a statement, and nothing of it goes on."""


class SqlNumbers(QuerySource):
    """See `handover.plan.sources.Sql`. One session, asked for one query after the other."""

    def __init__(self, name: str, rules: Sql, queries: Sequence[Query]) -> None:
        super().__init__(name, queries, rules.timeout_seconds)
        self._connection_id = rules.connection
        self._session: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def ask(self, query: Query) -> Sample:
        import asyncpg
        from airflow.sdk.exceptions import AirflowNotFoundException

        async with self._turn:
            try:
                async with asyncio.timeout(self._seconds):
                    return Sample(await self._read(query.text))
            except NoData:
                raise
            except asyncpg.PostgresError as error:
                raise self._refusal(error) from None
            except AirflowNotFoundException:
                raise NoAnswer(f"there is no connection {self._connection_id}") from None
            except TimeoutError:
                self._drop()
                raise NoAnswer(f"{self._connection_id}: no answer within {self._seconds:g} s") from None
            except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
                self._drop()
                raise NoAnswer(f"{self._connection_id}: {type(error).__name__}") from None
            except asyncio.CancelledError:
                self._drop()
                raise

    async def close(self) -> None:
        self._drop()

    async def _read(self, statement: str) -> float:
        if self._session is None or self._session.is_closed():
            database = await database_async(self._connection_id)
            self._session = await database.open(command_timeout=self._seconds, bare=True)
        session = self._session
        async with session.transaction(readonly=True):
            await session.execute(f"SET LOCAL statement_timeout = {max(1, int(self._seconds * SHARE * 1000))}")
            await session.execute("SET LOCAL row_security = off")  # a number of the rows that a policy shows is none
            prepared = await session.prepare(statement.strip().removesuffix(";"))
            columns = prepared.get_attributes()
            only(columns, "columns")
            if columns[0].type.name not in NUMBERS:
                raise NoData(f"it gives {columns[0].type.name}, not a number")
            rows = await (await prepared.cursor()).fetch(2)
            if len(rows) > 1:
                raise NoData("two rows or more, exactly one is wanted")
            only(rows, "rows")
            value = rows[0][0]
        return number(float(value) if isinstance(value, decimal.Decimal) else value)

    def _refusal(self, error: asyncpg.PostgresError) -> NoData:
        code = str(error.sqlstate)
        if code == CANCELED:
            return NoData(f"{self._connection_id}: the statement took longer than {self._seconds * SHARE:g} s")
        said = (
            f": {masked(str(error.args[0]), of_statement=True)}"
            if code.startswith(ABOUT_THE_STATEMENT) and error.args
            else ""
        )
        why = f"{self._connection_id}: {type(error).__name__} ({code}){said}"
        if code[:2] in ABOUT_THE_SERVER:
            self._drop()
            return NoAnswer(why)
        return NoData(why)

    def _drop(self) -> None:
        if self._session is not None:
            self._session.terminate()
            self._session = None
