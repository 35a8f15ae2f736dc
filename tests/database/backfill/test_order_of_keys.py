"""Keys whose order is that of their own index, wherever its operators are."""

from __future__ import annotations

import pytest

from handover.adapters.postgres import Database
from tests.database.backfill.conftest import Bench
from tests.support.postgres import Servers

pytestmark = pytest.mark.sandbox
ROWS = 3000
DOUBLED = {"table": "shelf", "columns": {"total": "pieces * 2"}, "add": {"total": "int"}}
KEYS = {
    "citext": ("k extensions.citext PRIMARY KEY", "CASE WHEN n % 2 = 0 THEN upper(md5(n::text)) ELSE md5(n::text) END"),
    "ltree": ("k extensions.ltree PRIMARY KEY", "('a.b' || n)::extensions.ltree"),
    "two schemas": (
        "a int, k extensions.citext, PRIMARY KEY (a, k)",
        "n % 7, CASE WHEN n % 2 = 0 THEN upper(md5(n::text)) ELSE md5(n::text) END",
    ),
    "by pattern, descending": (
        "t date NOT NULL, k text NOT NULL, UNIQUE (k, t)", "date '2026-01-01' + n % 5, md5(n::text)"),
    "enum and text": ("s extensions.state, k text, PRIMARY KEY (s, k)",
                      "(ARRAY['z', 'a', 'm']::extensions.state[])[1 + n % 3], md5(n::text)"),
    "domain": ("k extensions.mail PRIMARY KEY",
               "CASE WHEN n % 2 = 0 THEN upper(md5(n::text)) ELSE md5(n::text) END"),
}  # fmt: skip


@pytest.fixture
def database(servers: Servers) -> Database:
    """With types and their operators in a schema that is in nobody's search path."""
    there = servers.new("owner")
    with servers.primary.named(there.name).connect() as connection:
        for statement in (
            "CREATE SCHEMA extensions", "CREATE EXTENSION citext SCHEMA extensions",
            "CREATE EXTENSION ltree SCHEMA extensions", "CREATE TYPE extensions.state AS ENUM ('z', 'a', 'm')",
            "CREATE DOMAIN extensions.mail AS extensions.citext", "GRANT USAGE ON SCHEMA extensions TO owner",
        ):  # fmt: skip
            connection.execute(statement.encode())
    return there


@pytest.mark.parametrize("kind", KEYS)
def test_every_row_is_passed_whatever_orders_its_key(database: Database, kind: str) -> None:
    columns, values = KEYS[kind]
    bench = Bench(database, DOUBLED)
    bench.ask(f"CREATE TABLE shelf ({columns}, pieces int)")
    if kind == "by pattern, descending":
        bench.ask("ALTER TABLE shelf DROP CONSTRAINT shelf_k_t_key")
        bench.ask("CREATE UNIQUE INDEX ON shelf (t DESC, k text_pattern_ops)")
    bench.ask(f"INSERT INTO shelf SELECT {values}, n FROM generate_series(1, {ROWS}) n")
    shape = bench.expand()
    ended = bench.backfill(shape)
    assert (ended.how, ended.state.filled, ended.state.passed) == ("done", ROWS, ROWS)
    assert bench.ask("SELECT count(total) FROM shelf") == [(ROWS,)]
    found = bench.stages.compare(shape)
    assert (found.rows, found.wrong) == (ROWS, 0)


def test_no_row_that_was_missed_compares_equal(database: Database) -> None:
    bench = Bench(database, DOUBLED)
    bench.ask("CREATE TABLE shelf (k extensions.citext PRIMARY KEY, pieces int)")
    bench.ask(
        "INSERT INTO shelf SELECT CASE WHEN n % 2 = 0 THEN upper(md5(n::text)) ELSE md5(n::text) END, n"
        f" FROM generate_series(1, {ROWS}) n"
    )
    shape = bench.expand()
    bench.backfill(shape)
    bench.ask("ALTER TABLE shelf DISABLE TRIGGER USER; UPDATE shelf SET total = NULL WHERE pieces % 3 = 0")
    found = bench.stages.compare(shape)
    assert (found.rows, found.wrong, len(found.keys)) == (ROWS, ROWS // 3, 10)
    first = bench.ask("SELECT k::text FROM shelf WHERE pieces % 3 = 0 ORDER BY shelf.k LIMIT 10")
    assert list(found.keys) == first
