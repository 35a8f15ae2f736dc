from __future__ import annotations

from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import runner, validation
from handover.database.dump import dump_to_s3
from handover.database.migrations import Bundle
from handover.database.repair import Repaired, repair
from handover.database.runner import StatementLimits
from handover.models.deployment import BackupRecord
from tests.database.conftest import bundle

Connection = psycopg.Connection[Any]
TABLES = ("customers", "orders")
DAMAGE = """
ALTER TABLE customers ALTER COLUMN email DROP NOT NULL;
UPDATE customers SET email = NULL WHERE id % 30 = 0;
DELETE FROM lines WHERE order_id % 50 = 0;
DELETE FROM orders WHERE id % 50 = 0;
UPDATE orders SET total = total * 2 WHERE id % 100 = 1
"""
MEND = """
UPDATE customers SET email = 'unknown-' || id WHERE email IS NULL;
ALTER TABLE customers ALTER COLUMN email SET NOT NULL
"""


@pytest.fixture
def point(database: Database, s3: Any) -> BackupRecord:
    return dump_to_s3(database, s3, "backups", f"{database.name}/point.dump").record


def mend(
    database: Database, s3: Any, point: BackupRecord, release: Bundle, limits: StatementLimits
) -> dict[str, Repaired]:
    newest_first = release.scripts[::-1]
    done = repair(database, database, f"{database.name}_point", s3, point, newest_first, limits)
    return {table.name: table for table in done}


def contents(connection: Connection, table: str, where: str = "true") -> list[Any]:
    return connection.execute(f"SELECT t::text FROM {table} t WHERE {where} ORDER BY 1".encode()).fetchall()


@pytest.mark.plan("Method 2: Restore from backup")
def test_damage_is_repaired_and_nothing_of_the_guests_is_lost(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    before = {table: contents(connection, table) for table in ("customers", "orders", "lines")}
    connection.execute("UPDATE orders SET status = 'paid' WHERE id = 7")  # a guest, after the backup
    counts = validation.count(connection, TABLES)
    release = bundle(
        m1=("ALTER TABLE orders ADD COLUMN extra int", "ALTER TABLE orders DROP COLUMN extra"), m2=(DAMAGE, MEND)
    )
    runner.apply(database, release, limits)
    # guests go on: a new one, a change of an untouched row, a change of a row that the migration damaged
    connection.execute("INSERT INTO customers (email, name) VALUES ('new@example.com', 'New')")
    connection.execute("INSERT INTO orders (customer_id, total) VALUES (301, 5)")
    connection.execute("UPDATE orders SET status = 'paid' WHERE id = 8")
    connection.execute("UPDATE customers SET name = 'Married' WHERE id = 60")
    assert [part.passed for part in validation.compare_counts(connection, counts)] == [True, False]

    done = mend(database, s3, point, release, limits)

    assert (done["orders"].inserted, done["lines"].inserted, done["customers"].inserted) == (18, 18, 0)
    assert (done["orders"].updated, done["customers"].updated, done["customers"].filled) == (9, 9, 1)
    assert all(part.passed for part in validation.compare_counts(connection, counts))
    assert contents(connection, "lines") == before["lines"]
    connection.execute("UPDATE orders SET status = 'open' WHERE id IN (7, 8)")
    connection.execute("UPDATE customers SET name = 'Customer 60' WHERE name = 'Married'")
    assert contents(connection, "orders", "id <= 900") == before["orders"]
    assert contents(connection, "customers", "id <= 300") == before["customers"]
    assert connection.execute("SELECT count(*) FROM orders WHERE id > 900").fetchone() == (1,)
    assert not done["visits"].changed


def test_changes_of_guests_stay(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    release = bundle(m1=(DAMAGE, MEND))
    runner.apply(database, release, limits)
    connection.execute("UPDATE orders SET status = 'paid' WHERE id IN (101, 8)")
    mend(database, s3, point, release, limits)
    assert connection.execute("SELECT count(*) FROM orders WHERE status = 'paid'").fetchone() == (2,)


def test_repairing_twice_changes_nothing_more(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    release = bundle(m1=(DAMAGE, MEND))
    runner.apply(database, release, limits)
    mend(database, s3, point, release, limits)
    connection.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
    again = mend(database, s3, point, release, limits)
    assert not any(table.changed for table in again.values() if not table.left)
    assert contents(connection, "orders", "status = 'paid'")


def test_dropped_column_and_table_come_back_with_their_contents(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    before = {table: contents(connection, table) for table in ("customers", "lines")}
    create = (
        "CREATE TABLE lines (order_id bigint REFERENCES orders (id), number int, what json,"
        " PRIMARY KEY (order_id, number));"
        "ALTER TABLE customers ADD COLUMN name text"
    )
    release = bundle(m1=("DROP TABLE lines; ALTER TABLE customers DROP COLUMN name", create))
    runner.apply(database, release, limits)
    mend(database, s3, point, release, limits)
    assert contents(connection, "lines") == before["lines"]
    assert connection.execute("SELECT count(*) FROM customers WHERE name LIKE 'Customer %'").fetchone() == (300,)


def test_without_down_the_data_is_repaired_and_the_schema_stays(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    release = bundle(m1=DAMAGE)
    runner.apply(database, release, limits)
    done = mend(database, s3, point, release, limits)
    assert done["customers"].updated == 10
    assert connection.execute("SELECT count(*) FROM customers WHERE email IS NULL").fetchone() == (0,)


def test_migration_of_somebody_else_is_repaired_row_by_row(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    release = bundle(m1=(DAMAGE, MEND))
    runner.apply(database, release, limits)
    connection.execute("UPDATE _prisma_migrations SET logs = NULL")  # so that the row is not the migration's own
    done = repair(database, database, "other_point", s3, point, release.scripts, limits, writers_known=False)
    assert {t.name: t.updated for t in done} == {"customers": 10, "orders": 9, "lines": 0, "visits": 0}


def test_row_whose_place_is_taken_is_told(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    connection.execute("INSERT INTO customers (email, name) VALUES ('alone@example.com', 'Alone')")
    later = dump_to_s3(database, s3, "backups", f"{database.name}/later.dump").record
    release = bundle(m1=("DELETE FROM customers WHERE id = 301", "SELECT 1"))
    runner.apply(database, release, limits)
    connection.execute("INSERT INTO customers (email, name) VALUES ('alone@example.com', 'Alone again')")
    done = mend(database, s3, later, release, limits)
    assert (done["customers"].inserted, done["customers"].not_inserted) == (0, 1)


def test_failing_repair_changes_nothing(
    database: Database, connection: Connection, s3: Any, point: BackupRecord, limits: StatementLimits
) -> None:
    release = bundle(m1=(DAMAGE, "SELECT 1 / 0"))
    runner.apply(database, release, limits)
    damaged = contents(connection, "orders")
    with pytest.raises(runner.StatementFailed, match="division by zero"):
        mend(database, s3, point, release, limits)
    assert contents(connection, "orders") == damaged
