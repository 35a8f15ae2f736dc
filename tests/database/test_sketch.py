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
