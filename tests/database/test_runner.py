from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import catalog, ledger, migrations, runner
from handover.database.reverse import reverse
from handover.database.runner import MigrationFailed, MigrationRefused, StatementLimits
from tests.database.conftest import bundle
from tests.support.until import until

Connection = psycopg.Connection[Any]
ADD = ("ALTER TABLE orders ADD COLUMN channel text NOT NULL DEFAULT 'web'", "ALTER TABLE orders DROP COLUMN channel")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long it would have paused; nobody waits for that."""
    seen: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=seen.append))
    return seen


def columns(connection: Connection, table: str) -> list[str]:
    return [column.name for column in catalog.columns(connection, table)]


def ledger_rows(connection: Connection) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT migration_name, checksum, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, logs,"
        " applied_steps_count, started_at <= coalesce(finished_at, now()), length(id)"
        " FROM _prisma_migrations ORDER BY started_at"
    ).fetchall()


@pytest.mark.plan("psql -h $DB_HOST_PROD", "Current Database → Prisma ORM → New Database")
def test_good_migrations_are_applied_in_order(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    release = bundle(m1=ADD, m2="UPDATE orders SET channel = 'desk' WHERE id <= 10; CREATE INDEX c ON orders (channel)")
    assert runner.apply(database, release, limits).names == ("m1", "m2")
    assert connection.execute("SELECT count(*) FROM orders WHERE channel = 'desk'").fetchone() == (10,)
    assert ledger_rows(connection) == [
        (script.name, script.checksum, True, False, None, 1, True, 36) for script in release.scripts
    ]


def test_running_again_changes_nothing(database: Database, connection: Connection, limits: StatementLimits) -> None:
    runner.apply(database, bundle(m1=ADD), limits)
    assert runner.apply(database, bundle(m1=ADD), limits).names == ()
    assert len(ledger_rows(connection)) == 1


def test_table_is_prisma_s(database: Database, connection: Connection, limits: StatementLimits) -> None:
    runner.apply(database, bundle(), limits)
    found = connection.execute(
        "SELECT column_name, data_type, character_maximum_length, is_nullable FROM information_schema.columns"
        " WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position"
    ).fetchall()
    time_type = "timestamp with time zone"
    assert found == [
        ("id", "character varying", 36, "NO"), ("checksum", "character varying", 64, "NO"),
        ("finished_at", time_type, None, "YES"), ("migration_name", "character varying", 255, "NO"),
        ("logs", "text", None, "YES"), ("rolled_back_at", time_type, None, "YES"),
        ("started_at", time_type, None, "NO"), ("applied_steps_count", "integer", None, "NO"),
    ]  # fmt: skip


@pytest.mark.plan("Migration completes without errors")
def test_failing_migration_leaves_nothing_and_blocks_nobody(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    bad = bundle(m1=ADD, m2="ALTER TABLE orders ADD COLUMN twice text; CREATE UNIQUE INDEX u ON orders (status)")
    with pytest.raises(MigrationFailed, match=r"m2: statement 2 \(CREATE UNIQUE INDEX u .*could not create") as failure:
        runner.apply(database, bad, limits)
    assert failure.value.applied == ("m1",)
    assert "open" not in str(failure.value), "rows are not shown"
    assert "twice" not in columns(connection, "orders")
    assert [(row[0], row[2], row[3]) for row in ledger_rows(connection)] == [("m1", True, False), ("m2", False, True)]
    assert runner.apply(database, bundle(m1=ADD, m3="SELECT 1"), limits).names == ("m3",)


@pytest.mark.plan("No queries timing out")
def test_statement_that_takes_too_long_is_ended(database: Database, connection: Connection) -> None:
    with pytest.raises(MigrationFailed, match="statement timeout"):
        runner.apply(
            database, bundle(m1="CREATE TABLE t (); SELECT pg_sleep(5)"), StatementLimits(statement_timeout=0.2)
        )
    assert "t" not in catalog.tables(connection)


@pytest.mark.parametrize(
    ("release", "reason"),
    [
        (bundle(m1="SELECT 'edited'"), "m1 was edited"),
        (bundle(m2="SELECT 1"), "the release does not have it"),
        (bundle(m1=ADD, m2="SAVEPOINT a; SELECT 1"), "BEGIN and COMMIT"),
        (bundle(m1=ADD, m2="SELECT 1; VACUUM"), "alone in its file"),
    ],
)
def test_refused_before_anything_is_changed(
    database: Database, connection: Connection, limits: StatementLimits, release: migrations.Bundle, reason: str
) -> None:
    runner.apply(database, bundle(m1=ADD), limits)
    with pytest.raises(MigrationRefused, match=reason):
        runner.apply(database, release, limits)
    assert len(ledger_rows(connection)) == 1


def test_failed_migration_of_prisma_is_refused(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    runner.apply(database, bundle(), limits)
    connection.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', repeat('0', 64), 'm1')"
    )
    with pytest.raises(MigrationRefused, match="m1 began and did not end"):
        runner.apply(database, bundle(m1=ADD), limits)
    ledger.roll_back(connection, "m1")
    assert runner.apply(database, bundle(m1=ADD), limits).names == ("m1",)


@pytest.mark.plan("No queries timing out")
def test_lock_that_is_held_is_waited_for_in_short_tries(
    database: Database, connection: Connection, pauses: list[float]
) -> None:
    """Nobody waits behind us for as long as the other lock is held: in the pauses the table is free."""
    with database.connect() as other:
        other.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")

        def breach() -> None:  # is asked between two tries
            if len(pauses) < 3:
                connection.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE NOWAIT; COMMIT")
            if len(pauses) == 2:
                other.execute("COMMIT")

        done = runner.apply(database, bundle(m1=ADD), StatementLimits(lock_timeout=0.05), Stop(breach))
    assert (done.names, done.lock_waits) == (("m1",), 3)
    assert pauses == sorted(pauses)


def test_lock_that_is_never_given_up(database: Database, connection: Connection, pauses: list[float]) -> None:
    connection.execute("BEGIN; LOCK TABLE orders IN ACCESS SHARE MODE")
    with pytest.raises(MigrationFailed, match="lock timeout"):
        runner.apply(database, bundle(m1=ADD), StatementLimits(lock_timeout=0.05, lock_retries=2))
    connection.execute("COMMIT")
    assert runner.apply(database, bundle(m1=ADD), StatementLimits()).names == ("m1",)


def test_second_runner_waits_for_the_first(database: Database, connection: Connection, limits: StatementLimits) -> None:
    release = bundle(m1="SELECT pg_advisory_xact_lock(1); CREATE TABLE once ()")
    done: list[tuple[str, ...]] = []
    both = [threading.Thread(target=lambda: done.append(runner.apply(database, release, patient).names)) for _ in "ab"]
    patient = StatementLimits(lock_timeout=60, other_runner=60)
    waiting = (
        "SELECT (SELECT count(*) = 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted) AND EXISTS (SELECT FROM"
        " pg_stat_activity WHERE query LIKE 'SELECT pg_try_advisory_lock%' AND datname = current_database())"
    )
    connection.execute("SELECT pg_advisory_lock(1)")  # so that the first one is still at it when the second comes
    for one in both:
        one.start()
    until(lambda: connection.execute(waiting).fetchone() == (True,), "one waits for us and the other one for it")
    connection.execute("SELECT pg_advisory_unlock(1)")
    for one in both:
        one.join()
    assert sorted(done) == [(), ("m1",)]


def test_runner_that_never_ends_is_not_waited_for(database: Database, connection: Connection) -> None:
    connection.execute("SELECT pg_advisory_lock(%s)", (ledger.LOCK,))
    with pytest.raises(ledger.Busy):
        runner.apply(database, bundle(m1=ADD), StatementLimits(other_runner=0.2))


KILLED = """
import sys
from handover.adapters.postgres import Database
from handover.database.migrations import Bundle
from handover.database.runner import StatementLimits as Limits, apply
apply(Database.from_uri(sys.stdin.read()), Bundle.from_files({"m1/migration.sql": sys.argv[1].encode()}), Limits())
"""


def kill_under(database: Database, connection: Connection, sql: str, waits: str) -> None:
    """Runs a migration in a process of its own, and kills it when the server waits for ``waits`` in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), sql], stdin=subprocess.PIPE, cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONPATH": "plugins"},
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(
        f"postgresql://{database.user}:{database.password}@{database.host}:{database.port}/{database.name}".encode()
    )
    process.stdin.close()
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query = %s AND wait_event = %s AND datname = %s"
    there = (sql, waits, database.name)
    until(lambda: process.poll() is not None or connection.execute(waiting, there).fetchone() == (1,), "half of it")
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_killed_half_way_it_runs_again(database: Database, connection: Connection, limits: StatementLimits) -> None:
    sql = "CREATE TABLE half (); SELECT pg_advisory_xact_lock(1)"
    connection.execute("SELECT pg_advisory_lock(1)")  # it goes no further
    kill_under(database, connection, sql, "advisory")
    connection.execute("SELECT pg_advisory_unlock(1)")
    assert runner.apply(database, bundle(m1=sql), limits).names == ("m1",)
    assert [row[2:4] for row in ledger_rows(connection)] == [(False, True), (True, False)]


def test_nothing_goes_on_for_a_killed_worker(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    """Its locks would keep everybody waiting for as long as the statement lasts."""
    sql = "ALTER TABLE orders ADD COLUMN late int; SELECT pg_sleep(600)"
    kill_under(database, connection, sql, "PgSleep")
    locks = "SELECT count(*) FROM pg_locks WHERE relation = 'orders'::regclass AND mode = 'AccessExclusiveLock'"
    until(lambda: connection.execute(locks.encode()).fetchone() == (0,), "the end of its lock")
    assert "late" not in columns(connection, "orders")


def test_a_transaction_of_a_worker_that_is_frozen_ends_by_itself(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    told = "current_setting('idle_in_transaction_session_timeout')"
    release = bundle(m1=(f"CREATE TABLE forth AS SELECT {told} AS t", f"CREATE TABLE back AS SELECT {told} AS t"))
    runner.apply(database, release, limits)
    reverse(database, release.scripts, limits)
    found = connection.execute("SELECT forth.t, back.t FROM forth, back").fetchone()
    assert found == (f"{runner.IDLE_SECONDS}s",) * 2


def test_killed_while_an_index_is_built(database: Database, connection: Connection, limits: StatementLimits) -> None:
    """The server builds on without us; the next try waits for that, and takes what it finds."""
    sql = "CREATE INDEX CONCURRENTLY orders_status ON orders (status)"
    with database.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM orders")
        kill_under(database, connection, sql, "virtualxid")
    runner.apply(database, bundle(m1=sql), limits)
    assert ledger_rows(connection)[-1][2:4] == (True, False)
    assert catalog.invalid_indices(connection) == []


def test_index_is_built_concurrently(database: Database, connection: Connection, limits: StatementLimits) -> None:
    release = bundle(m1="CREATE INDEX CONCURRENTLY orders_status ON orders (status)", m2="DROP INDEX orders_status")
    assert runner.apply(database, release, limits).names == ("m1", "m2")


def test_failing_concurrent_index_leaves_nothing(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    with pytest.raises(MigrationFailed, match="could not create unique index"):
        runner.apply(database, bundle(m1="CREATE UNIQUE INDEX CONCURRENTLY u ON orders (status)"), limits)
    assert catalog.invalid_indices(connection) == []
    assert runner.apply(database, bundle(m2="SELECT 1"), limits).names == ("m2",)


@dataclass
class Stop:
    """``why``: asked whether to stop; ``sessions``: whose query may be cancelled now."""

    why: Callable[[], str | None]
    sessions: list[Connection] = field(default_factory=list)

    def breach(self) -> str | None:
        return self.why()

    @contextmanager
    def cancellable(self, connection: Connection) -> Iterator[None]:
        self.sessions.append(connection)
        yield
        self.sessions.clear()


def test_breach_cancels_what_runs(database: Database, connection: Connection, limits: StatementLimits) -> None:
    reasons: list[str] = []
    stopping = Stop(lambda: reasons[0] if reasons else None)

    def stop() -> None:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        until(lambda: connection.execute(sleeping.encode()).fetchone() == (1,), "the second statement")
        reasons.append("replicas are behind")
        stopping.sessions[0].cancel_safe()

    watching = threading.Thread(target=stop)
    watching.start()
    with pytest.raises(MigrationFailed, match=r"m1: statement 2 .*replicas are behind"):
        runner.apply(database, bundle(m1="CREATE TABLE t (); SELECT pg_sleep(600)"), limits, stopping)
    watching.join()
    assert "t" not in catalog.tables(connection)


def test_breach_is_asked_before_the_commit(database: Database, connection: Connection, limits: StatementLimits) -> None:
    with pytest.raises(MigrationFailed, match="m1: too late"):
        runner.apply(database, bundle(m1="CREATE TABLE t ()"), limits, Stop(lambda: "too late"))
    assert "t" not in catalog.tables(connection)


def test_undone_migration_can_be_applied_again(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    release = bundle(m1=ADD, m2=("CREATE TABLE extra ()", "DROP TABLE extra"))
    runner.apply(database, release, limits)
    newest_first = release.scripts[::-1]
    assert reverse(database, newest_first, limits) == ["m2", "m1"]
    assert "channel" not in columns(connection, "orders")
    assert reverse(database, newest_first, limits) == []
    assert runner.apply(database, release, limits).names == ("m1", "m2")


def test_failing_down_changes_nothing(database: Database, connection: Connection, limits: StatementLimits) -> None:
    release = bundle(m1=("CREATE TABLE extra ()", "DROP TABLE extra; DROP TABLE nothing"))
    runner.apply(database, release, limits)
    with pytest.raises(runner.StatementFailed, match="does not exist"):
        reverse(database, release.scripts, limits)
    assert "extra" in catalog.tables(connection)
    assert migrations.applied(ledger.rows(connection)) == ("m1",)
