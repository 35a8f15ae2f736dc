"""A session of ours is the same on every server, whatever its defaults are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from handover.adapters import postgres
from handover.adapters.postgres import SESSION, Database
from tests.support.postgres import PASSWORD, Servers

HOSTILE = {
    "search_path": "hidden, public", "application_name": "x", "statement_timeout": "70s", "lock_timeout": "70s",
    "row_security": "on", "client_encoding": "LATIN1", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601",
    "bytea_output": "escape", "extra_float_digits": "-10", "standard_conforming_strings": "off",
    "default_transaction_read_only": "on", "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "transaction_timeout": "70s", "idle_in_transaction_session_timeout": "70s", "idle_session_timeout": "70s",
    "client_connection_check_interval": "0", "tcp_keepalives_idle": "7200",
}  # fmt: skip
SAID = {"statement_timeout": "0", "lock_timeout": "1min", "DateStyle": "ISO, DMY"}


@pytest.fixture(scope="module", params=["UTF8", "LATIN1"])
def hostile(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A database whose role has every setting that a session of ours relies on set to something else."""
    name = f"hostile_{request.param.lower()}"
    servers.ask(
        servers.primary, f"CREATE DATABASE {name} ENCODING '{request.param}' TEMPLATE template0 LC_COLLATE 'C'"
        f" LC_CTYPE 'C' OWNER owner",
    )  # fmt: skip
    servers.ask(servers.primary, f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'")
    servers.ask(servers.primary, f"GRANT CREATE ON DATABASE {name} TO {name}")
    servers.ask(servers.primary.named(name), f"GRANT CREATE ON SCHEMA public TO {name}")
    for setting, value in HOSTILE.items():
        quoted = value if setting == "search_path" else f"'{value}'"
        servers.ask(servers.primary, f"ALTER ROLE {name} SET {setting} = {quoted}")
    yield servers.owned(name, name)
    servers.ask(servers.primary, f"DROP DATABASE {name} WITH (FORCE)")
    servers.ask(servers.primary, f"DROP ROLE {name}")


def expected() -> dict[str, str]:
    return {**SESSION, **SAID}


def settings(connection: psycopg.Connection[tuple[str, str]]) -> dict[str, str]:
    return {name: connection.execute(f"SHOW {name}".encode()).fetchone()[0] for name in expected()}  # type: ignore[index]


def test_defaults_of_server_and_role_do_not_matter(hostile: Database) -> None:
    with hostile.connect() as connection:
        assert settings(connection) == expected()


async def test_nor_do_they_for_asyncio(hostile: Database) -> None:
    connection = await hostile.open()
    try:
        assert {name: await connection.fetchval(f"SHOW {name}") for name in expected()} == expected()
    finally:
        await connection.close()


async def test_session_for_people_s_queries_is_as_the_server_gives_it(hostile: Database) -> None:
    connection = await hostile.open(bare=True)
    try:
        assert await connection.fetchval("SHOW search_path") == "hidden, public"
        assert await connection.fetchval("SHOW statement_timeout") == "70s"
    finally:
        await connection.close()


def test_text_is_what_was_sent(hostile: Database) -> None:
    with hostile.connect() as connection:
        connection.execute("CREATE TEMPORARY TABLE t (name text)")
        connection.execute("INSERT INTO t VALUES (%s)", ("Müller",))
        assert connection.execute("SELECT name, length(name) FROM t").fetchone() == ("Müller", 6)


def test_what_a_script_has_set_is_undone(hostile: Database, servers: Servers) -> None:
    servers.ask(servers.primary, f"GRANT owner TO {hostile.user}")
    try:
        with hostile.connect() as connection:
            connection.execute("CREATE TEMPORARY TABLE seen ()")
            connection.execute("SET ROLE owner")
            for setting, value in HOSTILE.items():
                connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
            connection.execute("SELECT pg_catalog.set_config('search_path', '', false)")
            postgres.forget(connection)
            assert settings(connection) == expected()
            assert connection.execute("SELECT current_user, to_regclass('pg_temp.seen')").fetchone() == (
                hostile.user, None,
            )  # fmt: skip
    finally:
        servers.ask(servers.primary, f"REVOKE owner FROM {hostile.user}")


def test_rows_that_a_policy_hides_are_an_error(servers: Servers) -> None:
    database = servers.new("owner")
    with database.connect() as connection:
        connection.execute(
            b"CREATE TABLE t AS SELECT n FROM generate_series(1, 90) n; ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
            b" ALTER TABLE t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (n <= 10)"
        )
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
            connection.execute("SELECT count(*) FROM t")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("INSERT INTO t VALUES ('secret')", 'duplicate key value violates unique constraint "t_pkey"'),
        ("SELECT 'secret'::int", 'invalid input syntax for type integer: "..."'),
        ("SELECT 'secret'::timestamp", 'invalid input syntax for type timestamp: "..."'),
        ("SELECT nothing", 'column "nothing" does not exist'),
    ],
)
def test_cause_of_an_error_quotes_no_row(servers: Servers, statement: str, said: str) -> None:
    with servers.new("owner").connect() as connection:
        connection.execute("CREATE TABLE t (name text PRIMARY KEY)")
        connection.execute("INSERT INTO t VALUES ('secret')")
        with pytest.raises(psycopg.Error) as error:
            connection.execute(statement.encode())
        assert postgres.cause(error.value) == said


def test_cause_of_a_refused_connection(servers: Servers) -> None:
    with pytest.raises(psycopg.Error) as error:
        replace(servers.primary, password="wrong-7a1f").connect()
    said = postgres.cause(error.value)
    assert "password authentication failed" in said
    assert "wrong-7a1f" not in said
