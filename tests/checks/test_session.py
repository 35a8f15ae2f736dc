"""One contract for two ways to ask over HTTP: the checks' session with a real server, and their twin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from handover.adapters.http import beginning_of
from handover.checks.client import session
from tests.support.web import Answer, Asked, nobody, serving, silent
from tests.twins.http import TwinServer

PATIENT, IMPATIENT = 60.0, 0.05


def answer(asked: Asked) -> Answer:
    headers = {"X-Version": "v1"}
    if asked.method == "POST":
        return Answer(201, {"got": asked.body, "as": asked.headers.get("authorization")}, headers)
    return Answer(503, b"<down \xff>", headers) if asked.path == "/down" else Answer(200, {"path": asked.path}, headers)


@contextmanager
def twin(what: str) -> Iterator[tuple[Any, str]]:
    yield TwinServer(answer, delay=1e9 if what == "silent" else 0.0, there=what != "nobody").session, "http://twin"


@contextmanager
def real(what: str) -> Iterator[tuple[Any, str]]:
    if what == "serving":
        with serving(answer) as web:
            yield session, web.url
        return
    with silent() if what == "silent" else nobody() as (host, port):
        yield session, f"http://{host}:{port}"


@pytest.fixture(params=["twin", "real"])
def asking(request: pytest.FixtureRequest) -> Any:
    """Asks a server of each kind in turn: ``asking("GET", "/a", headers=...)`` gives status, version, path and text."""
    server = twin if request.param == "twin" else real
    if request.param == "twin":
        request.getfixturevalue("virtual_time")

    async def ask(opened: Any, url: str, method: str, path: str, timeout: float, as_json: bool, **more: Any) -> Any:
        async with opened(1, timeout) as http, getattr(http, method.lower())(f"{url}{path}", **more) as found:
            body = await found.json(content_type=None) if as_json else await beginning_of(found)
            return found.status, found.headers.get("x-version"), found.url.path, body

    def do(method: str, path: str, what: str = "serving", as_json: bool = False, **more: Any) -> Any:
        with server(what) as (opened, url):
            timeout = IMPATIENT if what == "silent" else PATIENT
            return asyncio.run(ask(opened, url, method, path, timeout, as_json, **more))

    return do


def test_an_answer_has_status_headers_path_and_json(asking):
    found = asking("GET", "/a", as_json=True, params={"q": "a b"})
    assert found == (200, "v1", "/a", {"path": "/a?q=a+b"})


def test_a_body_and_headers_arrive(asking):
    found = asking("POST", "/b", as_json=True, json={"n": 1}, headers={"Authorization": "Bearer t"})
    assert found == (201, "v1", "/b", {"got": {"n": 1}, "as": "Bearer t"})


def test_a_bad_status_is_an_answer_whose_text_may_be_anything(asking):
    assert asking("GET", "/down") == (503, "v1", "/down", "<down \ufffd>")


def test_text_that_is_not_json_is_a_value_error(asking):
    with pytest.raises(ValueError):  # noqa: PT011 - each library has words of its own
        asking("GET", "/down", as_json=True)


def test_nobody_there_is_a_client_error(asking):
    with pytest.raises(aiohttp.ClientError):
        asking("GET", "/a", "nobody")


def test_no_answer_in_time_is_a_timeout(asking):
    with pytest.raises(TimeoutError):
        asking("GET", "/a", "silent")


def test_no_request_takes_a_cookie_of_another_with_it():
    """What lies before the service would keep all of them with one pod."""

    async def ask(url: str) -> None:
        async with session(1) as http:
            for _ in range(2):
                await (await http.get(url)).read()

    with serving(lambda _: Answer(headers={"Set-Cookie": "route=pod-1; Path=/"})) as web:
        asyncio.run(ask(f"http://localhost:{web.port}/"))
    assert ["cookie" in asked.headers for asked in web.asked] == [False, False]


def test_a_long_header_is_an_answer_and_no_cache_is_asked():
    async def ask(url: str) -> int:
        async with session(1) as http, http.get(url) as found:
            return len(found.headers["Link"])

    with serving(lambda _: Answer(headers={"Link": "a" * 20_000})) as web:
        assert asyncio.run(ask(web.url)) == 20_000
    assert web.asked[0].headers["cache-control"] == "no-cache"
