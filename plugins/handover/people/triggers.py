"""Waits for the moment of a reminder without holding a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock

LOOK_SECONDS = 5.0
OPEN = "awaiting_input"
"""Airflow's state of a task that waits for a person."""
BEFORE = frozenset({None, "scheduled", "queued", "running", "restarting", "up_for_retry", "up_for_reschedule"})
"""States of a question that has not been asked yet, or is asked again."""


class QuestionTrigger(BaseTrigger):
    """Looks at a question until ``at`` (seconds since the epoch), or until it does not wait any more: the event's
    ``waiting`` says which. Started again by another triggerer, it goes on with the same moment, also when that is over.
    """

    def __init__(
        self, *, dag_id: str, run_id: str, task_id: str, at: float, look_seconds: float = LOOK_SECONDS
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dag_id, self.run_id, self.question, self.at = dag_id, run_id, task_id, at
        self.look_seconds = look_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {
            "dag_id": self.dag_id, "run_id": self.run_id, "task_id": self.question, "at": self.at,
            "look_seconds": self.look_seconds,
        }  # fmt: skip
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        waiting = await self.waits()
        yield TriggerEvent({"waiting": waiting})  # type: ignore[no-untyped-call]

    async def waits(self) -> bool:
        while True:
            try:
                state = await self._state()
            except Exception as error:  # Airflow's API may be away for a while; the question does not depend on us
                self.log.warning("the state of %s is not known: %s", self.question, error)
            else:
                if state != OPEN and state not in BEFORE:
                    return False
                if state == OPEN and clock.epoch() >= self.at:
                    return True
            left = self.at - clock.epoch()
            await asyncio.sleep(min(self.look_seconds, left) if left > 0 else self.look_seconds)

    async def _state(self) -> str | None:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
        from asgiref.sync import sync_to_async

        states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
            dag_id=self.dag_id, task_ids=[self.question], run_ids=[self.run_id]
        )
        return (states.get(self.run_id) or {}).get(self.question)
