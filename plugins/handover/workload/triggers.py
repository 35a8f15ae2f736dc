"""What waits for the cluster without holding a worker: a rollout, a Job, pods that fall silent.

Every trigger carries its deadline as seconds since the epoch: a restarted triggerer does not begin anew.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from handover import clock
from handover.kube import jobs
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.outside import outside
from handover.ports.kube import Kube, KubeError, NotFound
from handover.workload import quiet, rollout
from handover.workload.rollout import ContainerTrouble, RolloutPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

POLL_SECONDS = 0.5


def passing(error: KubeError) -> bool:
    """Whether asking again may help: no answer, too many requests, or a fault of the API server."""
    return error.status in (0, 408, 429) or error.status >= 500


class Patience:
    """Remembers since when each container is in trouble, for troubles that may pass by themselves."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def exhausted(self, troubles: list[ContainerTrouble], now: float) -> ContainerTrouble | None:
        """The first trouble that is final, or older than `rollout.PATIENCE_SECONDS`; others may pass."""
        present = {(t.pod, t.container) for t in troubles}
        self._since = {key: since for key, since in self._since.items() if key in present}
        for trouble in troubles:
            since = self._since.setdefault((trouble.pod, trouble.container), now)
            if trouble.final or now - since >= rollout.PATIENCE_SECONDS:
                return trouble
        return None


class ClusterTrigger(BaseTrigger):
    """Looks at one namespace every half second until there is an event, or until the deadline."""

    def __init__(self, *, connection: str, namespace: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection, self.namespace, self.deadline = connection, namespace, deadline

    def arguments(self) -> dict[str, Any]:
        return {"connection": self.connection, "namespace": self.namespace, "deadline": self.deadline}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    async def look(self, kube: Kube) -> Any | None:
        """The event's payload, or None while there is nothing to say."""
        raise NotImplementedError

    def overdue(self, last: str) -> Any:
        """The payload when the deadline has passed; ``last``: what kept us from looking."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        last = ""
        async with outside().kube(self.connection, self.namespace) as kube:
            while True:
                try:
                    payload = await self.look(kube)
                    last = ""
                except KubeError as error:
                    payload, last = None, str(error)
                    if not passing(error):
                        payload = self.overdue(last)
                if payload is None and clock.epoch() >= self.deadline:
                    payload = self.overdue(last)
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                    return
                await asyncio.sleep(POLL_SECONDS)


class RolloutTrigger(ClusterTrigger):
    """Waits for a Deployment (plan 2.2 step 4). The event is an `Evidence`."""

    def __init__(self, *, check: str, deployment: str, labels: dict[str, str], **common: Any) -> None:
        super().__init__(**common)
        self.check, self.deployment, self.labels = check, deployment, labels
        self._patience = Patience()
        self._last = "nothing was seen"

    def arguments(self) -> dict[str, Any]:
        own = {"check": self.check, "deployment": self.deployment, "labels": self.labels}
        return super().arguments() | own

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        status, troubles = await rollout.look(kube, self.deployment, self.labels)
        self._last = "; ".join([status.text, *map(str, troubles)])
        if status.phase is RolloutPhase.PROGRESSING and (trouble := self._patience.exhausted(troubles, clock.epoch())):
            return _json(failed(self.check, await rollout.explain(kube, trouble)))
        return _json(conclusion(self.check, self.deployment, status, troubles))

    def overdue(self, last: str) -> dict[str, Any]:
        return _json(failed(self.check, f"{self.deployment} is not rolled out in time: {last or self._last}")) or {}


def conclusion(
    check: str, deployment: str, status: rollout.Rollout, troubles: list[ContainerTrouble]
) -> Evidence | None:
    """The verdict on a rollout, None while it goes on."""
    if status.phase is RolloutPhase.PROGRESSING:
        return None
    text = "; ".join([f"{deployment}: {status.text}", *map(str, troubles)])
    if status.phase is RolloutPhase.FAILED:
        return failed(check, text)
    source = f"kubernetes deployment {deployment}"
    return passed(check, text, Measurement(what="rolled_out", value=1, source=source))


def _json(evidence: Evidence | None) -> dict[str, Any] | None:
    return evidence.model_dump(mode="json") if evidence else None


class JobTrigger(ClusterTrigger):
    """Waits for a Job. The event: ``{"job": name, "succeeded": True, False or None, "reason": text}``.

    None: the command gave no answer. It never started, was stopped by its deadline, or its Job is gone.
    """

    def __init__(self, *, job: str, **common: Any) -> None:
        super().__init__(**common)
        self.job = job
        self._patience = Patience()

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"job": self.job}

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        try:
            job = await kube.get(jobs.JOBS, self.job)
        except NotFound:
            return self._event(None, "the Job is gone")
        for condition in (job.get("status") or {}).get("conditions") or ():
            if condition["status"] != "True":
                continue
            if condition["type"] == "Complete":
                return self._event(True, "")
            if condition["type"] == "Failed":
                in_time = condition.get("reason") != "DeadlineExceeded"
                return self._event(False if in_time else None, condition.get("message") or "")
        image = job["spec"]["template"]["spec"]["containers"][0]["image"]
        troubles = rollout.troubles(await kube.list("pods", {"job-name": self.job}), image)
        stuck = [t for t in troubles if t.exit_code is None]  # one that ran and failed fails its Job itself
        if trouble := self._patience.exhausted(stuck, clock.epoch()):
            return self._event(None, str(trouble))
        return None

    def overdue(self, last: str) -> dict[str, Any]:
        return self._event(None, f"no answer in time{f': {last}' if last else ''}")

    def _event(self, succeeded: bool | None, reason: str) -> dict[str, Any]:
        return {"job": self.job, "succeeded": succeeded, "reason": reason}


class QuietTrigger(ClusterTrigger):
    """Waits until pods answer nobody for ``quiet_seconds``. The event: ``{"quiet": bool, "reason": text}``."""

    def __init__(self, *, labels: dict[str, str], port: int, quiet_seconds: float, **common: Any) -> None:
        super().__init__(**common)
        self.labels, self.port, self.quiet_seconds = labels, port, quiet_seconds
        self._before: tuple[float, dict[str, float | None]] | None = None
        self._last = "the request counters were not read yet"

    def arguments(self) -> dict[str, Any]:
        own = {"labels": self.labels, "port": self.port, "quiet_seconds": self.quiet_seconds}
        return super().arguments() | own

    async def look(self, kube: Kube) -> dict[str, Any] | None:
        now = clock.epoch()
        if self._before and now - self._before[0] < self.quiet_seconds:
            return None
        counters = await quiet.counters(kube, self.labels, self.port)
        if not counters:
            return {"quiet": True, "reason": "no pod is ready"}
        before, self._before = self._before, (now, counters)
        if before is None:
            return None
        seconds = now - before[0]
        requests = quiet.served(before[1], counters)
        if requests == 0 and None not in before[1].values():
            return {"quiet": True, "reason": f"no request in {seconds:.1f} s"}
        told = "a pod does not tell its requests" if requests is None else f"{requests / seconds:.1f} requests/s"
        self._last = told
        return None

    def overdue(self, last: str) -> dict[str, Any]:
        return {"quiet": False, "reason": last or self._last}
