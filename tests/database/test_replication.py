"""Lag: what servers say of replay that is paused, a receiver that is cut, a dead server; and who waits, watches, stops.

What real servers say is asked of a real primary and replica, and of their twin; the rest happens on the twin, in
virtual time.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from handover import clock
from handover.adapters.postgres import Database
from handover.database import ledger, runner
from handover.database.guard import Guard
from handover.database.lag import LagSample, Replication, replication
from handover.database.runner import MigrationFailed, StatementLimits
from handover.database.sensors import ReplicationLag
from handover.database.sources import DatabaseSource, DatabaseUnknown
from handover.database.triggers import LagTrigger
from handover.models.evidence import Evidence
from handover.models.names import CONNECTIONS, REPLICATION_LAG
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from tests.database.conftest import bundle, fill
from tests.support import steps
from tests.support.postgres import PASSWORD, Servers
from tests.support.until import until, until_async
from tests.support.virtual import BEGIN, VirtualTime
from tests.twins.beside import cluster_in_memory
from tests.twins.replication import PRIMARY, REPLICA, TwinServers

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


# --- what servers say


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
        conninfo = f"host={servers.primary.host} port={servers.primary.port} user=postgres password={PASSWORD}"
        servers.ask(servers.replica, f"ALTER SYSTEM SET primary_conninfo = '{conninfo}'")
        servers.ask(servers.replica, "SELECT pg_reload_conf()")
        _until_streaming(servers)


@contextmanager
def dead(servers: Servers) -> Iterator[None]:
    servers.stop("r", "fast")
    try:
        yield
    finally:
        servers.start("r")
        _until_streaming(servers)


def _until_streaming(servers: Servers) -> None:
    until(lambda: servers.ask(servers.primary, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))


def replica_of(servers: Servers) -> Database:
    """As the owner of databases sees it."""
    return Database(servers.replica.host, servers.replica.port, "postgres", "owner", PASSWORD)


@dataclass
class AnyServers:
    """Real servers, or the twin. ``write``: what a guest does; ``suffering``: a block in which the replica does so."""

    primary: Database
    replica: Database
    write: Callable[[], object]
    suffering: Callable[[str], AbstractContextManager[None]]
    run: Callable[[Any], Any]

    @asynccontextmanager
    async def looking(self) -> AsyncIterator[Replication]:
        async with replication(self.primary, [self.replica]) as looking:
            await self.until(looking, lambda sample: sample.within(60))
            yield looking

    async def until(self, looking: Replication, so: Callable[[LagSample], bool]) -> LagSample:
        """Looks, while somebody writes, until it is so."""

        async def look() -> LagSample | None:
            self.write()
            sample = await looking.look()
            return sample if so(sample) else None

        return await until_async(look) or LagSample(math.inf, (), None)


@pytest.fixture(params=["twin", "real"])
def any_servers(request: pytest.FixtureRequest) -> Iterator[AnyServers]:
    if request.param == "twin":
        turned, servers = request.getfixturevalue("virtual_time"), request.getfixturevalue("twins")
        yield AnyServers(PRIMARY, REPLICA, lambda: None, servers.suffering, turned.run)
        return
    there = request.getfixturevalue("replicated")
    database, troubles = there.copy("shop", "owner", fill), {"paused": paused, "cut": cut, "dead": dead}
    with database.connect() as session:
        yield AnyServers(
            database, replica_of(there), lambda: session.execute("INSERT INTO visits DEFAULT VALUES"),
            lambda name: troubles[name](there), asyncio.run,
        )  # fmt: skip


def test_a_replica_that_follows_has_no_problem_and_a_small_lag(any_servers: AnyServers) -> None:
    async def look() -> LagSample:
        async with any_servers.looking() as looking:
            return await any_servers.until(looking, lambda sample: sample.within(60))

    sample = any_servers.run(look())
    assert (sample.problems, math.isfinite(sample.seconds)) == ((), True)
    assert sample.primary is not None
    assert sample.primary.connections >= 2


@pytest.mark.parametrize(("trouble", "reason"), [("paused", "its replay is paused"), ("cut", "its receiver is gone")])
def test_trouble_is_told_by_its_name_and_the_lag_grows(any_servers: AnyServers, trouble: str, reason: str) -> None:
    async def look() -> tuple[LagSample, LagSample, LagSample]:
        async with any_servers.looking() as looking:
            with any_servers.suffering(trouble):
                first = await any_servers.until(looking, lambda s: reason in s.text and s.seconds > 0)
                later = await any_servers.until(looking, lambda s: s.seconds > first.seconds)
            after = await any_servers.until(looking, lambda s: not s.problems and s.seconds < later.seconds)
            return first, later, after

    first, later, after = any_servers.run(look())
    assert 0 < first.seconds < later.seconds < math.inf
    assert after.problems == ()


def test_a_server_that_is_dead_is_infinitely_behind_and_asked_again_once_it_lives(any_servers: AnyServers) -> None:
    async def look() -> tuple[LagSample, LagSample]:
        async with any_servers.looking() as looking:
            with any_servers.suffering("dead"):
                lost = await looking.look()
            return lost, await any_servers.until(looking, lambda sample: sample.within(60))

    lost, again = any_servers.run(look())
    assert math.isinf(lost.seconds)
    assert "cannot be asked" in lost.text
    assert math.isfinite(again.seconds)


def test_a_replica_of_another_cluster_is_told(servers: Servers, replicated: Servers) -> None:
    async def look(primary: Database) -> str:
        async with replication(primary, [replica_of(replicated)]) as looking:
            return (await looking.look()).text

    assert "is a replica of another cluster" in asyncio.run(look(servers.new("owner")))
    closed = replicated.new("owner")
    replicated.ask(replicated.primary.named(closed.name), "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    assert "both roles have to be let call pg_control_system()" in asyncio.run(look(closed))


# --- who waits for it


@pytest.fixture
def twins(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch) -> TwinServers:
    """What stands behind the connections `pms_primary` and `pms_replica`."""
    made = TwinServers()

    async def opened(database: Database, **options: Any) -> Any:
        return await made.open(database, **options)

    monkeypatch.setattr(Database, "open", opened)
    for name, db in (("pms_primary", PRIMARY), ("pms_replica", REPLICA)):
        steps.connect_to(
            monkeypatch, name, conn_type="postgres", host=db.host, port=db.port, login=db.user, password=PASSWORD,
            schema=db.name,
        )  # fmt: skip
    return made


def trigger(seconds: float = 5.0) -> LagTrigger:
    return LagTrigger(
        check="lag", primary="pms_primary", replicas=["pms_replica"], limit_seconds=0.6,
        deadline=clock.epoch() + seconds,
    )  # fmt: skip


def conclude(waiting: LagTrigger) -> Evidence:
    (payload,) = asyncio.run(steps.events(waiting, seconds=1e6))
    return Evidence.model_validate(payload)


def test_trigger_is_made_again_from_what_it_says() -> None:
    path, arguments = trigger().serialize()
    assert path == "handover.database.triggers.LagTrigger"
    assert PASSWORD not in json.dumps(arguments)
    assert LagTrigger(**json.loads(json.dumps(arguments))).serialize() == (path, arguments)


@pytest.mark.plan("Database replicas synchronized", "Database replicas in sync")
@pytest.mark.parametrize("idle", [False, True])
def test_replica_that_follows_passes_after_a_whole_second(
    twins: TwinServers, virtual_time: VirtualTime, idle: bool
) -> None:
    twins.idle = idle
    found = conclude(trigger(15))
    assert found.passed, found.reason
    assert found.measurements[0].value is not None
    assert found.measurements[0].value < 0.6
    assert 1.0 <= virtual_time.now < 1.2


@pytest.mark.plan("Database replication lag <2 seconds", "Replication lag normal (<2 seconds)")
@pytest.mark.parametrize(
    ("trouble", "reason"),
    [("paused", "its replay is paused"), ("cut", "its receiver is gone"), ("dead", "cannot be asked")],
)
def test_trouble_fails_at_the_deadline_with_its_reason(
    twins: TwinServers, virtual_time: VirtualTime, trouble: str, reason: str
) -> None:
    async def waited() -> list[Any]:
        with twins.suffering(trouble):
            return await steps.events(trigger(), seconds=1e6)

    (payload,) = asyncio.run(waited())
    found = Evidence.model_validate(payload)
    assert not found.passed
    assert reason in found.reason
    assert found.measurements[0].value is not None
    assert found.measurements[0].value >= 0.6
    assert 5.0 <= virtual_time.now < 5.2


def test_trouble_that_ends_in_time_passes(twins: TwinServers, virtual_time: VirtualTime) -> None:
    async def waited() -> list[Any]:
        waiting = asyncio.create_task(steps.events(trigger(20), seconds=1e6))
        with twins.suffering("paused"):
            await asyncio.sleep(3)
            assert not waiting.done()
        return await waiting

    (payload,) = asyncio.run(waited())
    assert Evidence.model_validate(payload).passed
    assert 4.0 <= virtual_time.now < 4.3


def test_the_step_waits_with_the_plans_connections_and_until_its_time(twins: TwinServers) -> None:
    with cluster_in_memory() as cluster:
        token = asyncio.run(steps.opened(cluster.client(), PLAN.lock_name, "i"))
        ran = steps.run(ReplicationLag(task_id="lag", plan=PLAN, limit_seconds=2.0), token, steps.release("i"))
    (waited,) = ran.triggers
    assert ran.evidence.passed
    assert isinstance(waited, LagTrigger)
    assert waited.deadline == pytest.approx(BEGIN + PLAN.migration.lag_timeout_seconds)


# --- who watches


def test_source_measures_connections_and_the_worst_lag_since_it_was_asked(twins: TwinServers) -> None:
    async def measured() -> tuple[dict[str, Any], dict[str, Any]]:
        source = DatabaseSource("pms_primary", ["pms_replica"])

        async def ask() -> dict[str, Any]:
            return {m.what: m.value for m in await source.measure()}

        good = await ask()
        with twins.suffering("paused"):
            await asyncio.sleep(1.5)
        await asyncio.sleep(1.5)
        bad = await ask()
        await source.close()
        return good, bad

    good, bad = asyncio.run(measured())
    assert good == {CONNECTIONS: 2, REPLICATION_LAG: 0.0}
    assert 1.3 < bad[REPLICATION_LAG] < 1.6


def test_source_that_knows_nothing_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pms_primary", "pms_replica"):
        steps.connect_to(monkeypatch, name, conn_type="postgres", host="127.0.0.1", port=1, login="u", schema="d")
    with pytest.raises(DatabaseUnknown):
        asyncio.run(DatabaseSource("pms_primary", ["pms_replica"]).measure())


class PatientGuard(Guard):
    """Its first answer comes after its fourth look."""

    def breach(self) -> str | None:
        until(lambda: self.seen.samples >= 4, "the guard's fourth look")
        return super().breach()


@pytest.mark.plan("Watch database connection count")
def test_guard_sees_a_good_migration(replicated: Servers) -> None:
    database = replicated.copy("shop", "owner", fill)
    guard = PatientGuard(database, [replica_of(replicated)], max_lag_seconds=60)

    with guard.watching():
        runner.apply(database, bundle(m1="CREATE TABLE t ()"), StatementLimits(), guard)
    seen = {m.what: m.value for m in guard.seen.measurements()}
    assert guard.breach() is None
    assert (seen["lag_samples"] or 0) >= 4
    assert (seen["max_database_connections"] or 0) >= 2


@pytest.mark.plan("Watch replication lag on read replicas", "(with active monitoring and validation)")
def test_guard_stops_a_migration_when_replicas_fall_behind(
    twins: TwinServers, database: Database, connection: psycopg.Connection[Any], limits: StatementLimits
) -> None:
    guard = Guard(database, [REPLICA], max_lag_seconds=0.3)

    def fall_behind() -> None:
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        until(lambda: connection.execute(sleeping.encode()).fetchone() == (1,), "the second statement")
        twins.trouble = "paused"

    falling = threading.Thread(target=fall_behind)
    falling.start()
    with guard.watching(), pytest.raises(MigrationFailed, match=r"m1: statement 2 .*replication lag above 0\.3 s"):
        runner.apply(database, bundle(m1="CREATE TABLE t (); SELECT pg_sleep(600)"), limits, guard)
    falling.join()
    assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_guard_stops_a_migration_when_traffic_went_back(
    twins: TwinServers, database: Database, connection: psycopg.Connection[Any], limits: StatementLimits
) -> None:
    gone: list[str] = []

    async def moved_back() -> str:
        if gone:
            raise OSError("the cluster is away")  # what is not known stops nothing, and undoes no stop
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
        if connection.execute(sleeping.encode()).fetchone() == (1,):
            gone.append("traffic is not on green any more")
        return "".join(gone)

    guard = Guard(database, [REPLICA], max_lag_seconds=60, called_off=moved_back)
    with guard.watching(), pytest.raises(MigrationFailed, match=r"m1: statement 2 .*traffic is not on green any more"):
        runner.apply(database, bundle(m1="CREATE TABLE t (); SELECT pg_sleep(600)"), limits, guard)
    assert connection.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_guard_cancels_nothing_but_the_statements_of_a_migration(twins: TwinServers, database: Database) -> None:
    """It goes on cancelling for as long as the lag lasts; what cleans up after a failure is not hit."""
    twins.trouble = "paused"
    guard = Guard(database, [REPLICA], max_lag_seconds=0.3)
    with guard.watching(), database.connect() as ours:
        until(lambda: guard.breach() is not None, "the breach")
        with pytest.raises(psycopg.errors.QueryCanceled), guard.cancellable(ours):
            ours.execute("SELECT pg_sleep(600)")
        before = guard.seen.samples
        while guard.seen.samples < before + 5:
            ours.execute("SELECT pg_sleep(0.01)")


def test_guard_stops_a_migration_that_is_not_its_own(twins: TwinServers, database: Database) -> None:
    """Prisma's: whoever holds its lock is cancelled."""
    twins.trouble = "paused"
    guard = Guard(database, [REPLICA], max_lag_seconds=0.3, cancels=ledger.holders)
    with database.connect() as other:
        other.execute("SELECT pg_advisory_lock(72707369)")
        with guard.watching(), pytest.raises(psycopg.errors.QueryCanceled):
            other.execute("SELECT pg_sleep(600)")
