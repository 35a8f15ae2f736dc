"""Whoever holds for long what a migration changes is named, and nobody waits behind the migration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from handover.adapters.postgres import Database
from handover.database import runner
from handover.database.blockers import blockers, make_way
from handover.database.runner import StatementLimits
from tests.database.conftest import bundle

PARTED = """
CREATE TABLE stays (id int, day date) PARTITION BY RANGE (day);
CREATE TABLE stays_26 PARTITION OF stays FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE "Odd one" (id int);
"""


@contextmanager
def holding(database: Database, table: str, name: str = "nightly", how: str = "SELECT count(*) FROM") -> Iterator[int]:
    with database.connect(autocommit=False) as session:
        session.execute("SELECT set_config('application_name', %s, false)", (name,))
        session.execute(f"{how} {table}".encode())
        yield session.info.backend_pid


def found(database: Database, sql: str, seconds: float = 0.0) -> list[str]:
    with database.connect() as session:
        return blockers(session, [script.forward for script in bundle(m1=sql).scripts], seconds)


CHANGES = [
    "ALTER TABLE orders ADD COLUMN x int",
    'ALTER TABLE public."orders" DROP COLUMN total',
    "CREATE UNIQUE INDEX i ON Orders (status)",
    "CREATE TABLE more (id bigint REFERENCES orders)",
    "DROP INDEX orders_pkey",
    "TRUNCATE lines, orders",
    "DO $$ BEGIN EXECUTE 'ALTER TABLE orders ADD x int'; END $$",
    "UPDATE customers SET name = 'x'; LOCK TABLE orders",
]


@pytest.mark.parametrize("sql", CHANGES)
def test_a_long_transaction_on_a_table_that_is_changed_is_named(database: Database, sql: str) -> None:
    with holding(database, "orders") as pid:
        (one,) = found(database, sql)
        assert re.fullmatch(rf"orders(, orders_pkey)? is held by process {pid} \(nightly\) for \d+ s", one)
        assert found(database, sql, seconds=3600) == []
    assert found(database, sql) == []


@pytest.mark.parametrize("sql", ["ALTER TABLE customers ADD x int", "UPDATE orders SET total = 1", "CREATE TABLE a ()"])
def test_a_table_that_is_not_changed_may_be_held(database: Database, sql: str) -> None:
    with holding(database, "orders"):
        assert found(database, sql) == []


def test_partitions_and_odd_names_count(database: Database) -> None:
    with database.connect() as session:
        session.execute(PARTED.encode())
    with holding(database, "stays_26"):
        assert len(found(database, "ALTER TABLE stays ADD COLUMN guests int")) == 1
    with holding(database, '"Odd one"'):
        for sql in ('ALTER TABLE "Odd one" ADD x int', """DO 'BEGIN ALTER TABLE "Odd one" ADD x int; END'"""):
            assert len(found(database, sql)) == 1


@pytest.mark.parametrize("sql", [
    "DROP TABLE lines", "ALTER TABLE lines DROP CONSTRAINT lines_order_id_fkey", "DROP TABLE customers CASCADE",
    "ALTER DOMAIN level ADD CHECK (VALUE > 0)", "DROP TYPE level CASCADE",
])  # fmt: skip
def test_what_is_locked_along_with_a_table_or_a_type_counts(database: Database, sql: str) -> None:
    with database.connect() as session:
        session.execute("CREATE DOMAIN level AS int; ALTER TABLE orders ADD COLUMN level level")
    with holding(database, "orders"):
        assert len(found(database, sql)) == 1
        assert found(database, "ALTER TABLE lines ADD COLUMN note text") == []


def test_a_dump_and_a_prepared_transaction_count_however_young_they_are(database: Database) -> None:
    change = CHANGES[0]
    with holding(database, "orders", "pg_dump"):
        (one,) = found(database, change, seconds=3600)
        assert "(pg_dump) for " in one
    with database.connect(autocommit=False) as session:
        session.execute("UPDATE orders SET status = 'held' WHERE id = 1")
        session.execute(f"PREPARE TRANSACTION 'left {database.name}'".encode())
    try:
        (one,) = found(database, change, seconds=3600)
        assert one == f"orders is held by the prepared transaction 'left {database.name}'"
    finally:
        with database.connect() as session:
            session.execute(f"ROLLBACK PREPARED 'left {database.name}'".encode())


def test_the_migration_does_not_ask_for_what_it_will_not_get(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    naps: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=naps.append))
    limits = StatementLimits(lock_timeout=600, lock_retries=3)
    with (
        holding(database, "orders", "pg_dump", "LOCK TABLE"),
        pytest.raises(runner.MigrationFailed, match=r"m1: orders.* is held by process \d+ \(pg_dump\)"),
    ):
        runner.apply(database, bundle(m1="ALTER TABLE orders ADD COLUMN x int"), limits)
    assert len(naps) == 2


def test_it_goes_on_once_the_table_is_free(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with ExitStack() as held:
        held.enter_context(holding(database, "orders", "pg_dump"))
        monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=lambda _seconds: held.close()))
        done = runner.apply(database, bundle(m1="ALTER TABLE orders ADD COLUMN x int"), StatementLimits())
    assert done.names == ("m1",)
    assert done.lock_waits == 1


# --- autovacuum


CHANGE = "ALTER TABLE orders ADD COLUMN note text"
LIMITS = StatementLimits(lock_retries=2)


def test_a_migration_makes_autovacuum_go_though_it_waits_for_a_lock_for_a_moment_only(vacuumed: Database) -> None:
    assert found(vacuumed, CHANGE, seconds=0) == []
    assert runner.apply(vacuumed, bundle(m1=CHANGE), LIMITS).names == ("m1",)


def test_nobody_waits_behind_who_makes_autovacuum_go(vacuumed: Database) -> None:
    with vacuumed.connect() as one, vacuumed.connect() as other, ThreadPoolExecutor(1) as beside:
        making = beside.submit(make_way, one, ["orders"])
        other.execute("SET lock_timeout = '100ms'")
        while not making.done():
            other.execute("UPDATE orders SET status = 'open' WHERE id = 1")
        making.result()
        with other.transaction():
            other.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")


def test_a_materialized_view_that_is_analyzed_is_let_alone(database: Database) -> None:
    with database.connect() as session:
        session.execute("CREATE MATERIALIZED VIEW busy AS SELECT * FROM orders")
    with database.connect(autocommit=False) as other, database.connect() as session:
        other.execute("ANALYZE busy")
        make_way(session, ["busy"])


def test_who_makes_an_index_beside_the_table_is_let_alone(database: Database) -> None:
    with holding(database, "orders", how="LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE; SELECT FROM") as pid:
        with database.connect() as session:
            make_way(session, ["orders"])
            assert session.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() is not None
        assert found(database, CHANGE)


def test_a_table_of_that_name_that_is_not_ours_to_lock_stops_nothing(database: Database) -> None:
    locked = holding(database, "orders", how="LOCK TABLE orders IN SHARE UPDATE EXCLUSIVE MODE; SELECT FROM")
    with locked, database.connect() as session:
        session.execute(b"REVOKE ALL ON orders FROM owner")
        make_way(session, ["orders"])
