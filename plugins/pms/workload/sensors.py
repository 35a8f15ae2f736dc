"""Waits for a colour to run."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Literal

from pms.step import Job, Step

if TYPE_CHECKING:
    from pms.models.evidence import Evidence


class RolloutComplete(Step):
    """Plan 2.2 step 4, ``kubectl rollout status``: passes when every replica of the colour is available.

    Fails when the Deployment made no progress in time, and within seconds when its pods cannot start; the
    reason then holds the container's state and the last lines of its log. Holds no worker slot.

    :param colour: whose Deployment, ``new`` or ``old`` (rollback waits for the old one)
    :param timeout: seconds; the plan's ``cluster.rollout_timeout_seconds`` by default
    """

    def __init__(self, *, colour: Literal["new", "old"] = "new", timeout: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.colour = colour
        self.timeout = timeout or self.plan.cluster.rollout_timeout_seconds

    def work(self, job: Job) -> Evidence:
        from pms.workload.triggers import RolloutTrigger, conclusion

        cluster = self.plan.cluster
        colour = job.ticket.new_colour if self.colour == "new" else job.ticket.old_colour
        name, labels = cluster.deployment_of(colour), cluster.selector_of(colour)
        status, troubles = asyncio.run(self._look(job, name, labels))
        if evidence := conclusion(self.task_id, name, status, troubles):
            return evidence
        self.log.info("%s: %s", name, status.text)
        trigger = RolloutTrigger(
            connection=cluster.connection,
            namespace=cluster.namespace,
            deadline=time.time() + self.timeout,
            check=self.task_id,
            deployment=name,
            labels=labels,
        )
        raise self.waiting(trigger, self.timeout)

    async def _look(self, job: Job, name: str, labels: dict[str, str]) -> Any:
        from pms.workload import rollout

        async with job.kube() as kube:
            return await rollout.look(kube, name, labels)
