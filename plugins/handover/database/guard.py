"""Watches production while a migration runs, and stops it when replicas fall behind (plan 3.2 "Monitoring"), or when
traffic went back meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.airflow_connections import beside_the_task
from handover.adapters.postgres import Database
from handover.database.cancelling import Running
from handover.database.lag import LagSample, LagTrouble, replication
from handover.models.evidence import Measurement

if TYPE_CHECKING:
    from psycopg import Connection

log = logging.getLogger(__name__)
ROUTE_SECONDS = 0.5
BAD_SAMPLES = 5
"""In a row, every 100 ms: one late answer stops no migration."""
SOURCE = "database"


@dataclass
class Observed:
    """Extremes of what was seen. ``blocked``: most sessions that waited for a lock at once."""

    samples: int = 0
    max_lag: float = 0.0
    min_connections: int | None = None
    max_connections: int = 0
    max_blocked: int = 0

    def add(self, seconds: float, sample: LagSample) -> None:
        self.samples += 1
        self.max_lag = max(self.max_lag, seconds)
        if sample.primary is not None:
            now = sample.primary.connections
            self.min_connections = now if self.min_connections is None else min(now, self.min_connections)
            self.max_connections = max(now, self.max_connections)
            self.max_blocked = max(sample.primary.blocked, self.max_blocked)

    def measurements(self) -> tuple[Measurement, ...]:
        values = {
            "max_replication_lag_seconds": (round(self.max_lag, 3), "s"),
            "min_database_connections": (self.min_connections, ""),
            "max_database_connections": (self.max_connections, ""),
            "max_blocked_sessions": (self.max_blocked, ""),
            "lag_samples": (self.samples, ""),
        }
        return tuple(Measurement(what=w, value=v, unit=u, source=SOURCE) for w, (v, u) in values.items())


async def _stays() -> str:
    return ""


class Guard:
    """Samples every 100 ms in a thread of its own; it is a `handover.database.runner.Stop`.

    :param called_off: says why there is nothing to migrate for any more, "" while there is
    :param cancels: gives the sessions of a foreign runner; None: what a runner of ours runs at the moment
    """

    def __init__(
        self, primary: Database, replicas: Sequence[Database], max_lag_seconds: float, *,
        called_off: Callable[[], Awaitable[str]] = _stays,
        cancels: Callable[[Connection[Any]], Sequence[int]] | None = None,
    ) -> None:  # fmt: skip
        self.seen = Observed()
        self._primary, self._replicas, self._limit = primary, tuple(replicas), max_lag_seconds
        self._called_off, self._cancels = called_off, cancels
        self._reason: str | None = None
        self._running = Running()
        self._over = threading.Event()
        self._looked = threading.Event()

    def breach(self) -> str | None:
        """Why what runs has to stop, or None."""
        return self._reason

    def cancellable(self, connection: Connection[Any]) -> AbstractContextManager[None]:
        """See `Running.on`."""
        return self._running.on(connection)

    @contextmanager
    def watching(self) -> Iterator[Guard]:
        """Watches while the body runs; begins it after the first look."""
        thread = threading.Thread(target=lambda: asyncio.run(self._watch()), name="migration-guard", daemon=True)
        thread.start()
        self._looked.wait(10)
        try:
            yield self
        finally:
            self._over.set()
            thread.join(10)

    async def _watch(self) -> None:
        with beside_the_task():
            following = asyncio.create_task(self._follow())
            try:
                await self._sample()
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        """Whether the migration is still wanted. A cluster that does not answer stops nothing."""
        while not self._over.is_set():
            try:
                if why := await self._called_off():
                    await self._stop(why)
            except Exception as error:
                log.info("nobody knows whether it is wanted still: %s: %s", type(error).__name__, error)
            await asyncio.sleep(ROUTE_SECONDS)

    async def _stop(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            log.error("the migration is stopped: %s", reason)
        await asyncio.to_thread(self._cancel)

    async def _sample(self) -> None:
        bad, trouble = 0, LagTrouble(clock.monotonic())
        async with replication(self._primary, self._replicas) as looking:
            async for sample in looking.samples():
                seconds = trouble.seconds(sample, clock.monotonic())
                self.seen.add(seconds, sample)
                self._looked.set()
                if self._over.is_set():
                    return
                bad = bad + 1 if seconds > self._limit else 0
                if bad >= BAD_SAMPLES:
                    await self._stop(f"replication lag above {self._limit:g} s: {seconds:.1f} s ({sample.text})")

    def _cancel(self) -> None:
        import psycopg

        try:
            if self._cancels is None:
                self._running.cancel(timeout=2.0)
                return
            with self._primary.connect() as connection:
                for pid in self._cancels(connection):
                    connection.execute("SELECT pg_cancel_backend(%s)", (pid,))
        except psycopg.Error as error:
            log.warning("the running query could not be cancelled, the next sample tries again: %s", error)
