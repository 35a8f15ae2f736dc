"""One number from a real PostgreSQL: what a statement may give, and that it can neither write, nor hang, nor tell."""

from __future__ import annotations

import asyncio

import pytest

from handover.adapters.monitors import KINDS
from handover.plan.sources import Sql
from handover.ports.metrics import NoAnswer, Query
from tests.support.postgres import PASSWORD
from tests.support.steps import connect_to

SECRET = "guest@example.com"
BIG = "(SELECT string_agg(repeat('x', 1000), '') FROM generate_series(1, 10000))"


@pytest.fixture
def shop(servers, monkeypatch):
    """A database with one row that nobody may see."""
    database = servers.new("owner")
    there = {"host": database.host, "port": database.port, "login": "owner", "password": PASSWORD}
    connect_to(monkeypatch, "monitor", conn_type="postgres", schema=database.name, **there)
    with database.connect() as session:
        session.execute(f"CREATE TABLE guests AS SELECT 1 AS id, '{SECRET}' AS email")
        yield session


def looked(*statements: str, seconds: float = 20.0):
    """Value, or why there is none, of each statement."""
    rules = Sql(type="sql", connection="monitor", timeout_seconds=seconds)
    source = KINDS["sql"]("mine", rules, [Query(f"q{n}", text) for n, text in enumerate(statements)])

    async def work():
        try:
            return [one.value if one.value is not None else one.why for one in await source.measure()]
        except NoAnswer as error:
            return str(error)
        finally:
            await source.close()

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("SELECT count(*) FROM guests", 1),
        ("SELECT count(*) FROM guests;", 1),
        ("select 0.25::numeric", 0.25),
        ("SELECT 1.5::float4", 1.5),
        ("SELECT 7::smallint", 7),
        ("WITH a AS (SELECT 3 AS n) SELECT n FROM a", 3),
        ("VALUES (4)", 4),
        ("SELECT count(*) FROM guests WHERE email LIKE '%;%'", 0),
    ],
)
def test_one_row_with_one_number(shop, statement, value):
    assert looked(statement) == [value]


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("SELECT id FROM guests WHERE id > 1", "no rows, exactly one is wanted"),
        ("SELECT generate_series(1, 100000000)", "two rows or more, exactly one is wanted"),
        ("SELECT id, id FROM guests", "2 columns, exactly one is wanted"),
        ("SELECT email FROM guests", "it gives text, not a number"),
        ("SELECT true", "it gives bool, not a number"),
        (f"SELECT {BIG}", "it gives text, not a number"),
        ("SELECT now()", "it gives timestamptz, not a number"),
        ("SELECT NULL::int", "nothing, not a number"),
        ("SELECT 'NaN'::float8", "nan is no value"),
        ("SELECT 'Infinity'::numeric", "inf is no value"),
        ("SELECT email::int FROM guests", "monitor: InvalidTextRepresentationError (22P02)"),
        ("SELECT 1/(id-1) FROM guests", "monitor: DivisionByZeroError (22012)"),
        ("SELECT nothing FROM guests", 'monitor: UndefinedColumnError (42703): column "nothing" does not exist'),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands"),
        ("SELECT 1; DROP TABLE guests", "cannot insert multiple commands"),
        ("COMMIT", "no columns, exactly one is wanted"),
        ("DELETE FROM guests RETURNING id", "ReadOnlySQLTransactionError (25006)"),
        ("WITH d AS (DELETE FROM guests RETURNING id) SELECT count(*) FROM d", "ReadOnlySQLTransactionError (25006)"),
        ("SELECT id FROM guests FOR UPDATE", "ReadOnlySQLTransactionError (25006)"),
        ("SELECT set_config('transaction_read_only', 'off', true)::int", "(25001)"),
        ("SELECT pg_sleep(100)", "it gives void, not a number"),
        ("SELECT", "no columns, exactly one is wanted"),
        ("nonsense", "(42601)"),
    ],
)
def test_everything_else_is_no_data_with_the_reason_and_no_row_in_it(shop, statement, said):
    (found,) = looked(statement, "SELECT 7")[:1]
    assert said in str(found)
    assert SECRET not in str(found)
    assert shop.execute("SELECT count(*) FROM guests").fetchone() == (1,)


def test_after_a_bad_statement_the_session_is_as_good_as_before(shop):
    good = "SELECT count(*) FROM guests"
    found = looked("SELECT email::int FROM guests", good, "nonsense", good)
    assert (found[1], found[3]) == (1, 1)


def test_a_statement_that_takes_too_long_is_ended_by_the_server(shop):
    found = looked("SELECT count(*) FROM pg_sleep(3600)", seconds=0.5)
    assert "the statement took longer than 0.45 s" in str(found) or "no answer within 0.5 s" in str(found)
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(3600)' AND pid <> pg_backend_pid()"
    while shop.execute(busy + " AND state = 'active'").fetchone() != (0,):
        pass


def test_a_statement_that_waits_for_a_lock_is_no_data_in_time(shop):
    with shop.transaction():
        shop.execute("LOCK TABLE guests IN ACCESS EXCLUSIVE MODE")
        found = str(looked("SELECT count(*) FROM guests", seconds=0.5))
        assert "the statement took longer" in found or "no answer within" in found  # whoever sees it first


def test_a_wrong_password_names_no_password(shop, servers, monkeypatch):
    there = {"host": servers.primary.host, "port": servers.primary.port, "login": "owner", "password": "wr0ng-one"}
    connect_to(monkeypatch, "monitor", conn_type="postgres", schema="postgres", **there)
    found = looked("SELECT 1")
    assert "InvalidPasswordError (28P01)" in found
    assert "wr0ng-one" not in found


def test_no_connection_is_said(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_MONITOR", raising=False)
    assert looked("SELECT 1") == "there is no connection monitor"


def test_a_session_that_the_server_ends_is_made_anew(shop):
    rules = Sql(type="sql", connection="monitor", timeout_seconds=20)
    source = KINDS["sql"]("mine", rules, [Query("q", "SELECT count(*) FROM guests")])
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"

    async def work():
        (first,) = await source.measure()
        await asyncio.to_thread(shop.execute, f"SELECT pg_terminate_backend(pid) {others}")
        values = []
        while not values:
            try:
                values = [one.value for one in await source.measure() if one.value is not None]
            except NoAnswer:
                continue
        await source.close()
        return first.value, values[0]

    assert asyncio.run(work()) == (1, 1)
