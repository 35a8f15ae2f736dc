"""The twin of an HTTP client's session and of the server behind it, in memory and by the running loop's time.

It knows what the checks use of aiohttp; tests/checks/test_session.py holds it to what aiohttp does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from multidict import CIMultiDict

from handover.checks.client import TIMEOUT_SECONDS
from tests.support.web import Answer, Asked


@dataclass
class TwinServer:
    """``delay``: seconds until each answer; ``there``: whether anybody listens."""

    answer: Callable[[Asked], Answer]
    delay: float = 0.0
    there: bool = True
    asked: list[Asked] = field(default_factory=list)

    def session(self, _concurrency: int = 1, timeout: float = TIMEOUT_SECONDS, *, keep_alive: bool = True) -> TwinHttp:
        """In the place of `handover.checks.client.session`."""
        return TwinHttp(self, timeout)


@dataclass
class TwinHttp:
    server: TwinServer
    timeout: float

    async def __aenter__(self) -> TwinHttp:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def get(self, url: str, **more: Any) -> Any:
        return self._ask("GET", url, **more)

    def post(self, url: str, **more: Any) -> Any:
        return self._ask("POST", url, **more)

    @asynccontextmanager
    async def _ask(
        self, method: str, url: str, headers: Any = None, params: Any = None, json: Any = None,
        allow_redirects: bool = True,
    ) -> AsyncIterator[TwinAnswer]:  # fmt: skip
        if not self.server.there:
            raise aiohttp.ClientConnectionError("nobody listens")
        path = urlsplit(url).path + (f"?{urlencode(params)}" if params else "")
        asked = Asked(method, path, {name.lower(): value for name, value in dict(headers or {}).items()}, json)
        self.server.asked.append(asked)
        async with asyncio.timeout(self.timeout):
            await asyncio.sleep(self.server.delay)
            answer = self.server.answer(asked)
            assert not (allow_redirects and "Location" in answer.headers), "the twin follows nothing by itself"
            yield TwinAnswer(url, answer)


class TwinAnswer:
    def __init__(self, url: str, answer: Answer) -> None:
        self.status, self.headers = answer.status, CIMultiDict(answer.headers)
        self.cookies = SimpleCookie(answer.headers.get("Set-Cookie"))
        self.url = SimpleNamespace(path=urlsplit(url).path)
        self._body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()

    async def read(self) -> bytes:
        return self._body

    @property
    def content(self) -> TwinAnswer:
        return self

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        for at in range(0, len(self._body), size):
            yield self._body[at : at + size]

    async def json(self, content_type: str | None = "application/json") -> Any:
        assert content_type is None, "the test servers name no type"
        return json.loads(self._body)
