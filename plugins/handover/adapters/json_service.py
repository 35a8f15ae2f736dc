"""JSON over HTTP from a service that a watch asks again and again: bounded in time and size, and secrets stay here.

Whatever is not an answer is a `NoAnswer` or `NoData` that says why.
"""

from __future__ import annotations

import asyncio
import base64
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.http import base_url
from handover.adapters.refusals import MAX_WORDS, hidden, refused, spoken
from handover.models.annotations import AGENT
from handover.models.json_text import decoded
from handover.ports.metrics import NoAnswer, NoData

if TYPE_CHECKING:
    import aiohttp

MAX_BYTES = 1_000_000
MAX_PAUSE_SECONDS = 60.0
"""A service that wants to be left alone is asked again after this at the latest."""


class Missing(NoData):
    """The service answers, but has no such thing (404)."""


@dataclass(frozen=True)
class Where:
    """An Airflow connection: address and secrets, which no representation shows."""

    url: str
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def hidden(self, text: str) -> str:
        """The text without our secrets: a service may say what it was sent."""
        return hidden(text, self.login, self.password, self.extra)


def usual(where: Where) -> dict[str, str]:
    """Login and password as basic auth, or the password alone as a token (see `handover.adapters.http.request`)."""
    if not where.password:
        return {}
    if where.login:
        return {"Authorization": f"Basic {base64.b64encode(f'{where.login}:{where.password}'.encode()).decode()}"}
    return {"Authorization": f"{where.extra.get('authorization_scheme', 'Bearer')} {where.password}"}


@dataclass(frozen=True)
class Said:
    """A decoded answer. ``further``: the Link to the next page with its attributes; empty when there is none."""

    body: Any
    further: Mapping[str, str] = field(default_factory=dict)


class JsonService:
    """The service behind an Airflow connection. Credentials go to its own address alone: no redirect is followed. They
    are read anew after a refusal.

    :param seconds: until an answer is complete
    :param authorization: the headers that say who we are
    """

    def __init__(
        self, connection: str, *, seconds: float, authorization: Callable[[Where], dict[str, str]] = usual
    ) -> None:
        self.connection = connection
        self._seconds, self._authorization = seconds, authorization
        self._where: Where | None = None
        self._http: aiohttp.ClientSession | None = None
        self._not_before = -math.inf

    async def ask(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> Said:
        """A GET, or with a body a POST. Raises `NoAnswer`, `Missing`, and `NoData` for a request that was refused."""
        import aiohttp

        what = f"{self.connection}: {'GET' if body is None else 'POST'} {path.partition('?')[0]}"
        if (pause := self._not_before - clock.monotonic()) > 0:
            raise NoAnswer(f"{what}: rate limit reached, asked again in {pause:.0f} s")
        try:
            async with asyncio.timeout(self._seconds):
                return await self._asked(what, path, params, body, headers or {})
        except TimeoutError:
            raise NoAnswer(f"{what}: no answer within {self._seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NoAnswer(f"{what}: {type(error).__name__}") from None

    def hidden(self, text: str) -> str:
        """What the service said, short, and without our secrets."""
        return (self._where.hidden(text) if self._where else text)[:MAX_WORDS]

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def where(self) -> Where:
        """Raises `NoAnswer` without such a connection."""
        from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
        from airflow.sdk.exceptions import AirflowNotFoundException

        if self._where is None:
            try:
                found = await get_async_connection(self.connection)
            except AirflowNotFoundException:
                raise NoAnswer(f"there is no connection {self.connection}") from None
            extra = await get_async_extra_dejson(found)
            self._where = Where(base_url(found), found.login or "", found.password or "", extra)
        return self._where

    async def _asked(
        self, what: str, path: str, params: Mapping[str, str] | None, body: Any, headers: dict[str, str]
    ) -> Said:
        where = await self.where()
        headers = {"Accept": "application/json"} | headers | self._authorization(where)
        method = "GET" if body is None else "POST"
        async with self._session().request(
            method, f"{where.url}{path}", params=params, json=body, headers=headers, allow_redirects=False
        ) as answer:
            text = await _read(answer, what)
            if answer.status != 200:
                raise self._refusal(answer, text, where, what)
            try:
                further = {key: str(value) for key, value in answer.links.get("next", {}).items()}
                return Said(decoded(text), further)
            except ValueError:
                kind = answer.headers.get("Content-Type", "of no type").partition(";")[0]
                raise NoAnswer(f"{what}: the answer is not JSON ({kind[:40]})") from None

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._http is None:
            self._http = aiohttp.ClientSession(headers={"User-Agent": AGENT}, cookie_jar=aiohttp.DummyCookieJar())
        return self._http

    def _refusal(self, answer: aiohttp.ClientResponse, text: bytes, where: Where, what: str) -> NoData:
        status, after = answer.status, answer.headers.get("Retry-After", "")
        said = spoken(text, where.login, where.password, where.extra)
        why = f"{what}: {refused(status, answer.headers)}{f': {said}' if said else ''}"
        if status in (401, 403):
            self._where = None
        if status == 429 and after.isdecimal():
            self._not_before = clock.monotonic() + min(float(after), MAX_PAUSE_SECONDS)
        if status == 404:
            return Missing(why)
        return (NoData if status in (400, 422) else NoAnswer)(why)


async def _read(answer: aiohttp.ClientResponse, what: str) -> bytes:
    found = bytearray()
    async for part in answer.content.iter_chunked(65536):
        found += part
        if len(found) > MAX_BYTES:
            answer.close()
            raise NoAnswer(f"{what}: the answer is larger than {MAX_BYTES / 1e6:g} MB")
    return bytes(found)
