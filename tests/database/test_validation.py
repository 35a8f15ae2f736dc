from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import validation
from handover.database.validation import Query
from handover.models.evidence import Verdict
from handover.plan.model import INCLUDE

Connection = psycopg.Connection[Any]
ONE_ROW = "1 row, which is not the one value true"
SHIPPED = sorted((INCLUDE / "sql").glob("*.sql"))


def test_file_is_a_list_of_named_checks() -> None:
    text = "-- about this file\n\n-- check: a b\nSELECT 1;\n\n--check:c\n-- why\nSELECT 2\n-- query: d\nSELECT 3;"
    assert validation.parse(text) == [
        Query("a b", "SELECT 1", False), Query("c", "-- why\nSELECT 2", False), Query("d", "SELECT 3", True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SELECT 1", "before the first line"),
        ("SELECT 1;\n-- check: a\nSELECT 2", "before the first line"),
        ("-- check: a\n-- check: b\nSELECT 1", "a has no query"),
        ("-- check: a\n-- nothing\n", "a has no query"),
        ("-- check: a\n/* nothing */;\n", "a has no query"),
        ("-- check: a\nSELECT 1\n-- Check: a\nSELECT 2", "two checks are called a"),
        ("-- check: a\nSELECT 1 WHERE false;\nSELECT 2", "a has 2 statements"),
        ("-- query: a\nSELECT 1; /* ; */ SELECT ';'; SELECT 3;", "a has 3 statements"),
        ("-- check: a\nSELECT 1;\n-- checks: b\nSELECT 2", "'-- checks: b' is only nearly"),
        ("-- check: a\nSELECT 1;\n--- check: b\nSELECT 2", "'--- check: b' is only nearly"),
        ("-- check: a\nSELECT 1;\n/* check: b */\nSELECT 2", "'/\\* check: b \\*/' is only nearly"),
        ("-- check: a\nSELECT 1; -- query: b\nSELECT 2", "'SELECT 1; -- query: b' is only nearly"),
        ("-- check: a\nSELECT 1;\n-- check:\nSELECT 2", "'-- check:' is only nearly"),
    ],
)
def test_files_that_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        validation.parse(text)


@pytest.mark.parametrize("header", ["-- Check: b", "--Check : b", "  -- CHECK:b ", "--\tcheck\t:\tb"])
def test_header_is_one_in_any_case_and_with_any_blanks(header: str) -> None:
    found = validation.parse(f"-- check: a\nSELECT 1;\n{header}\nSELECT 2;\n-- this is to check the query\n")
    assert [query.name for query in found] == ["a", "b"]


@pytest.mark.plan("Data validation checks prepared", "npx prisma db execute --stdin")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_files_can_be_read(path: Any) -> None:
    found = validation.load(path.name)
    assert found
    assert [query.unfit for query in found if query.unfit] == []


@pytest.mark.parametrize("text", [b"-- check: a\nSELECT 1; SELECT 2", b"-- check: a\nSELECT '\xe9'"])
def test_a_file_that_cannot_be_read_is_a_check_that_fails(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "bad.sql").write_bytes(text)
    monkeypatch.setattr(validation, "included", lambda folder, name: tmp_path / name)
    (query,) = validation.load("bad.sql")
    found = validation.run(connection, query, max_seconds=60)
    assert (found.check, found.verdict) == ("include/sql/bad.sql", Verdict.FAIL)
    assert "a has 2 statements" in found.reason or "utf-8" in found.reason


@pytest.mark.plan(
    "Data validation checks prepared",
    "SELECT COUNT(*) FROM bookings WHERE booking_id IS NULL",
    "SELECT COUNT(*) FROM rooms WHERE room_id IS NULL",
    "SELECT COUNT(*) FROM bookings WHERE user_id NOT IN",
    "SELECT COUNT(*) FROM bookings WHERE room_id NOT IN",
    "SELECT MIN(created_at), MAX(created_at) FROM users",
    "SELECT MIN(check_in), MAX(check_out) FROM bookings",
)
@pytest.mark.parametrize(
    ("sql", "verdict", "reason"),
    [
        ("SELECT id FROM orders WHERE total IS NULL", Verdict.PASS, "ok"),
        ("SELECT true", Verdict.PASS, "ok"),
        ("SELECT false", Verdict.FAIL, "it is not so"),
        ("SELECT NULL::boolean", Verdict.FAIL, "it is not so"),
        ("SELECT id FROM orders WHERE id <= 3", Verdict.FAIL, "3 rows"),
        ("SELECT n FROM generate_series(1, 5000) n", Verdict.FAIL, "at least 1000 rows"),
        ("SELECT true UNION ALL SELECT true", Verdict.FAIL, "2 rows"),
        ("SELECT id FROM orders WHERE id = 1", Verdict.FAIL, ONE_ROW),
        ("SELECT 1 FROM orders LIMIT 1", Verdict.FAIL, ONE_ROW),
        ("SELECT count(*) FROM orders WHERE id = 1", Verdict.FAIL, ONE_ROW),
        ("SELECT count(*) FROM orders WHERE id = 0", Verdict.FAIL, ONE_ROW),
        ("SELECT 1.0", Verdict.FAIL, ONE_ROW),
        ("SELECT true, true", Verdict.FAIL, ONE_ROW),
        ("SET lock_timeout = 0", Verdict.FAIL, "it is no query: it gives no rows"),
        ("SELECT email::int FROM customers", Verdict.FAIL, '22P02: invalid input syntax for type integer: "..."'),
        ("SELECT * FROM nothing", Verdict.FAIL, '42P01: relation "nothing" does not exist'),
        ("DELETE FROM lines RETURNING 1", Verdict.FAIL, "25006: cannot execute DELETE in a read-only transaction"),
    ],
)
def test_check(connection: Connection, sql: str, verdict: Verdict, reason: str) -> None:
    found = validation.run(connection, Query("it", sql, timed=False), max_seconds=60)
    assert (found.verdict, found.reason) == (verdict, reason)


def test_a_check_that_takes_too_long_fails(connection: Connection) -> None:
    found = validation.run(connection, Query("it", "SELECT pg_sleep(600)", timed=False), max_seconds=0.1)
    assert (found.verdict, found.reason) == (Verdict.FAIL, "57014: canceling statement due to statement timeout")


def test_rows_are_not_shown(connection: Connection) -> None:
    found = validation.run(connection, Query("it", "SELECT email FROM customers LIMIT 2", timed=False), max_seconds=60)
    assert "@" not in found.model_dump_json()


@pytest.mark.plan(
    "SELECT * FROM bookings WHERE status = 'confirmed'",
    "SELECT * FROM users WHERE role = 'admin'",
    "Query performance acceptable",
    "Database query times",
)
def test_critical_query_is_timed(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.1, 0.0, 0.2])
    monkeypatch.setattr(validation, "clock", SimpleNamespace(monotonic=lambda: next(times)))
    query = Query("it", "SELECT * FROM orders LIMIT 1", timed=True)
    quick, slow = (validation.run(connection, query, max_seconds=0.15) for _ in range(2))
    assert (quick.passed, quick.reason) == (True, "100 ms")
    assert (slow.verdict, slow.reason) == (Verdict.FAIL, "took 0.20 s, the limit is 0.15 s")


@pytest.mark.parametrize(
    ("before", "now", "passes"), [(10, 10, True), (10, 11, True), (10, 9, False), (0, 0, True), (1, 0, False)]
)
def test_rows_may_only_grow(before: int, now: int, passes: bool) -> None:
    assert validation.compared("t", before, now, exact=True).passed is passes


@pytest.mark.plan(
    "SELECT COUNT(*) FROM users; # Should match",
    "SELECT COUNT(*) FROM bookings; # Should match",
    "SELECT COUNT(*) FROM rooms; # Should match",
    "Data counts match pre-migration",
    "SELECT COUNT(*) as users",
    "SELECT COUNT(*) as bookings",
    "SELECT COUNT(*) as rooms",
    "SELECT COUNT(*) as staff",
    "Data integrity verified",
    "No data loss or corruption",
)
def test_new_rows_do_not_hide_lost_ones(connection: Connection) -> None:
    before = validation.count(connection, ("orders",))
    connection.execute("DELETE FROM lines WHERE order_id = 5")
    connection.execute("DELETE FROM orders WHERE id = 5")
    connection.execute("INSERT INTO orders (customer_id, total) SELECT 1, n FROM generate_series(1, 50) n")
    assert [part.reason for part in validation.compare_counts(connection, before)] == [
        "1 of 900 rows from before are gone"
    ]


def test_table_without_an_integer_key_may_not_shrink(connection: Connection) -> None:
    before = validation.count(connection, ("lines", "visits"))
    assert before.last_keys == {}
    connection.execute("DELETE FROM lines WHERE order_id = 5")
    assert [part.passed for part in validation.compare_counts(connection, before)] == [False, True]


@pytest.mark.plan("SELECT * FROM pg_stat_user_indexes", "No constraint violations")
def test_structure(database: Database, connection: Connection) -> None:
    assert all(part.passed for part in validation.structure(connection))
    connection.execute("ALTER TABLE orders ADD CONSTRAINT cheap CHECK (total < 10) NOT VALID")
    with pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY one_status ON orders (status)")
    assert [part.reason for part in validation.structure(connection)] == [
        "not valid: one_status", "not validated: orders.cheap", "ok",
    ]  # fmt: skip


def test_long_transactions_and_other_migrations_are_seen(database: Database, connection: Connection) -> None:
    assert all(part.passed for part in validation.quiet(connection))
    with database.connect() as other:
        other.execute("SELECT pg_advisory_lock(72707369)")
        other.execute("BEGIN")
        found = validation.quiet(connection, seconds=0)
        assert [part.passed for part in found] == [False, False, True]
        assert str(other.info.backend_pid) in found[0].reason
        assert str(other.info.backend_pid) in found[1].reason
