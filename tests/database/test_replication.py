"""Lag on a real primary and replica: what is written, replay that is paused, a receiver that is cut, a dead server."""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from handover.adapters.postgres import Database
from handover.database import runner
from handover.database.guard import Guard
from handover.database.lag import replication
from handover.database.runner import MigrationFailed, StatementLimits
from handover.database.sources import DatabaseSource, DatabaseUnknown
from handover.database.triggers import LagTrigger
from handover.models.evidence import Evidence
from handover.models.names import CONNECTIONS, REPLICATION_LAG
from tests.database.conftest import PASSWORD, Servers, bundle


@contextmanager
def paused(servers: Servers) -> Iterator[None]:
    servers.ask(servers.replica, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        servers.ask(servers.replica, "SELECT pg_wal_replay_resume()")


@contextmanager
def cut(servers: Servers) -> Iterator[None]:
    servers.ask(servers.replica, "ALTER SYSTEM SET primary_conninfo = ''")
    servers.ask(servers.replica, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        servers.ask(servers.replica, "ALTER SYSTEM RESET primary_conninfo")
        conninfo = f"host=127.0.0.1 port={servers.primary.port} user=postgres password={PASSWORD}"
        servers.ask(servers.replica, f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        servers.ask(servers.replica, "SELECT pg_reload_conf()")
        _until_streaming(servers)


@contextmanager
def dead(servers: Servers) -> Iterator[None]:
    servers.ctl("r", "-m", "fast", "stop")
    try:
        yield
    finally:
        servers.start("r", servers.replica.port)
        _until_streaming(servers)


def _until_streaming(servers: Servers) -> None:
    while not servers.ask(servers.primary, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"):
        time.sleep(0.05)


@contextmanager
def guests(database: Database) -> Iterator[None]:
    """Somebody writes all the time."""
    stop = threading.Event()

    def write() -> None:
        with database.connect() as session:
            while not stop.wait(0.02):
                session.execute("INSERT INTO visits DEFAULT VALUES")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        yield
    finally:
        stop.set()
        writing.join()


@pytest.fixture
def connections(database: Database, replica: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, db in (("db_primary", database), ("db_replica", replica)):
        value = {"conn_type": "postgres", "host": db.host, "port": db.port, "login": db.user, "password": db.password,
                 "schema": db.name}  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(value))


def trigger(seconds: float = 1.2) -> LagTrigger:
    return LagTrigger(
        check="lag", primary="db_primary", replicas=["db_replica"], limit_seconds=0.6, deadline=time.time() + seconds,
        sustained_seconds=0.5,
    )  # fmt: skip


def conclude(waiting: LagTrigger) -> Evidence:
    async def first() -> Evidence:
        async for event in waiting.run():
            return Evidence.model_validate(json.loads(json.dumps(event.payload)))
        raise AssertionError

    return asyncio.run(first())


def test_trigger_is_made_again_from_what_it_says(connections: None) -> None:
    path, arguments = trigger().serialize()
    assert path == "handover.database.triggers.LagTrigger"
    assert PASSWORD not in json.dumps(arguments)
    assert LagTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.plan("Database replicas synchronized", "Database replicas in sync")
def test_replica_that_follows_passes(connections: None, database: Database) -> None:
    with guests(database):
        found = conclude(trigger(15))
    assert found.passed, found.reason
    assert found.measurements[0].value is not None
    assert found.measurements[0].value < 0.6


def test_idle_primary_passes(connections: None) -> None:
    assert conclude(trigger(15)).passed


@pytest.mark.plan("Database replication lag <2 seconds", "Replication lag normal (<2 seconds)")
@pytest.mark.parametrize(
    ("trouble", "reason"), [(paused, "its replay is paused"), (cut, "its receiver is gone"), (dead, "cannot be asked")]
)
def test_trouble_fails_with_its_reason(
    connections: None, servers: Servers, database: Database, reason: str,
    trouble: Callable[[Servers], AbstractContextManager[None]],
) -> None:  # fmt: skip
    with guests(database), trouble(servers):
        found = conclude(trigger())
    assert not found.passed
    assert reason in found.reason
    assert found.measurements[0].value is not None
    assert found.measurements[0].value >= 0.6


def test_trouble_that_ends_in_time_passes(connections: None, servers: Servers, database: Database) -> None:
    result: list[Evidence] = []
    with guests(database):
        with paused(servers):
            waiting = threading.Thread(target=lambda: result.append(conclude(trigger(20))))
            waiting.start()
            time.sleep(0.5)
            assert not result
        waiting.join()
    assert result[0].passed, result[0].reason


def test_connection_that_is_lost_is_made_again(servers: Servers, database: Database, replica: Database) -> None:
    async def look() -> list[float]:
        seconds = []
        async with replication(database, [replica]) as looking:
            seconds.append((await looking.look()).seconds)
            with dead(servers):
                seconds.append((await looking.look()).seconds)
            seconds.append((await looking.look()).seconds)
        return seconds

    first, lost, again = asyncio.run(look())
    assert math.isinf(lost)
    assert math.isfinite(first)
    assert math.isfinite(again)


def test_source_measures_connections_and_lag(connections: None, servers: Servers, database: Database) -> None:
    async def measure(source: DatabaseSource) -> dict[str, float]:
        return {m.what: m.value or 0 for m in await source.measure()}

    async def good_then_bad() -> tuple[dict[str, float], dict[str, float]]:
        source = DatabaseSource("db_primary", ["db_replica"])
        async with asyncio.timeout(20):
            while (good := await measure(source))[REPLICATION_LAG] > 0.6 or good[CONNECTIONS] < 2:
                await asyncio.sleep(0.2)
        with paused(servers):
            await asyncio.sleep(1.5)
            bad = await measure(source)
        await source.close()
        return good, bad

    with guests(database):
        _, bad = asyncio.run(good_then_bad())
    assert bad[REPLICATION_LAG] > 0.9


def test_source_that_knows_nothing_raises(connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = {"conn_type": "postgres", "host": "127.0.0.1", "port": 1, "login": "u", "schema": "d"}
    monkeypatch.setenv("AIRFLOW_CONN_DB_PRIMARY", json.dumps(nowhere))
    with pytest.raises(DatabaseUnknown):
        asyncio.run(DatabaseSource("db_primary", ["db_replica"]).measure())


@pytest.mark.plan("Watch database connection count")
def test_guard_sees_a_good_migration(database: Database, replica: Database, limits: StatementLimits) -> None:
    guard = Guard(database, [replica], max_lag_seconds=5)
    with guard.watching():
        runner.apply(database, bundle(m1="SELECT pg_sleep(0.5)"), limits, breach=guard.breach, session=guard.session)
    seen = {m.what: m.value for m in guard.seen.measurements()}
    assert guard.breach() is None
    assert (seen["lag_samples"] or 0) >= 4
    assert (seen["max_database_connections"] or 0) >= 2


@pytest.mark.plan("Watch replication lag on read replicas", "(with active monitoring and validation)")
def test_guard_stops_a_migration_when_replicas_fall_behind(
    servers: Servers, database: Database, replica: Database, limits: StatementLimits
) -> None:
    guard, begin = Guard(database, [replica], max_lag_seconds=0.3), time.monotonic()
    with (
        guests(database),
        paused(servers),
        guard.watching(),
        pytest.raises(MigrationFailed, match=r"replication lag above 0\.3 s"),
    ):
        runner.apply(
            database, bundle(m1="CREATE TABLE t (); SELECT pg_sleep(15)"), limits,
            breach=guard.breach, session=guard.session,
        )  # fmt: skip
    assert time.monotonic() - begin < 10
    with database.connect() as session:
        assert session.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_guard_stops_a_migration_that_is_not_its_own(servers: Servers, database: Database, replica: Database) -> None:
    """Prisma's: whoever holds its lock is cancelled."""
    import psycopg

    guard = Guard(database, [replica], max_lag_seconds=0.3)
    with guests(database), paused(servers), database.connect() as other:
        other.execute("SELECT pg_advisory_lock(72707369)")
        with guard.watching(), pytest.raises(psycopg.errors.QueryCanceled):
            other.execute("SELECT pg_sleep(15)")
