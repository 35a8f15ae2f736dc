"""Changes a Service by compare and swap, and sees who stands behind it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from pms.kube.client import Conflict, KubeError
from pms.kube.lock import FencedOut
from pms.traffic.switch import Patch, Refused

if TYPE_CHECKING:
    from pms.kube.client import Json, Kube

SERVICES = "services"
SLICES = "discovery.k8s.io/v1/endpointslices"
DEPLOYMENTS = "apps/v1/deployments"
SERVICE_LABEL = "kubernetes.io/service-name"
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 15.0
"""How long an API server that does not answer is asked again."""
Decide = Callable[["Json"], Patch | None]
Check = Callable[[], Awaitable[object]]
T = TypeVar("T")


class NotReady(Exception):
    """Pods are not where they have to be for traffic to move; nothing was changed."""


async def change(
    kube: Kube, name: str, decide: Decide, *, known: Json | None = None, patience: float = PATIENCE_SECONDS
) -> tuple[Json, bool]:
    """Decides on the Service as it is and patches it, again and again until nobody came in between.

    Raises what ``decide`` raises, and `KubeError` when the API server refuses or does not answer for ``patience``.

    :param known: a copy read before: saves one round trip, and a stale one only costs a conflict
    :return: the Service as it is now, and whether we changed it
    """
    if known is not None:
        with contextlib.suppress(FencedOut, Refused, KubeError):
            if patch := decide(known):
                return await kube.merge(SERVICES, name, patch), True

    async def attempt() -> tuple[Json, bool]:
        while True:
            service = await kube.get(SERVICES, name)
            if (patch := decide(service)) is None:
                return service, False
            with contextlib.suppress(Conflict):
                return await kube.merge(SERVICES, name, patch), True

    return await patiently(attempt, patience)


async def patiently(attempt: Callable[[], Awaitable[T]], patience: float = PATIENCE_SECONDS) -> T:
    """Tries again while the API server is away or has a fault of its own, as when it is restarted.

    Raises what ``attempt`` raises; a passing `KubeError` only after ``patience`` seconds.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return await attempt()
        except KubeError as error:
            if not passing(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)


def passing(error: KubeError) -> bool:
    """Whether asking again may help: no answer, too many requests, or a fault of the API server."""
    return error.status in (0, 408, 429) or error.status >= 500


def is_ready(pod: Json) -> bool:
    """Ready, and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


async def ready_pods(kube: Kube, labels: dict[str, str]) -> set[str]:
    return {pod["metadata"]["name"] for pod in await kube.list("pods", labels) if is_ready(pod)}


async def endpoints(kube: Kube, service: str) -> set[str]:
    """Names of the pods that new connections to the Service can reach."""
    slices = await kube.list(SLICES, {SERVICE_LABEL: service})
    return {
        (endpoint.get("targetRef") or {}).get("name", "")
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
    }


async def until_behind(
    kube: Kube, service: str, colours: Iterable[dict[str, str]], timeout: float, meanwhile: Check | None = None
) -> set[str]:
    """Waits until exactly the ready pods of these colours (labels of each) are behind the Service.

    Raises `NotReady` after ``timeout`` seconds, or when a colour has no ready pod by then, and `KubeError`.

    :param meanwhile: called while waiting; raises when there is nothing to wait for any more
    """
    deadline = time.monotonic() + timeout
    wanted = list(colours)

    async def look() -> list[set[str]]:
        return await asyncio.gather(endpoints(kube, service), *(ready_pods(kube, labels) for labels in wanted))

    while True:
        behind, *ready = await patiently(look, timeout)
        if all(ready) and behind == set().union(*ready):
            return behind
        if time.monotonic() > deadline:
            pods = "; ".join(
                f"{labels}: {sorted(found) or 'none'}" for labels, found in zip(wanted, ready, strict=True)
            )
            raise NotReady(f"behind Service {service} after {timeout:g} s: {sorted(behind)}; ready pods: {pods}")
        if meanwhile:
            await patiently(meanwhile, timeout)
        await asyncio.sleep(POLL_SECONDS)


async def full(kube: Kube, name: str, replicas: int) -> None:
    """Raises `NotReady` unless the Deployment has all its replicas, and at least as many as the plan says."""
    deployment = await kube.get(DEPLOYMENTS, name)
    status, wanted = deployment.get("status") or {}, max(replicas, deployment["spec"].get("replicas", 1))
    known = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    available, updated = status.get("availableReplicas") or 0, status.get("updatedReplicas") or 0
    if not known or min(available, updated) < wanted:
        raise NotReady(f"{name} has {available} of {wanted} replicas available, {updated} of this release")
