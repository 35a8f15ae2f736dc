"""What a rollback makes of a migration that began and did not end."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import ledger, runner
from handover.database.migrations import Bundle
from handover.database.reverse import DatabaseRollback
from handover.database.runner import StatementLimits
from handover.models.deployment import MigrationRecord
from handover.models.evidence import Evidence
from handover.plan.load import load_plan
from handover.plan.parts import INCLUDE
from tests.database.conftest import bundle
from tests.support.until import until

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PARTED = "BEGIN; ALTER TABLE orders ADD COLUMN state text; COMMIT; ALTER TABLE nowhere ADD COLUMN x int"
WHOLE = "BEGIN; ALTER TABLE orders ADD COLUMN state text; ALTER TABLE nowhere ADD COLUMN x int; COMMIT"


def rolled_back(database: Database, release: Bundle, method: str) -> Evidence:
    """The step, of a deployment whose migration `m1` began."""
    record = MigrationRecord(started=True, method=method, planned=("m1",))
    known = SimpleNamespace(migration=record, restore_point=None, backup=None)
    step: Any = SimpleNamespace(
        plan=PLAN, primary=database, task_id="rollback", state=lambda _run: known, bundle=lambda _run: release,
        fence=lambda _run: None,
    )  # fmt: skip
    step_run: Any = None
    return DatabaseRollback(step, step_run).run()


def open_row(database: Database, release: Bundle, sent: bytes | None = None) -> None:
    """As Prisma leaves one: its row, and the file sent as one query."""
    with database.connect() as session:
        ledger.create(session)
        ledger.begin(session, release.scripts[0], mark=None)
        if sent is not None:
            session.pgconn.exec_(sent)


@pytest.mark.parametrize(("sql", "asked"), [(PARTED, True), (WHOLE, False), (WHOLE[7:-8], False)])
def test_what_prisma_has_committed_half_way_is_for_a_person(database: Database, sql: str, asked: bool) -> None:
    release = bundle(m1=sql)
    open_row(database, release, sql.encode())
    evidence = rolled_back(database, release, "prisma")
    assert evidence.passed is not asked
    assert ("m1 began and did not end, and may have left a part of it" in evidence.reason) is asked
    with database.connect() as session:
        (row,) = ledger.rows(session)
        assert row.rolled_back is not asked


def test_nobody_knows_what_is_left_of_a_file_that_the_release_does_not_have(database: Database) -> None:
    open_row(database, bundle(m1="SELECT 1"))
    assert "a person has to decide" in rolled_back(database, bundle(), "prisma").reason


def test_what_no_catalogue_tells_of_is_for_a_person(database: Database) -> None:
    """REINDEX CONCURRENTLY of a run that was killed."""
    release = bundle(m1="REINDEX INDEX CONCURRENTLY orders_pkey")
    open_row(database, release)
    assert "may have left a part of it" in rolled_back(database, release, "sql").reason


# --- what a script may not do to the runner


def test_a_script_waits_for_a_lock_no_longer_than_the_plan_says(database: Database) -> None:
    sql = "SET lock_timeout = '30s'; SET LOCAL statement_timeout = 0; ALTER TABLE orders ADD COLUMN note text"
    with database.connect(autocommit=False) as reader:
        reader.execute("SELECT FROM orders")
        with pytest.raises(runner.MigrationFailed, match="lock timeout"):
            runner.apply(database, bundle(m1=sql), StatementLimits(lock_timeout=0.05, lock_retries=1))
    assert runner.apply(database, bundle(m1=(sql, sql)), StatementLimits()).names == ("m1",)


def test_an_index_is_made_while_another_runner_waits_for_the_lock(database: Database) -> None:
    ended = list[BaseException]()

    def wait() -> None:
        try:
            runner.apply(database, bundle(m1="SELECT 1"), StatementLimits(other_runner=600))
        except psycopg.Error as error:
            ended.append(error)

    with database.connect() as holder, ledger.locked(holder, 1):
        other = threading.Thread(target=wait)
        other.start()
        asked = "SELECT FROM pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory%%' AND datname = %s"
        until(lambda: holder.execute(asked, (database.name,)).fetchone() is not None)
        holder.execute("SET statement_timeout = '60s'")
        holder.execute("CREATE INDEX CONCURRENTLY by_status ON orders (status)")
    other.join()
    assert ended == []


def test_a_script_that_takes_its_own_row_away_is_undone(database: Database) -> None:
    with pytest.raises(runner.MigrationFailed, match="taken its own row out"):
        runner.apply(database, bundle(m1="CREATE TABLE t (); TRUNCATE _prisma_migrations"), StatementLimits())
    with database.connect() as session:
        assert session.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_who_may_make_no_table_migrates_where_the_ledger_is_there(database: Database, servers: Any) -> None:
    with database.connect() as session:
        ledger.create(session)
    servers.ask(servers.primary.named(database.name), "REVOKE CREATE ON SCHEMA public FROM public, owner")
    sql = "ALTER TABLE orders ADD COLUMN note text"
    assert runner.apply(database, bundle(m1=sql), StatementLimits()).names == ("m1",)


def test_an_index_whose_name_postgres_cuts_is_known_by_what_is_left(database: Database) -> None:
    name = "by_" + "é" * 40
    both = (f"CREATE INDEX CONCURRENTLY {name} ON orders (status)", f"DROP INDEX CONCURRENTLY {name}")
    release = bundle(m1=both)
    assert runner.apply(database, release, StatementLimits()).names == ("m1",)
