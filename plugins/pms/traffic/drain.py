"""Makes keep-alive connections move: they stay with their pod whatever the Service selects.

A draining pod ends its streams and answers every request with ``Connection: close``; it serves on otherwise.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pms.kube.client import KubeError
from pms.traffic.service import passing

if TYPE_CHECKING:
    from pms.kube.client import Json, Kube
    from pms.plan.model import Plan

REQUEST_SECONDS = 2.0
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Drained:
    """How many pods did as they were told, and why others did not."""

    pods: int
    problems: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.pods} pods" + (f", but {'; '.join(self.problems)}" if self.problems else "")


async def drain(kube: Kube, plan: Plan, colour: str, token: str, timeout: float | None = None) -> Drained:
    """Tells every pod of a colour to let its clients go, for at most ``timeout`` seconds (the plan's by default).

    Never raises for a pod that does not do it: draining makes a switch smoother, traffic does not depend on it.
    """
    seconds = plan.traffic.drain_timeout_seconds if timeout is None else timeout
    return await _tell(kube, plan, colour, token, "POST", seconds)


async def undrain(kube: Kube, plan: Plan, colour: str, token: str, timeout: float | None = None) -> Drained:
    """The colour keeps connections alive again. After the patch, never before: traffic first."""
    seconds = plan.traffic.drain_timeout_seconds if timeout is None else timeout
    return await _tell(kube, plan, colour, token, "DELETE", seconds)


async def _tell(
    kube: Kube, plan: Plan, colour: str, token: str, method: Literal["POST", "DELETE"], timeout: float
) -> Drained:
    if plan.traffic.drain_path is None:
        return Drained(0)
    deadline = time.monotonic() + timeout
    told: set[str] = set()
    refused: dict[str, str] = {}
    while True:
        problems: dict[str, str] = {}
        try:
            left = await _running(kube, plan.cluster.selector_of(colour)) - told - refused.keys()
        except KubeError as error:
            left, problems = set(), {"": str(error)}
        answers = await asyncio.gather(*(_one(kube, plan, pod, token, method) for pod in left))
        for pod, refusal in zip(left, answers, strict=True):
            if refusal is None:
                told.add(pod)
            else:
                (problems if passing(refusal) else refused)[pod] = str(refusal)
        if not problems or time.monotonic() > deadline:
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


async def _one(kube: Kube, plan: Plan, pod: str, token: str, method: str) -> KubeError | None:
    """None when the pod did it, else why not."""
    path, headers = plan.traffic.drain_path or "", {plan.traffic.drain_header: token}
    try:
        await kube.proxy(pod, plan.cluster.port, path, method, headers, timeout=REQUEST_SECONDS)
    except KubeError as error:
        return error
    return None
