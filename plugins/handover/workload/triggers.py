"""What waits for the cluster without holding a worker: a rollout, a Job, pods that fall silent.

Every trigger carries its deadline as seconds since the epoch: a restarted triggerer does not begin anew.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.kube import jobs
from handover.kube.events import Events
from handover.kube.reasons import Patience
from handover.kube.waiting import Overdue, until
from handover.models.evidence import failed
from handover.outside import outside
from handover.plan.model import Plan
from handover.ports.kube import KubeError
from handover.telemetry.pods import PodReader
from handover.workload import quiet, rollout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from handover.ports.kube import Kube


class ClusterTrigger(BaseTrigger):
    """Looks at one namespace until there is an event, or until the deadline."""

    def __init__(self, *, connection: str, namespace: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection, self.namespace, self.deadline = connection, namespace, deadline

    def arguments(self) -> dict[str, Any]:
        return {"connection": self.connection, "namespace": self.namespace, "deadline": self.deadline}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with outside().kube(self.connection, self.namespace) as kube:
            payload = await self.event(kube)
        yield TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def event(self, kube: Kube) -> dict[str, Any]:
        """What there is to say at the end of the wait."""
        try:
            return await until(partial(self.look, kube), self.deadline)
        except (Overdue, KubeError) as error:
            return self.overdue(str(error))

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        """The event's payload, or None while there is nothing to say."""
        raise NotImplementedError

    def overdue(self, last: str) -> dict[str, Any]:
        """The payload when there is nothing to wait for any more; ``last``: what kept us from looking."""
        raise NotImplementedError


class RolloutTrigger(ClusterTrigger):
    """Waits for a Deployment (plan 2.2 step 4). The event is an `Evidence`."""

    def __init__(self, *, check: str, deployment: str, labels: dict[str, str], **common: Any) -> None:
        super().__init__(**common)
        self.check, self.deployment, self.labels = check, deployment, labels
        self._patience, self._events = Patience(), Events()
        self._last = "nothing was seen"

    def arguments(self) -> dict[str, Any]:
        own = {"check": self.check, "deployment": self.deployment, "labels": self.labels}
        return super().arguments() | own

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        status, troubles = await rollout.look(kube, self.deployment, self.labels, self._events)
        if (line := rollout.line(status, troubles)) != self._last:
            self.log.info("%s: %s", self.deployment, line)
        self._last = line
        evidence = rollout.conclusion(self.check, self.deployment, status, troubles)
        if evidence is None and (trouble := self._patience.exhausted(troubles, clock.epoch())):
            why = await rollout.explain(kube, trouble)
            evidence = failed(self.check, f"{self.deployment}: {status.text}; {why}")
        return evidence.model_dump(mode="json") if evidence else None

    def overdue(self, last: str) -> dict[str, Any]:
        seen = "; ".join(text for text in (last, self._last) if text)
        reason = f"{self.deployment} is not rolled out in time: {seen}"
        return failed(self.check, reason).model_dump(mode="json")


class JobTrigger(ClusterTrigger):
    """Waits for a Job. The event holds the fields of its `handover.kube.jobs.JobEnd`."""

    def __init__(self, *, job: str, **common: Any) -> None:
        super().__init__(**common)
        self.job = job

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"job": self.job}

    async def event(self, kube: Kube) -> dict[str, Any]:
        try:
            end = await jobs.wait(kube, self.job, self.deadline)
        except KubeError as error:
            end = jobs.JobEnd(self.job, None, f"the Job cannot be looked at: {error}")
        return asdict(end)


class QuietTrigger(ClusterTrigger):
    """Waits until the pods of a colour answer no client for ``quiet_seconds``, and until clients have left, where pods
    tell that; at the deadline the first is enough. The event: ``{"quiet": bool, "reason": text}``.
    """

    def __init__(self, *, plan: dict[str, Any], colour: str, quiet_seconds: float, **common: Any) -> None:
        super().__init__(**common)
        self.plan, self.colour, self.quiet_seconds = plan, colour, quiet_seconds
        self._silence: quiet.Silence | None = None

    def arguments(self) -> dict[str, Any]:
        own = {"plan": self.plan, "colour": self.colour, "quiet_seconds": self.quiet_seconds}
        return super().arguments() | own

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        if self._silence is None:
            reader = PodReader(kube, Plan.model_validate(self.plan), self.colour)
            self._silence = quiet.Silence(reader, self.quiet_seconds)
        reason = await self._silence.look(clock.epoch())
        return {"quiet": True, "reason": reason} if reason else None

    def overdue(self, last: str) -> dict[str, Any]:
        if not last and self._silence and self._silence.idle:
            return {"quiet": True, "reason": self._silence.idle}
        return {"quiet": False, "reason": last or (self._silence.last if self._silence else "no pod was seen")}
