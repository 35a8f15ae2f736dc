"""What has become of what tables held: exactly for small ones, by a sample for large ones."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import sketch, validation
from handover.models.deployment import MigrationRecord
from handover.models.evidence import Evidence

TABLES = ["customers", "orders", "lines", "visits"]


@pytest.fixture
def held(connection: psycopg.Connection[Any]) -> validation.Counts:
    return validation.count(connection, TABLES)


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these tables were too large to be read in full."""
    monkeypatch.setattr(sketch, "SMALL", 10)


def compared(
    connection: psycopg.Connection[Any], held: validation.Counts, most: float | None = None
) -> dict[str, Evidence]:
    return {found.check: found for found in sketch.compare(connection, held.sketches, most)}


def test_small_tables_are_compared_to_the_last_row(
    connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    assert held.sketches.keys() == {"customers", "orders"}  # no other has a key that is one integer
    connection.execute("INSERT INTO customers (email, name) VALUES ('new@example.com', 'N')")
    connection.execute("ALTER TABLE customers ADD COLUMN vip boolean NOT NULL DEFAULT false")
    connection.execute("ALTER TABLE customers ALTER COLUMN id TYPE integer")
    found = compared(connection, held)
    assert {one.reason for one in found.values()} == {
        "all 300 rows are what they were",
        "all 900 rows are what they were",
    }
    connection.execute("UPDATE orders SET total = total + 1 WHERE id = 437")
    assert compared(connection, held)["content of orders"].reason.startswith("sampled, 128 rows: ")


def test_a_sample_tells_in_which_column_how_many_changed(
    large: None, connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    as_before = compared(connection, held)
    assert as_before["content of orders"].reason == "sampled, 128 rows: as they were"
    connection.execute("ALTER TABLE customers ALTER COLUMN email DROP NOT NULL")
    connection.execute("UPDATE customers SET email = NULL WHERE id % 2 = 0")
    connection.execute("UPDATE orders SET status = 'lost'")
    connection.execute("ALTER TABLE orders DROP COLUMN total")
    found = compared(connection, held)
    (seen,) = [one for one in found["content of customers"].measurements if "email" in one.what]
    assert seen.what == "customers.email changed, of 128 rows"
    assert 40 < (number := int(seen.value or 0)) < 90
    assert found["content of customers"].reason == (
        f"sampled, 128 rows: email has changed in {number} ({number} empty now)"
    )
    assert found["content of orders"].reason == "sampled, 128 rows: total is gone, status has changed in 128"
    assert all(one.passed for one in found.values())


def test_more_changes_than_the_plan_allows_are_corruption(
    large: None, connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    connection.execute("UPDATE orders SET status = 'lost' WHERE id <= 300")
    assert compared(connection, held, most=0.5)["content of orders"].passed
    bad = compared(connection, held, most=0.2)["content of orders"]
    assert not bad.passed
    assert bad.reason.endswith("; 20% may (migration.max_changed)")


AS_WERE = "as they were"
TYPES = {
    "scale": ("numeric(10, 2)", "n * 1.25", "numeric(12, 4)", AS_WERE),
    "whole number": ("int", "n * 100", "numeric(20, 3)", AS_WERE),
    "date": ("date", "date '2026-01-01' + n", "timestamp", AS_WERE),
    "far date": ("date", "date '5874000-01-01' + n", "date", AS_WERE),
    "json": ("json", """('{"b":  1, "a": ' || n || '}')::json""", "jsonb", AS_WERE),
    "json that is no jsonb": ("json", r"""('"\u0000' || n || '"')::json""", "json", AS_WERE),
    "padded": ("char(5)", "n::text", "text", AS_WERE),
    "longer": ("varchar(5)", "n::text", "text", AS_WERE),
    "enum": ("text", "'a'", "letter USING held::letter", AS_WERE),
    "domain": ("numeric(10, 2)", "n", "cents", AS_WERE),
    "zone": ("timestamp", "timestamp '2026-01-01' + n * interval '1 s'", "timestamptz", "held is of another type now"),
    "float": ("real", "n / 3.0", "float8", "held is of another type now"),
    "array": ("numeric(10, 2)[]", "ARRAY[n]", "numeric(12, 4)[]", "held is of another type now"),
    "rounded": ("numeric(10, 2)", "n + 0.01", "numeric(10, 1)", "held has changed in "),
}


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_that_holds_the_same_changes_no_value(
    large: None, connection: psycopg.Connection[Any], kind: str
) -> None:
    was, value, now, said = TYPES[kind]
    connection.execute("CREATE TYPE letter AS ENUM ('a'); CREATE DOMAIN cents AS numeric(12, 4)")
    connection.execute(f"CREATE TABLE typed (id int PRIMARY KEY, held {was})".encode())
    connection.execute(f"INSERT INTO typed SELECT n, {value} FROM generate_series(1, 200) n".encode())
    held = validation.count(connection, ["typed"])
    connection.execute(f"ALTER TABLE typed ALTER held TYPE {now}, ALTER id TYPE bigint".encode())
    found = compared(connection, held, most=0.0)["content of typed"]
    assert found.reason.startswith(f"sampled, 128 rows: {said}")
    assert found.passed == ("has changed" not in said)


def test_of_another_type_a_value_that_is_gone_has_changed_all_the_same(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE typed (id int PRIMARY KEY, held real)")
    connection.execute("INSERT INTO typed SELECT n, n FROM generate_series(1, 200) n")
    held = validation.count(connection, ["typed"])
    connection.execute("ALTER TABLE typed ALTER held TYPE float8 USING NULL")
    found = compared(connection, held, most=0.05)["content of typed"]
    assert not found.passed
    assert "held is of another type now: its values were not compared, held has changed in 128 (128 empty now)" in (
        found.reason
    )


def test_values_that_are_equal_and_written_otherwise_are_no_changes(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE TABLE typed (id int PRIMARY KEY, price numeric, size float8)")
    connection.execute("INSERT INTO typed SELECT n, 1.0, 0 FROM generate_series(1, 200) n")
    held = validation.count(connection, ["typed"])
    connection.execute("UPDATE typed SET price = 1.00, size = '-0'")
    assert compared(connection, held, most=0.0)["content of typed"].reason == f"sampled, 128 rows: {AS_WERE}"
    connection.execute("UPDATE typed SET price = 10")
    assert not compared(connection, held, most=0.0)["content of typed"].passed


def test_what_an_earlier_release_has_kept_is_not_compared(
    connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    earlier = {name: one.model_copy(update={"kinds": {}, "digest": ""}) for name, one in held.sketches.items()}
    assert {one.reason for one in sketch.compare(connection, earlier, 0.0)} == {
        "not compared: another release of this system has looked at it before"
    }


def test_rows_that_are_gone_have_changed(
    large: None, connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    connection.execute("DELETE FROM lines")
    connection.execute("DELETE FROM orders")
    reason = compared(connection, held)["content of orders"].reason
    assert "id has changed in 128 (128 empty now)" in reason


@pytest.mark.parametrize(
    "rows", ["(5)", "(-3), (9000000000000000000)", "(-9223372036854775808), (9223372036854775807)"]
)
def test_any_integer_key_has_places(connection: psycopg.Connection[Any], rows: str) -> None:
    connection.execute(f"CREATE TABLE odd (n bigint PRIMARY KEY, v text); INSERT INTO odd VALUES {rows}".encode())
    held = validation.count(connection, ["odd"])
    assert compared(connection, held)["content of odd"].reason.endswith("rows are what they were")
    connection.execute("UPDATE odd SET v = 'x'")
    assert "v has changed in " in compared(connection, held)["content of odd"].reason


def test_a_table_without_rows_or_integer_key_or_that_is_gone_is_only_counted(
    connection: psycopg.Connection[Any], held: validation.Counts
) -> None:
    connection.execute("DROP TABLE lines")
    connection.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey")
    connection.execute("DROP TABLE customers CASCADE")
    assert {name: one.reason for name, one in compared(connection, held).items()} == {
        "content of orders": "not compared: its key is another one"
    }
    connection.execute("CREATE TABLE nobody (id int PRIMARY KEY)")
    assert validation.count(connection, ["nobody", "visits"]).sketches == {}


def test_it_lasts_in_the_state_and_says_nothing_of_a_row(held: validation.Counts) -> None:
    record = MigrationRecord.model_validate_json(MigrationRecord(**held.facts).model_dump_json())
    assert record.sketches == held.sketches
    assert "example.com" not in record.model_dump_json()
    assert len(held.sketches["orders"].model_dump_json()) < 1000


def test_the_session_stays_as_it_was(database: Database) -> None:
    with database.connect() as connection:
        before = connection.execute("SHOW search_path").fetchone()
        sketch.compare(connection, validation.count(connection, TABLES).sketches)
        assert connection.execute("SHOW search_path").fetchone() == before
