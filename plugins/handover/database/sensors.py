"""Waits for the database's replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover import clock
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.models.evidence import Evidence


class ReplicationLag(Step):
    """Plan 2.3 and 3.3: replicas are less than ``limit_seconds`` behind, for a whole second, and replication works.

    Fails after the plan's ``migration.lag_timeout_seconds`` with what was wrong last. Holds no worker slot: one look
    could not tell the lag, so it waits in the triggerer from the start.

    :param limit_seconds: seconds of lag that are too many
    :param timeout: seconds; the plan's ``migration.lag_timeout_seconds`` by default
    """

    needs = "migration.replica_connections"

    def __init__(self, *, limit_seconds: float, timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.limit_seconds = limit_seconds
        self.timeout = timeout

    def work(self, run: StepRun) -> Evidence:
        from handover.database.triggers import LagTrigger

        migration = self.plan.database
        timeout = self.timeout or migration.lag_timeout_seconds
        trigger = LagTrigger(
            check=self.task_id,
            primary=migration.primary_connection,
            replicas=list(migration.replica_connections),
            limit_seconds=self.limit_seconds,
            deadline=clock.epoch() + timeout,
        )
        raise self.waiting(trigger, timeout)
