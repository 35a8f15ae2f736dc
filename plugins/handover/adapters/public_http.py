"""The public address over HTTP, through an Airflow connection: its address, and its password as the token for pods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from handover import clock
from handover.adapters.http import base_url, beginning_of, get, new_clients
from handover.ports.public import Answer

if TYPE_CHECKING:
    import aiohttp


class HttpAddress:
    """``url`` without a trailing slash. Every request is a new client's (`new_clients`), and none waits for another."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str = "") -> None:
        self._http, self._url, self.token = http, url, token

    async def get(self, path: str, timeout: float) -> Answer:
        import aiohttp

        begun = clock.monotonic()
        try:
            async with asyncio.timeout(timeout), get(self._http, f"{self._url}{path}") as answer:
                body = await beginning_of(answer)
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(clock.monotonic() - begun, answer.status, headers, body=body)
        except TimeoutError:
            problem = "no answer in time"
        except (aiohttp.ClientError, OSError) as error:
            problem = f"{type(error).__name__}: {error}"
        return Answer(clock.monotonic() - begun, problem=problem)


@asynccontextmanager
async def at(url: str, token: str = "") -> AsyncIterator[HttpAddress]:
    """The address behind a URL."""
    import aiohttp

    async with new_clients(aiohttp.TCPConnector(limit=0, force_close=True)) as http:
        yield HttpAddress(http, url, token)


@asynccontextmanager
async def connect(connection_id: str) -> AsyncIterator[HttpAddress]:
    """The address of an Airflow connection; usable in tasks and in the triggerer."""
    from airflow.providers.common.compat.connection import get_async_connection

    connection = await get_async_connection(connection_id)
    async with at(base_url(connection), connection.password or "") as address:
        yield address
