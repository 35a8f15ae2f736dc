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


def changed(database: Database, made: str, again: str, granted: tuple[str, ...] = ()) -> list[str]:
    """What is told of a database after some statements, compared with before them."""
    with database.connect() as connection:
        connection.execute(made.encode())
        before = look(database, NOTHING)
        connection.execute(again.encode())
    return differences(before, look(database, NOTHING), granted)


@pytest.mark.parametrize("name", ["oldn", '"Old ""n"" "'])
def test_the_name_of_a_not_null_is_no_difference(database: Database, name: str) -> None:
    made = f"CREATE TABLE {name} (id int PRIMARY KEY, a text NOT NULL); ALTER TABLE {name} RENAME TO newn"
    assert (
        changed(database, made, "ALTER TABLE newn ALTER a DROP NOT NULL; ALTER TABLE newn ALTER a SET NOT NULL") == []
    )
    assert changed(database, "", "ALTER TABLE newn ALTER a DROP NOT NULL") == ["TABLE public.newn is another one"]


@pytest.mark.parametrize(
    ("made", "again", "told"),
    [
        ("", "SELECT setval('orders_id_seq', 1)", ["orders_id_seq"]),
        ("", "ALTER TABLE orders ALTER id RESTART", ["orders_id_seq"]),
        ("", "SELECT nextval('orders_id_seq')", []),
        ("CREATE SEQUENCE down INCREMENT -1; SELECT setval('down', -7)", "SELECT setval('down', -2)", ["down"]),
        ("CREATE SEQUENCE down INCREMENT -1; SELECT setval('down', -7)", "SELECT nextval('down')", []),
    ],
)
def test_a_sequence_that_is_set_back_is_named(database: Database, made: str, again: str, told: list[str]) -> None:
    says = [f"the sequence {name} gives numbers again that it gave before" for name in told]
    assert changed(database, made, again) == says


VIEW = "CREATE VIEW seen AS SELECT id FROM orders"
FUNCTION = "CREATE FUNCTION one(n int) RETURNS int LANGUAGE sql AS 'SELECT 1'"


@pytest.mark.parametrize(
    ("made", "again", "granted", "told"),
    [
        (f"{VIEW}; GRANT SELECT ON seen TO record", f"DROP VIEW seen; {VIEW}", (), ["public.seen"]),
        (f"{VIEW}; GRANT SELECT (id) ON seen TO record", f"DROP VIEW seen; {VIEW}", (), ["public.seen"]),
        (VIEW, f"DROP VIEW seen; {VIEW}", ("public.seen",), ["public.seen"]),
        (VIEW, f"DROP VIEW seen; {VIEW}", (), []),
        (VIEW, f"DROP VIEW seen; {VIEW}; GRANT SELECT ON seen TO record", ("public.seen",), []),
        (VIEW, VIEW.replace("CREATE", "CREATE OR REPLACE"), ("public.seen",), []),
        (f"{FUNCTION}; GRANT EXECUTE ON FUNCTION one TO record", f"DROP FUNCTION one; {FUNCTION}", (),
         ["public.one(n integer)"]),
        (f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO record; {VIEW}", f"DROP VIEW seen; {VIEW}", (), []),
    ],
)  # fmt: skip
def test_rights_that_what_is_made_again_has_lost_are_told(
    database: Database, made: str, again: str, granted: tuple[str, ...], told: list[str]
) -> None:
    says = [f"{name} is made again, and what others may do with it (GRANT) is gone" for name in told]
    assert changed(database, made, again, granted) == says
