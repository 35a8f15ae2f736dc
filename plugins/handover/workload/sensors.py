"""Waits for a colour to run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from handover import clock
from handover.step import Step, StepRun

if TYPE_CHECKING:
    from handover.models.evidence import Evidence


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

    async def act(self, run: StepRun) -> Evidence:
        from handover.kube.events import Events
        from handover.workload import rollout
        from handover.workload.triggers import RolloutTrigger

        cluster = self.plan.cluster
        colour = run.token.preview if self.colour == "new" else run.token.stable
        name, labels = cluster.deployment_of(colour), cluster.selector_of(colour)
        async with run.kube() as kube:
            status, troubles = await rollout.look(kube, name, labels, Events())
        if evidence := rollout.conclusion(self.task_id, name, status, troubles):
            return evidence
        self.log.info("%s: %s", name, rollout.line(status, troubles))
        trigger = RolloutTrigger(
            connection=cluster.connection,
            namespace=cluster.namespace,
            deadline=clock.epoch() + self.timeout,
            check=self.task_id,
            deployment=name,
            labels=labels,
        )
        raise self.waiting(trigger, self.timeout)
