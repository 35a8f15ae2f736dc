"""Seeding a new database: all or nothing, once, and never over anybody's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import psycopg
import pytest
import yaml

from handover.data.ledgers import LEDGERS
from handover.data.passwords import PasswordHash
from handover.data.seed import Seed, Seeded, SeedError, load_seed, plant, seed_file
from handover.database import history
from handover.database.backfill import checkpoint
from handover.database.catalog import MIGRATIONS_TABLE
from handover.plan.migration import HistoryTable, MigrationTool
from sandbox.hotel.security import verify_password
from tests.support.postgres import Servers

PASSWORD = "correct horse battery staple"
SHOP: dict[str, Any] = {
    "password_hash": {"scheme": "scrypt", "n": 1024, "r": 8, "p": 1},
    "tables": {
        "customers": {"key": ["email"], "rows": [{"email": "admin@example.com"}, {"email": {"password_of": "x"}}]},
        "orders": {
            "key": ["number"],
            "rows": [{
                "number": "TEST-1", "ordered": "2030-01-07", "total": 12.5, "gift": True, "items": None,
                "customer_id": {"take": "id", "from": "customers", "where": {"email": "admin@example.com"}},
                "note": {"password_of": "shop_admin"},
            }],
        },
    },
}  # fmt: skip


def shop(**orders: Any) -> Seed:
    tables = {**SHOP["tables"], "customers": {"key": ["email"], "rows": [{"email": "admin@example.com"}]}}
    rows = [{**SHOP["tables"]["orders"]["rows"][0], **orders}]
    return Seed.model_validate({**SHOP, "tables": {**tables, "orders": {"key": ["number"], "rows": rows}}})


def secret(_: str) -> str:
    return PASSWORD


@pytest.fixture
def empty(connection: psycopg.Connection[Any]) -> psycopg.Connection[Any]:
    connection.execute("TRUNCATE customers, orders")
    return connection


def orders(connection: psycopg.Connection[Any]) -> list[Any]:
    columns = "number, ordered::text, total::text, gift, items, email"
    query = f"SELECT {columns} FROM orders JOIN customers c ON customer_id = c.id"
    return connection.execute(query.encode()).fetchall()


@pytest.mark.plan("Seed database with minimal data:")
def test_rows_are_planted_once(empty: psycopg.Connection[Any]) -> None:
    assert plant(empty, shop(), secret) == Seeded({"customers": 1, "orders": 1})
    assert orders(empty) == [("TEST-1", "2030-01-07", "12.50", True, None, "admin@example.com")]
    before = empty.execute("SELECT id, xmin::text, note FROM orders").fetchall()
    assert plant(empty, shop(), secret) == Seeded({})
    assert empty.execute("SELECT id, xmin::text, note FROM orders").fetchall() == before


def test_passwords_are_hashed_as_the_service_checks_them_and_nowhere_in_the_log(
    empty: psycopg.Connection[Any], servers: Servers
) -> None:
    servers.ask(servers.primary, f"ALTER DATABASE {empty.info.dbname} SET log_statement = 'all'")
    with servers.owned(empty.info.dbname).connect() as logged:
        plant(logged, shop(), secret)
    row = empty.execute("SELECT note FROM orders").fetchone()
    assert row
    assert verify_password(PASSWORD, row[0])
    assert not verify_password("another", row[0])
    log = servers.log.read_text()
    assert "INSERT INTO" in log
    assert PASSWORD not in log


def test_the_hash_is_of_its_scheme_only() -> None:
    scheme = PasswordHash(scheme="scrypt", n=1024, r=8, p=1)
    assert scheme.fits("a", scheme.make("a"))
    assert scheme.make("a") != scheme.make("a")
    assert not any(scheme.fits("a", stored) for stored in ("!", "", "scrypt$xx$yy", "scrypt$00$00", "bcrypt$00$00"))


def refusal(connection: psycopg.Connection[Any], seed: Seed, password: str = PASSWORD) -> str:
    with pytest.raises(SeedError) as error:
        plant(connection, seed, lambda _: password)
    return str(error.value)


def test_anybody_elses_rows_are_named_and_left_alone(connection: psycopg.Connection[Any]) -> None:
    assert refusal(connection, shop()) == (
        "nothing was changed: only an empty database is seeded, and this one has rows (customers: 300 rows) other than "
        "the seed's: customers email=admin@example.com is missing; orders number=TEST-1 is missing"
    )
    assert connection.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize(
    "table", ["_prisma_migrations", "alembic_version", "SequelizeMeta", "app.schema_migrations", "databasechangelog"]
)
def test_what_a_tool_wrote_down_of_its_migrations_is_nobody_s_row(empty: psycopg.Connection[Any], table: str) -> None:
    name = ".".join(f'"{part}"' for part in table.split("."))
    empty.execute(f"CREATE SCHEMA app; CREATE TABLE {name} (v text); INSERT INTO {name} VALUES ('1')".encode())
    assert plant(empty, shop(), secret) == Seeded({"customers": 1, "orders": 1})


def test_the_ledger_of_every_tool_that_a_plan_may_name_is_known() -> None:
    known = [MigrationTool(command=("x",), history=tool) for tool in get_args(HistoryTable)]
    names = {name for tool in known for name in history.tables(tool)}
    assert names | {checkpoint.TABLE.removeprefix("public."), MIGRATIONS_TABLE} <= set(LEDGERS)


def test_what_somebody_changed_is_named_and_kept(empty: psycopg.Connection[Any]) -> None:
    plant(empty, shop(), secret)
    empty.execute("UPDATE orders SET total = 1, gift = false")
    assert refusal(empty, shop(), "new password").endswith(
        "other than the seed's: orders number=TEST-1 has another total, gift, note"
    )
    assert orders(empty)[0][2] == "1.00"


@pytest.mark.parametrize(
    ("orders", "said"),
    [
        ({"total": 13}, 'the database refuses the seed: new row for relation "orders" violates check constraint '
                        '"orders_total_check"'),
        ({"ordered": "2030-02-30"}, 'the database refuses the seed: date/time field value out of range: "..."'),
        ({"customer_id": {"take": "id", "from": "customers", "where": {"email": "nobody"}}},
         "nothing was changed: orders, row 1: there is no id for customer_id in customers"),
        ({"items": {"take": "items", "from": "orders", "where": {"number": "TEST-0"}}, "total": "1.505"},
         "nothing was changed: orders, row 1: total is numeric(8,2), which would round or cut the value; there is no "
         "items for items in orders"),
        ({"items": {"take": "items", "from": "orders", "where": {"colour": "red"}}},
         "the table orders has no column colour, which orders.items names"),
        ({"colour": "red"}, "the table orders has no column colour; is its schema that of the seed?"),
    ],
)  # fmt: skip
def test_a_seed_that_does_not_fit_leaves_nothing(
    empty: psycopg.Connection[Any], orders: dict[str, Any], said: str
) -> None:
    assert refusal(empty, shop(**orders)) == said
    assert empty.execute("SELECT count(*) FROM customers").fetchone() == (0,)


def planted(connection: psycopg.Connection[Any], sql: str, table: str, *rows: dict[str, Any]) -> Seeded:
    """Plants rows into a table of a database that has nothing else; their first column is the key."""
    connection.execute("DROP TABLE IF EXISTS orders, customers")
    connection.execute(sql.encode())
    seed = Seed.model_validate({"tables": {table: {"key": [next(iter(rows[0]))], "rows": rows}}})
    assert plant(connection, seed, secret).inserted
    return plant(connection, seed, secret)


def test_the_service_s_next_row_does_not_collide_with_a_seeded_one(connection: psycopg.Connection[Any]) -> None:
    sql = 'CREATE TABLE "Room" ("roomId" serial PRIMARY KEY, no text, j json)'
    rows = ({"roomId": 1, "no": "a", "j": '{"a": 1}'}, {"roomId": 2, "no": "b"})
    assert planted(connection, sql, "Room", *rows) == Seeded({})
    assert connection.execute('INSERT INTO "Room" (no) VALUES (\'c\') RETURNING "roomId"').fetchone() == (3,)


@pytest.mark.parametrize("name", ["tax %", "%s", "$1", "{a}", 'a"b', "Über"])
def test_a_seeded_column_may_have_any_name(connection: psycopg.Connection[Any], name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    rows = ({"id": "1", name: "1"}, {"id": "2", "other": {"take": name, "from": "t", "where": {name: "1"}}})
    table = f"CREATE TABLE t (id int PRIMARY KEY, {quoted} int, other int)"
    assert planted(connection, table, "t", *rows) == Seeded({})


@pytest.mark.parametrize("sql_type", ["timestamp(3)", "timestamp", "app.moment", "app.later"])
def test_a_seeded_time_is_stored_in_utc(connection: psycopg.Connection[Any], sql_type: str) -> None:
    sql = (
        "CREATE SCHEMA app; CREATE DOMAIN app.moment AS timestamp(3); CREATE DOMAIN app.later AS app.moment;"
        f"CREATE TABLE app.t (id int PRIMARY KEY, at {sql_type}); SET timezone = 'Asia/Tokyo'"
    )
    rows = ({"id": 1, "at": "2024-07-01T10:00:00+02:00"}, {"id": 2, "at": "2024-07-01 10:00:00"})
    assert planted(connection, sql, "app.t", *rows) == Seeded({})
    found = connection.execute("SELECT at::text FROM app.t ORDER BY id").fetchall()
    assert found == [("2024-07-01 08:00:00",), ("2024-07-01 10:00:00",)]


def test_values_of_a_file_are_stored_as_they_are_written(connection: psycopg.Connection[Any], tmp_path: Path) -> None:
    path = tmp_path / "seed.yaml"
    path.write_text("""
        tables:
          t:
            key: [id]
            rows:
              - {id: 01, country: NO, zip: 01234, closes: 22:30, version: 1.10, number: 1_000, nothing: ~, empty: "",
                 quoted: "null", open: yes, day: 2030-01-07, at: 2030-01-07T10:00:00+02:00,
                 j: '{"a": 1.10}', a: "{NO,1.0}"}
        """)
    connection.execute(
        "DROP TABLE orders, customers; CREATE TABLE t (id int PRIMARY KEY, country text, zip varchar(5), closes time,"
        " version text, number text, nothing text, empty text, quoted text, open boolean, day date, at timestamptz,"
        " j json, a text[])"
    )
    assert plant(connection, load_seed(path), secret).inserted
    assert plant(connection, load_seed(path), secret) == Seeded({})
    connection.execute("SET timezone = 'UTC'")
    assert connection.execute("SELECT t::text FROM t").fetchone() == (
        '(1,NO,01234,22:30:00,1.10,1_000,,"",null,t,2030-01-07,"2030-01-07 08:00:00+00","{""a"": 1.10}","{NO,1.0}")',
    )


@pytest.mark.parametrize(
    ("sql_type", "written", "cut"),
    [
        ("numeric(8, 2)", "1.500", False), ("numeric(8, 2)", "1.505", True), ("price", "1.505", True),
        ("numeric(5, -2)", "1200", False), ("numeric(5, -2)", "1234", True), ("money", "1.555", True),
        ("numeric(8, 2)[]", "{1.5,1.505}", True), ("real", "0.1", False), ("real", "16777217", True),
        ("varchar(3)", "abc", False), ("varchar(3)", "abcd", True), ("char(3)", "a", False), ("char(3)", "abcd", True),
        ("bit(3)", "1011", True), ("timestamp(0)", "2024-12-31 23:59:59.6", True), ("interval(0)", "1.5 s", True),
        ("interval day", "1 day 2 hours", True), ("time", "10:00:00.1234567", True),
        ("time", "10:00:00.1234560", False), ("date", "2024-07-01", False), ("date", "2024-07-01 10:00", True),
    ],
)  # fmt: skip
def test_a_value_that_the_column_would_round_or_cut_is_refused(
    connection: psycopg.Connection[Any], sql_type: str, written: str, cut: bool
) -> None:
    connection.execute("CREATE DOMAIN price AS numeric(8, 2)")
    table = f"CREATE TABLE t (id int PRIMARY KEY, v {sql_type})"
    if not cut:
        assert planted(connection, table, "t", {"id": "1", "v": written}) == Seeded({})
        return
    with pytest.raises(SeedError, match=r"nothing was changed: t, row 1: v is .*, which would round or cut the value"):
        planted(connection, table, "t", {"id": "1", "v": written})
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)


def test_a_hash_that_is_longer_than_its_column_is_refused(empty: psycopg.Connection[Any]) -> None:
    empty.execute("ALTER TABLE orders ALTER note TYPE varchar(60)")
    assert refusal(empty, shop()) == (
        "nothing was changed: orders, row 1: note is character varying(60), which would round or cut the value"
    )


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY", r"the table t makes id itself \(GENERATED ALWAYS\)"),
        ("no int, id int PRIMARY KEY GENERATED ALWAYS AS (no * 2) STORED", "the table t makes id itself"),
        ("id int PRIMARY KEY); CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''shut''; END';"
         "CREATE TRIGGER no BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION no(", "refuses the seed: RAISE in"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_seeded_says_so(connection: psycopg.Connection[Any], sql: str, says: str) -> None:
    with pytest.raises(SeedError, match=says):
        planted(connection, f"CREATE TABLE t ({sql})", "t", {"id": 1})


def test_a_missing_password_or_table_says_what_to_do(empty: psycopg.Connection[Any]) -> None:
    assert refusal(empty, shop(), "") == (
        "the connection shop_admin has no password: set it, then run this again; nothing was changed"
    )
    assert empty.execute("SELECT count(*) FROM customers").fetchone() == (0,)
    empty.execute("DROP TABLE orders")
    assert refusal(empty, shop()) == "there is no table orders: migrate the database first"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"password_hash": None}, "password_hash is missing: how does the service hash passwords?"),
        ({"tables": {}}, "tables: Dictionary should have at least 1 item"),
        ({"tables": SHOP["tables"]}, "tables.customers: Value error, row 2 has no plain value for its key email"),
        ({"tables": {"t": {"key": ["a"], "rows": [{"a": 1}, {"a": 1}]}}}, "row 2 has the key of an earlier row"),
        (
            {"tables": {"t": {"key": ["a"], "rows": [{"a": "1", "b": [1]}]}}},
            "tables.t.rows.0.b: Value error, a list or a map is no value: write JSON, or an array, in quotes",
        ),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_seed_file_names_file_key_and_reason(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "seed.yaml"
    good = {"password_hash": SHOP["password_hash"], "tables": {"orders": SHOP["tables"]["orders"]}}
    path.write_text(yaml.safe_dump(good | change))
    with pytest.raises(SeedError) as error:
        load_seed(path)
    assert str(error.value).startswith(f"{path}:")
    assert said in str(error.value)


def test_a_column_that_is_there_twice_in_a_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seed.yaml"
    path.write_text("tables:\n  t:\n    key: [a]\n    rows:\n      - a: 1\n        a: 2\n")
    with pytest.raises(SeedError, match="a is in line 5 and again in line 6"):
        load_seed(path)


@pytest.mark.plan("Admin user", "Sample hotels/rooms (from configuration)", "Test bookings (for validation)")
def test_the_seed_of_the_repository_is_valid() -> None:
    assert list(load_seed(seed_file("pms.yaml")).tables) == ["users", "rooms", "bookings"]
