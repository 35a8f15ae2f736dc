"""The database as a source of measurements for the watch (plan 2.2 step 7, 2.3, 5.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from handover import clock
from handover.adapters.postgres import database_async
from handover.database.lag import LagSample, LagTrouble, replication
from handover.models.evidence import Measurement
from handover.models.names import CONNECTIONS, REPLICATION_LAG

FORGOTTEN_SECONDS = 30.0
"""Nobody asked for so long: the watch is over, and we stop looking."""
FIRST_LOOK_SECONDS = 10.0


class DatabaseUnknown(Exception):
    """The primary cannot be asked."""


class DatabaseSource:
    """Connections and replication lag. ``primary`` and ``replicas`` are Airflow connection ids.

    Replicas are looked at ten times a second in the background, since a lag can only be seen by looking often;
    `measure` gives the worst since it was last called. A lag that cannot be known (a replica is dead, the receiver is
    cut) is at least as long as that lasts, so it grows above any limit.
    """

    name = "database"

    def __init__(self, primary: str, replicas: Sequence[str]) -> None:
        self._ids = (primary, tuple(replicas))
        self._task: asyncio.Task[None] | None = None
        self._asked = 0.0
        self._worst: float | None = None
        self._last: LagSample | None = None
        self._news = asyncio.Event()
        self._turn = asyncio.Lock()

    async def measure(self) -> list[Measurement]:
        """Raises `DatabaseUnknown` when the primary cannot be asked."""
        async with self._turn:  # what two have waited for together only one could have
            return await self._measure()

    async def _measure(self) -> list[Measurement]:
        self._asked = clock.monotonic()
        if self._task is None or self._task.done():
            self._news = asyncio.Event()
            self._task = asyncio.create_task(self._look())
        news = asyncio.create_task(self._news.wait())
        await asyncio.wait((news, self._task), timeout=FIRST_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        news.cancel()
        if self._task.done() and (error := self._task.exception()):
            raise error
        if not self._news.is_set():
            raise DatabaseUnknown(f"no look within {FIRST_LOOK_SECONDS:g} s")
        self._news.clear()
        if self._last is None or self._last.primary is None:
            raise DatabaseUnknown("the primary cannot be asked")
        worst, self._worst = self._worst, None
        source = f"{self.name}: {self._last.text}" if self._last.problems else self.name
        lag = None if worst is None else round(worst, 3)
        return [
            Measurement(what=CONNECTIONS, value=self._last.primary.connections, source=self.name),
            Measurement(what=REPLICATION_LAG, value=lag, unit="s", source=source),
        ]

    async def close(self) -> None:
        """Stops looking at once; without it that happens by itself when nobody asks any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _look(self) -> None:
        primary = await database_async(self._ids[0])
        replicas = [await database_async(name) for name in self._ids[1]]
        trouble = LagTrouble(clock.monotonic())
        async with replication(primary, replicas) as looking:
            async for sample in looking.samples():
                seconds = trouble.seconds(sample, clock.monotonic())
                self._worst = seconds if self._worst is None else max(seconds, self._worst)
                self._last = sample
                self._news.set()
                if clock.monotonic() - self._asked > FORGOTTEN_SECONDS:
                    return
