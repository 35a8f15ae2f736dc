"""Looks after everybody else while batches run: replicas, writers that wait for us, autovacuum, deployments.

In a thread of its own, so that it sees what happens during a batch; a batch that a writer waits for is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.airflow_connections import beside_the_task
from handover.database.cancelling import Running
from handover.database.lag import replication

if TYPE_CHECKING:
    import asyncpg
    from psycopg import Connection

    from handover.adapters.postgres import Database
    from handover.plan.data_migrations import DataMigrations

log = logging.getLogger(__name__)
LOOK_SECONDS = 0.05
STALE_SECONDS = 2.0
DEPLOYMENT_SECONDS = 0.5
VACUUM_SECONDS = 1.0
_WAITING = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - query_start)), 0)::float8 FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND $1 = ANY (pg_blocking_pids(pid))
"""
_VACUUM = """
SELECT EXISTS (SELECT FROM pg_stat_activity a JOIN pg_stat_progress_vacuum p USING (pid)
               WHERE p.relid = t.oid AND a.query ILIKE '%to prevent wraparound%'),
       EXISTS (SELECT FROM pg_stat_activity a JOIN pg_stat_progress_vacuum p USING (pid)
               WHERE p.relid = t.oid AND a.backend_type = 'autovacuum worker'),
       coalesce(s.n_dead_tup, 0)::float8 / greatest(1, coalesce(s.n_live_tup, 1))
FROM (SELECT $1::oid AS oid) t LEFT JOIN pg_stat_all_tables s ON s.relid = t.oid
"""
Held = Callable[[], Awaitable[str]]


async def nobody_deploys() -> str:
    return ""


@dataclass
class Seen:
    """The worst of it; seconds."""

    max_lag: float = 0.0
    max_wait: float = 0.0


class Pressure:
    """Says why no batch may begin (`hold`), and undoes one that somebody waits for.

    :param held: says what else has to be over first, "" when nothing has
    """

    def __init__(
        self, primary: Database, replicas: Sequence[Database], rules: DataMigrations, table: int, held: Held
    ) -> None:
        self.seen = Seen()
        self._primary, self._replicas, self._rules, self._table, self._held = primary, replicas, rules, table, held
        self._reasons: dict[str, str] = {"lag": "replication lag is not known yet"}
        self._looked = -STALE_SECONDS
        self._running = Running()
        self._over = threading.Event()
        self._first = threading.Event()

    def hold(self) -> str:
        """Why no batch may begin now; "" when one may."""
        if clock.monotonic() - self._looked > STALE_SECONDS:
            return "replication lag is not known"
        return "; ".join(reason for reason in list(self._reasons.values()) if reason)

    def wait(self, seconds: float) -> None:
        """For a while, or until it is over."""
        self._over.wait(seconds)

    def batch(self, connection: Connection[Any]) -> AbstractContextManager[None]:
        """See `Running.on`."""
        return self._running.on(connection)

    @contextmanager
    def watching(self) -> Iterator[Pressure]:
        here = contextvars.copy_context()  # what stands behind the ports here does so there
        thread = threading.Thread(
            target=lambda: here.run(lambda: asyncio.run(self._watch())), name="data-migration", daemon=True
        )
        thread.start()
        self._first.wait(10)
        try:
            yield self
        finally:
            self._over.set()
            thread.join(10)

    async def _watch(self) -> None:
        with beside_the_task():
            beside = [asyncio.create_task(self._deployments()), asyncio.create_task(self._database())]
            try:
                await self._lag()
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)

    async def _lag(self) -> None:
        async with replication(self._primary, self._replicas) as looking:
            async for sample in looking.samples():
                if sample.seconds != float("inf"):
                    self.seen.max_lag = max(self.seen.max_lag, sample.seconds)
                good = sample.within(self._rules.max_lag_seconds)
                self._reasons["lag"] = "" if good else f"replicas: {sample.text}"
                self._looked = clock.monotonic()
                if self._over.is_set():
                    return
                if self._reasons.keys() >= {"deployment", "writers"}:
                    self._first.set()

    async def _deployments(self) -> None:
        """Whether somebody deploys. A cluster that does not answer holds: nobody knows."""
        while True:
            try:
                self._reasons["deployment"] = await self._held()
            except Exception as error:
                self._reasons["deployment"] = f"whether somebody deploys is not known: {type(error).__name__}"
            await asyncio.sleep(DEPLOYMENT_SECONDS)

    async def _database(self) -> None:
        import asyncpg

        connection: asyncpg.Connection | None = None
        vacuum_at = 0.0
        while True:
            try:
                if connection is None or connection.is_closed():
                    connection = await self._primary.open()
                await self._writers(connection)
                if clock.monotonic() >= vacuum_at:
                    await self._vacuum(connection)
                    vacuum_at = clock.monotonic() + VACUUM_SECONDS
            except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                self._reasons["writers"] = f"whether writers wait is not known: {type(error).__name__}"
                if connection is not None:
                    connection.terminate()
                connection = None
            await asyncio.sleep(LOOK_SECONDS)

    async def _writers(self, connection: asyncpg.Connection) -> None:
        pid = self._running.pid
        seconds = await connection.fetchval(_WAITING, pid) if pid is not None else 0.0
        self.seen.max_wait = max(self.seen.max_wait, seconds)
        self._reasons["writers"] = ""
        if seconds > self._rules.max_wait_seconds:
            await asyncio.to_thread(self._cancel)

    async def _vacuum(self, connection: asyncpg.Connection) -> None:
        wraparound, works, dead = await connection.fetchrow(_VACUUM, self._table)
        reason = "autovacuum works on the table to prevent wraparound" if wraparound else ""
        if not reason and works and dead > self._rules.max_dead_share:
            reason = f"autovacuum works on the table, which has {dead:.1f} dead rows for each live one"
        self._reasons["autovacuum"] = reason

    def _cancel(self) -> None:
        import psycopg

        try:
            self._running.cancel(timeout=1.0)
        except psycopg.Error as error:
            log.warning("a batch that a writer waits for could not be cancelled: %s", type(error).__name__)
