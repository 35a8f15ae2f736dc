"""HTTP through connections: credentials are for the connection's own host, whoever redirects to where."""

from __future__ import annotations

import asyncio
import gzip
import itertools

import aiohttp
import pytest
import requests
from airflow.sdk import Connection
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters import http, straight
from handover.adapters.airflow_rest import AirflowRest
from handover.ports.airflow import AirflowError
from handover.ports.public import MAX_BODY_BYTES, MAX_WHOLE_BYTES
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


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_that_is_sent_goes_to_another_host(monkeypatch, status, method):
    with serving(lambda _: Answer(200, {})) as elsewhere, serving(to(f"{elsewhere.url}/x", status)) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port, password="s3cret")
        with pytest.raises(requests.HTTPError, match=f"{status}, a redirect, which is not followed"):
            http.call("web", method, "/", json={"email": "ada@example.com"})
    assert (len(web.asked), elsewhere.asked) == (1, [])


def test_on_its_own_host_a_body_follows(monkeypatch):
    with serving(to("/y", 308)) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port, password="s3cret")
        http.call("web", "POST", "/", json={"email": "ada@example.com"})
    assert [asked.body for asked in web.asked] == [{"email": "ada@example.com"}] * 2


@pytest.mark.parametrize("status", [200, 302, 404])
def test_an_answer_that_is_too_large_is_none(monkeypatch, status):
    """Whatever its status: a redirect's own body is read as well."""
    body = gzip.compress(b" " * (straight.MAX_ANSWER_BYTES + 1))
    headers = {"Content-Encoding": "gzip", "Location": "/y"}
    with serving(lambda _: Answer(status, body, headers)) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port)
        with pytest.raises(requests.RequestException, match="larger than"):
            http.call("web", "GET", "/")


def test_an_answer_without_an_end_in_time_is_none(monkeypatch):
    ticks = itertools.count(0, 7)
    monkeypatch.setattr(straight.clock, "monotonic", lambda: next(ticks))
    with serving(lambda _: Answer(200, b" " * 3 * straight.CHUNK_BYTES)) as web:
        connect_to(monkeypatch, "web", host=web.host, port=web.port)
        with pytest.raises(requests.Timeout, match="no end after 10 s"):
            http.call("web", "GET", "/")


NAMES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,10}[a-z0-9])?(\.[a-z]{2,5}){0,3}", fullmatch=True)
SECRETS = [{"password": "x"}, {"extra": '{"test_password": "x"}'}, {"login": "ada", "password": "x"}]


def is_here(host: str) -> bool:
    return host == "localhost" or host.endswith(".localhost") or host.startswith("127.")


@given(
    host=NAMES.filter(lambda name: not is_here(name)),
    parts=st.sampled_from(SECRETS),
    port=st.sampled_from([None, 80, 8080]),
)
def test_what_is_secret_goes_by_https_when_nobody_says_otherwise(host, parts, port):
    connection = Connection(conn_id="web", conn_type="http", host=host, port=port, **parts)
    assert http.base_url(connection) == f"https://{host}{f':{port}' if port else ''}"


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "api.example.com", "schema": "http", "password": "x"}, "http://api.example.com"),
        ({"host": "http://api.example.com/", "password": "x"}, "http://api.example.com"),
        ({"host": "api.example.com"}, "http://api.example.com"),
        ({"host": "api.example.com", "extra": "{}"}, "http://api.example.com"),
        ({"host": "api.example.com", "conn_type": "generic"}, "https://api.example.com"),
        ({"host": "api.example.com", "conn_type": "https"}, "https://api.example.com"),
        ({"host": "127.0.0.1", "port": 8080, "password": "x"}, "http://127.0.0.1:8080"),
        ({"host": "localhost:8080", "password": "x"}, "http://localhost:8080"),
        ({"host": "[::1]:8080", "password": "x"}, "http://[::1]:8080"),
        ({"host": "localhost.example.com", "password": "x"}, "https://localhost.example.com"),
        ({"host": "127.0.0.1@example.com", "password": "x"}, "https://127.0.0.1@example.com"),
    ],
)
def test_a_scheme_that_is_named_counts_and_on_this_machine_none_is_needed(parts, url):
    assert http.base_url(Connection(**{"conn_id": "web", "conn_type": "http"} | parts)) == url


@pytest.mark.parametrize(
    ("parts", "url"),
    [
        ({"host": "::1", "port": 8080}, "http://[::1]:8080"),
        ({"host": "2001:db8::8080", "port": 8080}, "http://[2001:db8::8080]:8080"),
        ({"host": "[2001:db8::8080]", "port": 8080, "schema": "https"}, "https://[2001:db8::8080]:8080"),
        ({"host": "http://[2001:db8::1]", "port": 8080}, "http://[2001:db8::1]:8080"),
        ({"host": "::1"}, "http://[::1]"),
        ({"uri": "http://h:8080/base"}, "http://h:8080/base"),
        ({"uri": "http://h:8080/base/v1/"}, "http://h:8080/base/v1"),
        ({"uri": "http://h:8080/https"}, "https://h:8080"),
        ({"uri": "https://h/base"}, "https://h/base"),
        ({"host": "http://h/base", "port": 8080}, "http://h:8080/base"),
        ({"host": "http://h:8080/base/", "port": 8080}, "http://h:8080/base"),
        ({"host": "h:8080", "port": 80}, "http://h:8080"),
        ({"host": "h:80800", "port": 8080}, "http://h:80800"),
        ({"host": " http://h "}, "http://h"),
        ({"host": "h", "schema": "HTTPS"}, "https://h"),
    ],
)
def test_where_a_connection_leads_to(parts, url):
    named = {} if "uri" in parts else {"conn_type": "http"}
    assert http.base_url(Connection(**{"conn_id": "web"} | named | parts)) == url


# --- Airflow's own API


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("at", ["/auth/token", "/api/v2/dags/x", "/api/v2/dags/x/dagRuns"])
def test_a_redirect_of_airflow_gets_neither_password_nor_token(monkeypatch, status, at):
    def answer(asked):
        if asked.path == at:
            return Answer(status, headers={"Location": f"{elsewhere.url}{at}"})
        return Answer(201, {"access_token": "t0k3n"})

    with serving(lambda _: Answer(200, {"access_token": "theirs"})) as elsewhere, serving(answer) as web:
        connect_to(monkeypatch, "airflow", host=web.url, login="automation", password="s3cret")
        airflow = AirflowRest("airflow")
        with pytest.raises(AirflowError, match=str(status)):
            airflow.start("x", "run", {}) if at.endswith("dagRuns") else airflow.get("/dags/x")
    assert elsewhere.asked == []


def test_what_is_sealed_depends_on_the_password_and_asks_nobody(monkeypatch):
    seals = set()
    for password in ("one", "two", "two"):
        connect_to(monkeypatch, "airflow", host="http://127.0.0.1:1", login="automation", password=password)
        seals.add(AirflowRest("airflow").seal("a text"))
    assert len(seals) == 2
    assert AirflowRest("airflow").seal("another text") not in seals


def test_without_a_password_nothing_is_sealed(monkeypatch):
    connect_to(monkeypatch, "airflow", host="http://127.0.0.1:1", login="automation")
    with pytest.raises(AirflowError, match="no password"):
        AirflowRest("airflow").seal("a text")


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
        assert asked(f"{web.url}/", {"Authorization": "Bearer x", "X-Api-Key": "x"}) == 204
    assert not {"authorization", "x-api-key"} & set(other.asked[0].headers)


@pytest.mark.parametrize("location", ["https://elsewhere.example.com/", "http://[", "mailto:ada@example.com", ""])
def test_a_redirect_that_leads_elsewhere_is_the_answer(location):
    with serving(to(location)) as web:
        assert asked(f"{web.url}/") == 302


def test_redirects_without_an_end_are_no_answer():
    with serving(lambda _: Answer(302, headers={"Location": "/"})) as web, pytest.raises(aiohttp.ClientError):
        asked(f"{web.url}/")
    assert len(web.asked) == http.MAX_REDIRECTS + 1


@pytest.mark.parametrize(("size", "whole"), [(MAX_BODY_BYTES + 1, True), (MAX_WHOLE_BYTES + 1, False)])
def test_of_a_body_the_beginning_is_kept_and_one_that_is_too_large_is_no_answer(size, whole):
    async def work(url: str) -> str:
        async with aiohttp.ClientSession() as session, http.get(session, url) as answer:
            return await http.beginning_of(answer)

    packed = gzip.compress(b" " * size, 1)
    with serving(lambda _: Answer(200, packed, {"Content-Encoding": "gzip"})) as web:
        if whole:
            assert len(asyncio.run(work(web.url))) == MAX_BODY_BYTES
            return
        with pytest.raises(aiohttp.ClientError, match="larger than"):
            asyncio.run(work(web.url))
