"""Waits for replicas without holding a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.adapters.postgres import database_async
from handover.database.lag import LagSample, LagTrouble, Sustained, replication
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.models.names import REPLICATION_LAG

SUSTAINED_SECONDS = 1.0


class LagTrigger(BaseTrigger):
    """Looks at primary and replicas ten times a second until the lag has been below the limit for a whole second.

    The event is an `Evidence`. It carries connection ids, never addresses or passwords; a restarted triggerer goes on
    with the same deadline (seconds since the epoch).
    """

    def __init__(
        self, *, check: str, primary: str, replicas: list[str], limit_seconds: float, deadline: float,
        sustained_seconds: float = SUSTAINED_SECONDS,
    ) -> None:  # fmt: skip
        super().__init__()  # type: ignore[no-untyped-call]
        self.check, self.primary, self.replicas = check, primary, list(replicas)
        self.limit_seconds, self.deadline, self.sustained_seconds = limit_seconds, deadline, sustained_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        names = ("check", "primary", "replicas", "limit_seconds", "deadline", "sustained_seconds")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        evidence = await self.watch()
        yield TriggerEvent(evidence.model_dump(mode="json"))  # type: ignore[no-untyped-call]

    async def watch(self) -> Evidence:
        """The evidence, at the latest when the deadline has passed."""
        primary = await database_async(self.primary)
        replicas = [await database_async(name) for name in self.replicas]
        sustained, trouble = Sustained(self.limit_seconds, self.sustained_seconds), LagTrouble(clock.monotonic())
        async with replication(primary, replicas) as looking:
            async for sample in looking.samples():
                now = clock.monotonic()
                seconds = trouble.seconds(sample, now)
                if sustained.reached(sample, now):
                    return passed(self.check, f"{sample.text} for {self.sustained_seconds:g} s", measured(seconds))
                if clock.epoch() >= self.deadline:
                    return self.late(sample, seconds)
        raise AssertionError("samples never end")

    def late(self, sample: LagSample, seconds: float) -> Evidence:
        return failed(
            self.check, f"replicas are not below {self.limit_seconds:g} s in time: {sample.text}", measured(seconds)
        )


def measured(seconds: float) -> Measurement:
    return Measurement(what=REPLICATION_LAG, value=round(seconds, 3), unit="s", source="LSN history")
