"""Keeps what a watch sees over time, for the record. The watch never waits for it.

Samples are kept in memory and brought to the ledger every few seconds by a task of its own; what the ledger did not
take goes along with the watch's event and is written when the deployment ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import database_async
from handover.models.record import Sample
from handover.record.ledger import write_samples

if TYPE_CHECKING:
    from handover.analysis.observations import Observations
    from handover.plan.record import RecordRules

log = logging.getLogger(__name__)
MAX_MOMENTS = 400
"""So many moments are kept while the ledger is away; then every other one is forgotten, again and again."""
MAX_SAMPLES = 8000
"""The same for a watch with many measures."""
WRITE_SECONDS = 3.0


class Samples:
    """``seen`` is looked at every ``record.sample_seconds``."""

    def __init__(self, record: RecordRules, seen: Observations, deployment: str, run: str, step: str) -> None:
        self._record, self._seen = record, seen
        self._place = (deployment, run, step)
        self._moments: list[list[Sample]] = []
        self._last: dict[tuple[str, str], float] = {}

    async def keep(self) -> None:
        """Until it is cancelled; the last look is then, so that a breach that ends the watch is seen too."""
        flushing = asyncio.create_task(self._flush())
        try:
            while True:
                await asyncio.sleep(self._record.sample_seconds)
                self.look(clock.monotonic())
        finally:
            self.look(clock.monotonic())
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)

    def left(self) -> list[dict[str, Any]]:
        """What the ledger has not got, as JSON; whose they are is filled in again when they are written."""
        return [
            sample.model_dump(mode="json", exclude={"deployment", "run", "step"})
            for moment in self._moments
            for sample in moment
        ]

    def look(self, now: float) -> None:
        """A value that was measured seldom is kept once, at the time when it was measured."""
        moment = []
        for m in self._seen.sample(now):
            source = m.source.partition(":")[0]
            if m.value is not None and self._last.get((m.what, source)) != m.at:
                self._last[m.what, source] = m.at
                moment.append(Sample(what=m.what, source=source, at=m.at, value=m.value, unit=m.unit).of(*self._place))
        self._moments.append(moment)
        if len(self._moments) > MAX_MOMENTS or sum(map(len, self._moments)) > MAX_SAMPLES:
            self._moments = self._moments[::2]

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(self._record.flush_seconds)
            moments = list(self._moments)
            samples = [sample for moment in moments for sample in moment]
            try:
                async with asyncio.timeout(WRITE_SECONDS):
                    await self._write(samples)
            except Exception as error:
                log.info("samples are kept, the ledger did not take them: %s: %s", type(error).__name__, error)
            else:
                written = {id(moment) for moment in moments}
                self._moments = [moment for moment in self._moments if id(moment) not in written]

    async def _write(self, samples: list[Sample]) -> None:
        connection = await (await database_async(self._record.connection)).open(command_timeout=WRITE_SECONDS)
        try:
            await write_samples(connection, samples)
        finally:
            connection.terminate()  # at once; closing politely could wait
