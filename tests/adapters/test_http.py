"""HTTP through connections: credentials are for the connection's own host, whoever redirects to where."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from handover.adapters import http
from tests.support.steps import connect_to
from tests.support.web import Answer, serving

KEYS = {"DD-API-KEY": "s3cret", "DD-APPLICATION-KEY": "als0-s3cret"}


def to(location: str, status: int = 302):
    return lambda asked: Answer(status, headers={"Location": location}) if asked.path == "/" else Answer(200, {"ok": 1})


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize(("login", "bearer"), [("ada", True), ("", True), ("", False)])
def test_no_key_goes_to_another_host(monkeypatch, status, login, bearer):
    with serving(lambda _: Answer(200, {})) as elsewhere, serving(to(f"{elsewhere.url}/x", status)) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port, login=login, password="s3cret")
        http.call("web", "GET", "/", headers=KEYS, bearer=bearer)
    (mine,), (theirs,) = web.asked, elsewhere.asked
    assert mine.headers["dd-api-key"] == "s3cret"
    assert "s3cret" not in str(theirs.headers)
    assert "authorization" not in theirs.headers


def test_on_its_own_host_a_redirect_keeps_them(monkeypatch):
    with serving(to("/y")) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port, password="s3cret")
        assert http.call("web", "GET", "/", headers=KEYS).json() == {"ok": 1}
    assert [asked.headers["authorization"] for asked in web.asked] == ["Bearer s3cret"] * 2
    assert web.asked[1].headers["dd-api-key"] == "s3cret"


# --- asked by asyncio, as the kubelet asks


def asked(url: str, headers: dict[str, str] | None = None) -> int:
    async def work() -> int:
        async with aiohttp.ClientSession() as session, http.get(session, url, headers) as answer:
            return answer.status

    return asyncio.run(work())


def test_a_redirect_on_the_same_host_is_followed():
    with serving(to("/y")) as web:
        assert asked(f"{web.url}/", {"Authorization": "Bearer x"}) == 200
    assert [one.path for one in web.asked] == ["/", "/y"]
    assert web.asked[1].headers["authorization"] == "Bearer x"


def test_to_another_port_of_the_same_host_it_goes_without_credentials():
    with serving(lambda _: Answer(204)) as other, serving(to(f"{other.url}/y")) as web:
        assert asked(f"{web.url}/", {"Authorization": "Bearer x"}) == 204
    assert "authorization" not in other.asked[0].headers


@pytest.mark.parametrize("location", ["https://elsewhere.example.com/", "http://[", "mailto:ada@example.com", ""])
def test_a_redirect_that_leads_elsewhere_is_the_answer(location):
    with serving(to(location)) as web:
        assert asked(f"{web.url}/") == 302


def test_redirects_without_an_end_are_no_answer():
    with serving(lambda _: Answer(302, headers={"Location": "/"})) as web, pytest.raises(aiohttp.ClientError):
        asked(f"{web.url}/")
    assert len(web.asked) == http.MAX_REDIRECTS + 1
