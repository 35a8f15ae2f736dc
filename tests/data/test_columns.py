"""Types of an extension work wherever the extension is: operators are looked for where the type is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from handover.data.columns import search_path
from handover.data.seed import Seed, Seeded, SeedError, plant
from tests.data.conftest import Importing
from tests.support.postgres import Servers

EMAIL: dict[str, Any] = {"email": {}, "n": {"type": "integer"}}


@pytest.fixture
def elsewhere(servers: Servers) -> Iterator[psycopg.Connection[Any]]:
    """A new database whose extensions have a schema of their own."""
    database = servers.new("owner")
    servers.ask(
        servers.primary.named(database.name),
        "CREATE SCHEMA extensions; CREATE EXTENSION citext SCHEMA extensions; CREATE EXTENSION ltree SCHEMA extensions;"
        "GRANT USAGE ON SCHEMA extensions TO owner",
    )
    with database.connect() as session:
        session.execute("CREATE DOMAIN address AS extensions.citext")
        yield session


@pytest.mark.parametrize("sql_type", ["extensions.citext", "address"])
def test_keys_are_compared_as_the_extension_s_type_has_it(elsewhere: psycopg.Connection[Any], sql_type: str) -> None:
    elsewhere.execute(f"CREATE TABLE t (email {sql_type} PRIMARY KEY, n int)".encode())
    importing = Importing(elsewhere)
    assert importing("email,n\nBob@x.com,1\n", EMAIL, "email").imported == 1
    assert importing("email,n\nbob@x.com,1\n", EMAIL, "email").present == 1
    importing("email,n\nbob@x.com,2\nANN@x.com,1\nann@x.com,1\n", EMAIL, "email")
    assert importing.report == [
        ["2", "email", "bob@x.com", "is in the table already, with another n"],
        ["4", "email", "ann@x.com", "has the same key as line 3"],
    ]


def test_values_are_looked_up_as_the_extension_s_type_has_it(elsewhere: psycopg.Connection[Any]) -> None:
    elsewhere.execute(
        "CREATE TABLE u (id int, email extensions.citext UNIQUE); INSERT INTO u VALUES (7, 'Bob@x.com');"
        "CREATE TABLE t (id int PRIMARY KEY, u int)"
    )
    columns = {"id": {"type": "integer"}, "u": {"lookup": {"table": "u", "match": "email", "take": "id"}}}
    importing = Importing(elsewhere)
    assert importing("id,u\n1,bob@x.com\n", columns).imported == 1
    assert importing.one("SELECT u FROM t") == 7


def test_a_seed_is_compared_as_the_extension_s_type_has_it(elsewhere: psycopg.Connection[Any]) -> None:
    elsewhere.execute("CREATE TABLE t (path extensions.ltree PRIMARY KEY, email extensions.citext)")
    seed = Seed.model_validate({"tables": {"t": {"key": ["path"], "rows": [{"path": "a.b", "email": "Bob@x.com"}]}}})
    assert plant(elsewhere, seed, lambda _: "") == Seeded({"t": 1})
    elsewhere.execute("UPDATE t SET email = 'bob@x.com'")
    assert plant(elsewhere, seed, lambda _: "") == Seeded({})
    elsewhere.execute("UPDATE t SET email = 'ann@x.com'")
    with pytest.raises(SeedError, match=r"t path=a\.b has another email"):
        plant(elsewhere, seed, lambda _: "")


def test_the_search_path_has_every_schema_once(elsewhere: psycopg.Connection[Any]) -> None:
    elsewhere.execute('CREATE SCHEMA "a ""b"; CREATE TABLE "a ""b".t (a address[], b extensions.ltree, c text)')
    assert search_path(elsewhere, ['"a ""b".t', "nothing"]) == '"public", "a ""b", "extensions", pg_temp'
