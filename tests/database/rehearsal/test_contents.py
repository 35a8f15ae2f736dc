"""Whatever a migration may leave behind, or take away, is seen and named."""

from __future__ import annotations

import pytest

from handover.adapters.postgres import Database
from handover.database.catalog import MIGRATIONS_TABLE
from handover.database.rehearsal.contents import Contents, differences, look

NOTHING = (MIGRATIONS_TABLE,)
LEFT = {
    "CREATE TYPE mood AS ENUM ('good')": "TYPE public.mood is left behind",
    "CREATE SCHEMA app": "SCHEMA app is left behind",
    'CREATE TABLE "Odd ""Name"""()': 'TABLE public.Odd "Name" is left behind',
    "CREATE SEQUENCE numbers": "SEQUENCE public.numbers is left behind",
    "CREATE VIEW open_orders AS SELECT * FROM orders": "VIEW public.open_orders is left behind",
    "CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1'": "FUNCTION public.one() is left behind",
    "CREATE RULE quiet AS ON DELETE TO visits DO NOTHING": "RULE public.visits quiet is left behind",
    "CREATE UNIQUE INDEX one_total ON orders (total, id)": "INDEX public.one_total is left behind",
    "ALTER TABLE visits ADD CONSTRAINT c CHECK (at > '2000-01-01') NOT VALID": "visits c is left behind",
    "COMMENT ON TABLE visits IS 'x'": "COMMENT public.TABLE visits is left behind",
    "ALTER TABLE visits ENABLE ROW LEVEL SECURITY": "visits is left behind",
    "ALTER TABLE orders ALTER status SET DEFAULT 'new'": "TABLE public.orders is another one",
    "ALTER TABLE orders RENAME status TO state": "TABLE public.orders is another one",
    "CREATE EXTENSION IF NOT EXISTS pg_trgm": "EXTENSION pg_trgm is left behind",
    "INSERT INTO visits DEFAULT VALUES": "visits has 2 rows instead of 1",
    "UPDATE customers SET name = 'somebody' WHERE id = 7": "rows of customers hold other values",
}


@pytest.fixture
def before(database: Database) -> Contents:
    return look(database, NOTHING)


def test_what_is_left_behind_is_named_and_nothing_else_is_told(database: Database, before: Contents) -> None:
    assert differences(before, look(database, NOTHING)) == []
    done = []
    with database.connect() as connection:
        for statement, says in LEFT.items():
            connection.execute(statement.encode())
            done.append(says)
    found = differences(before, look(database, NOTHING))
    missing = [says for says in done if not any(says in one for one in found)]
    assert missing == [], found


def test_an_index_that_a_broken_statement_has_left_is_named(database: Database, before: Contents) -> None:
    import psycopg

    with database.connect() as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY broken ON orders (status)")
    assert differences(before, look(database, NOTHING)) == ["INVALID INDEX broken is left behind"]


def test_the_body_of_a_function_is_compared_line_by_line(database: Database) -> None:
    body = "CREATE OR REPLACE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN\nUPDATE visits\n{}\n; END $$"
    with database.connect() as connection:
        connection.execute(body.format("SET at = now()").encode())
        before = look(database, NOTHING)
        connection.execute(body.format("SET at = NULL").encode())
    assert differences(before, look(database, NOTHING)) == ["FUNCTION public.f() is another one"]


def test_the_history_of_migrations_is_no_part_of_it(database: Database, before: Contents) -> None:
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE {MIGRATIONS_TABLE} (id text PRIMARY KEY)".encode())
    assert differences(before, look(database, NOTHING)) == []
