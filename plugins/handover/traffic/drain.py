"""Makes keep-alive connections move: they stay with their pod whatever the Service selects.

A draining pod ends its streams and answers every request with ``Connection: close``; it serves on otherwise. Pods that
cannot be told so (no ``traffic.drain_path``) keep their connections until they are scaled down, which waits for their
end: see `handover.workload.quiet`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from handover import clock
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube

REQUEST_SECONDS = 2.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Drained:
    """How many pods did as they were told, and why others did not. ``told``: False where they cannot be told."""

    pods: int
    problems: tuple[str, ...] = ()
    told: bool = True

    def __str__(self) -> str:
        if not self.told:
            return "no pod (the plan has no traffic.drain_path)"
        return f"{self.pods} pods" + (f", but {'; '.join(self.problems)}" if self.problems else "")


async def drain(kube: Kube, plan: Plan, colour: str, drain_token: str, timeout: float | None = None) -> Drained:
    """Tells every pod of a colour to let its clients go, for at most ``timeout`` seconds (the plan's by default).

    Never raises for a pod that does not do it: draining makes a switch smoother, traffic does not depend on it.
    """
    seconds = plan.traffic.drain_timeout_seconds if timeout is None else timeout
    return await _tell(kube, plan, colour, drain_token, "POST", seconds)


async def undrain(kube: Kube, plan: Plan, colour: str, drain_token: str, timeout: float | None = None) -> Drained:
    """The colour keeps connections alive again. After the patch, never before: traffic first."""
    seconds = plan.traffic.drain_timeout_seconds if timeout is None else timeout
    return await _tell(kube, plan, colour, drain_token, "DELETE", seconds)


async def _tell(
    kube: Kube, plan: Plan, colour: str, drain_token: str, method: Literal["POST", "DELETE"], timeout: float
) -> Drained:
    if plan.traffic.drain_path is None:
        return Drained(0, told=False)
    deadline = clock.monotonic() + timeout
    told: set[str] = set()
    refused: dict[str, str] = {}
    while True:
        problems: dict[str, str] = {}
        try:
            left = await _running(kube, plan.cluster.selector_of(colour)) - told - refused.keys()
        except KubeError as error:
            left, problems = set(), {"": str(error)}
        answers = await asyncio.gather(*(_one(kube, plan, pod, drain_token, method) for pod in left))
        for pod, refusal in zip(left, answers, strict=True):
            if refusal is None:
                told.add(pod)
            else:
                (problems if refusal.passing else refused)[pod] = str(refusal)
        if not problems or clock.monotonic() > deadline:
            return Drained(len(told), (*refused.values(), *problems.values()))
        await asyncio.sleep(POLL_SECONDS)


async def _running(kube: Kube, labels: dict[str, str]) -> set[str]:
    """Pods that may have clients: also those that are not ready, for connections outlive readiness; but none whose
    process is down (a crash loop is in phase Running too), for its connections went with it.
    """
    return {pod["metadata"]["name"] for pod in await kube.list("pods", labels) if _runs(pod)}


def _runs(pod: Json) -> bool:
    containers = (pod.get("status") or {}).get("containerStatuses") or []
    return not pod["metadata"].get("deletionTimestamp") and any("running" in (c.get("state") or {}) for c in containers)


async def _one(kube: Kube, plan: Plan, pod: str, drain_token: str, method: str) -> KubeError | None:
    """None when the pod did it, else why not."""
    path, headers = plan.traffic.drain_path or "", {plan.traffic.drain_header: drain_token}
    try:
        await kube.proxy(pod, plan.cluster.port, path, method, headers, timeout=REQUEST_SECONDS)
    except KubeError as error:
        return error
    return None
