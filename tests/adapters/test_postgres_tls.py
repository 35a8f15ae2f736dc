"""Off this machine a database has to show that it is the one that was meant, to sessions and to programs alike.

A real PostgreSQL behind TLS, and the clients as they are: psycopg, asyncpg, and a program that has nothing but the
environment that PostgreSQL's programs get.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import psycopg
import pytest

from handover.adapters.postgres import Database, secured
from handover.readiness.secrets import connects
from tests.support.certificates import Authority
from tests.support.postgres import PASSWORD, Servers
from tests.support.tls import Front, tls_before

NAME = "database.test"
"""A host that is not this machine by its name; where it is, `resolved` says."""
PROGRAM = "import psycopg; psycopg.connect('').execute('SELECT 1')"
Way = Callable[[Database], None]


class NoWay(Exception):
    """There was no session; the text says why."""


def by_psycopg(database: Database) -> None:
    try:
        database.connect().close()
    except psycopg.Error as error:
        raise NoWay(str(error)) from error


def by_asyncpg(database: Database) -> None:
    async def session() -> None:
        connection = await database.open(command_timeout=30)
        await connection.close()

    try:
        asyncio.run(session())
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NoWay(str(error)) from error


def by_a_program(database: Database) -> None:
    where = {"PGHOSTADDR": found} if (found := os.environ.get("PGHOSTADDR")) else {}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=database.environment() | where, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        raise NoWay(ran.stderr)


@pytest.fixture(params=[by_psycopg, by_asyncpg, by_a_program])
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def other(folder: Path) -> Authority:
    return Authority(folder, "other")


@pytest.fixture
def front(servers: Servers, authority: Authority) -> Iterator[Front]:
    """Its certificate is that of `NAME`, and of 127.0.0.1."""
    with tls_before(servers.primary.server, authority.server(NAME)) as made:
        yield made


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name of ``.test`` is an address of this machine, for libpq and for Python."""
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.1")
    real = socket.getaddrinfo

    def found(host: str, *more: object, **named: object) -> object:
        return real("127.0.0.1" if str(host).endswith(".test") else host, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def at(front: Front, host: str, **options: str) -> Database:
    return Database(host, front.port, "postgres", "postgres", PASSWORD, tuple(options.items()))


def test_a_connection_that_says_nothing_verifies_name_and_authority(
    front: Front, authority: Authority, way: Way, resolved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    way(at(front, NAME))
    assert (front.encrypted, front.plain) == (1, [])


@pytest.mark.parametrize(("host", "believed"), [(NAME, "other"), ("elsewhere.test", "authority")])
def test_an_authority_that_nobody_knows_and_another_host_s_name_are_refused(
    front: Front, folder: Path, authority: Authority, other: Authority, way: Way, resolved: None,
    monkeypatch: pytest.MonkeyPatch, host: str, believed: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / f"{believed}.crt"))
    with pytest.raises(NoWay, match=r"(?i)certificate"):
        way(at(front, host))
    assert front.plain == []


def test_a_server_without_tls_gets_no_password(servers: Servers, way: Way, resolved: None) -> None:
    """It says so; nothing is tried in the clear."""
    address = servers.primary
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGHOSTADDR", address.host)
        real = socket.getaddrinfo
        patch.setattr(
            socket, "getaddrinfo", lambda host, *a, **k: real(address.host if host == NAME else host, *a, **k)
        )
        with pytest.raises(NoWay, match=r"(?i)ssl"):
            way(replace(address, host=NAME))


def test_what_the_connection_says_counts(front: Front, authority: Authority, other: Authority, way: Way) -> None:
    own = {"sslmode": "verify-full", "sslrootcert": str(authority.pem)}
    way(at(front, "127.0.0.1", **own))
    with pytest.raises(NoWay, match=r"(?i)certificate"):
        way(at(front, "127.0.0.1", **own | {"sslrootcert": str(other.pem)}))
    way(at(front, "127.0.0.1", sslmode="require"))
    assert front.plain == []


def test_a_weaker_mode_takes_whoever_answers(front: Front, way: Way, resolved: None) -> None:
    """Which is why it is refused before a deployment, unless the plan accepts it."""
    way(at(front, "elsewhere.test", sslmode="require"))


def test_a_secret_s_address_is_tried_as_ours_are(
    front: Front, authority: Authority, other: Authority, resolved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"postgresql://postgres:{PASSWORD}@{NAME}:{front.port}/postgres"
    monkeypatch.setenv("SSL_CERT_FILE", str(other.pem))
    assert "cannot be reached" in connects("DATABASE_URL", url).reason
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.pem))
    assert connects("DATABASE_URL", url).passed


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost", "LOCALHOST", "db.localhost", "/run/pg",
                                  "127.0.0.1,::1"])  # fmt: skip
def test_what_stays_on_this_machine_is_as_libpq_has_it(host: str) -> None:
    assert secured(host, {}) == {}
    assert Database(host, 1, "d", "u", options=(("sslmode", "disable"),)).unverified == ""


@pytest.mark.parametrize("host", ["10.0.0.1", "db", "db.example.com", "::2", "127.0.0.1,db", "localhost.example.com",
                                  "127.0.0.1.example.com", "db@127.0.0.1", "0.0.0.0", "127.0.0.1/x"])  # fmt: skip
def test_any_other_host_is_verified_in_full(host: str) -> None:
    assert secured(host, {})["sslmode"] == "verify-full"
    assert Path(secured(host, {"sslrootcert": "system"})["sslrootcert"]).is_file()
    assert Database(host, 1, "d", "u").unverified == ""


def test_authorities_that_are_named_and_not_there_are_not_made_up_for(
    way: Way, front: Front, resolved: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    with pytest.raises(NoWay, match=r"nonexistent|No such file"):
        way(at(front, NAME))


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify_everything"])
def test_a_mode_that_verifies_nothing_is_said(mode: str) -> None:
    assert Database("db", 1, "d", "u", options=(("sslmode", mode),)).unverified == f"sslmode={mode}"
    assert secured("db", {"sslmode": mode}) == {"sslmode": mode}


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_a_mode_that_verifies_is_taken(mode: str) -> None:
    assert Database("db", 1, "d", "u", options=(("sslmode", mode), ("sslrootcert", "/ca.pem"))).unverified == ""
    assert secured("db", {"sslmode": mode, "sslrootcert": "/ca.pem"})["sslrootcert"] == "/ca.pem"
