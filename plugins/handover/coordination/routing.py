"""Moves a route by compare and swap, and sees who stands behind it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from handover import clock
from handover.coordination.lock import FencedOut, fresh
from handover.coordination.promotion import Refused
from handover.ports.kube import Conflict, KubeError
from handover.ports.router import Route, Stage

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Router

DEPLOYMENTS = "apps/v1/deployments"
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 15.0
"""How long an API server that does not answer is asked again."""
Decide = Callable[[Route], Route | None]
Check = Callable[[], Awaitable[object]]
T = TypeVar("T")


class NotReady(Exception):
    """Pods are not where they have to be for traffic to move; nothing was changed."""


async def move(
    router: Router, decide: Decide, *, known: Route | None = None, at_least: int = 0, patience: float = PATIENCE_SECONDS
) -> tuple[Route, bool]:
    """Decides on the route as it is and changes it, again and again until nobody came in between.

    Raises what ``decide`` raises, and `KubeError` when the router refuses or does not answer for ``patience`` seconds.

    :param known: read before: saves one round trip, and a stale one only costs a conflict
    :param at_least: the generation that the route is known to be at: an older one is read again
    :return: the route as it is now, and whether we changed it
    """
    if known is not None:
        with contextlib.suppress(FencedOut, Refused, KubeError):
            if wanted := decide(known):
                return await router.swap(wanted), True

    async def attempt() -> tuple[Route, bool]:
        while True:
            route = await read(router, at_least)
            if (wanted := decide(route)) is None:
                return route, False
            with contextlib.suppress(Conflict):
                return await router.swap(wanted), True

    return await patiently(attempt, patience)


async def read(router: Router, at_least: int) -> Route:
    """The route, not older than a generation that is known to have moved it."""
    return await fresh(router.read, lambda route: route.generation, at_least)


def met_at(state: DeploymentState, route: Route) -> float | None:
    """When clients first met the new version of this deployment: a cutover that was killed has told only the route.
    Seconds since the epoch; None: they never did.
    """
    return state.switched_at or (route.exposed_at if route.deployment == state.deployment else None)


async def moved_back(router: Router, token: FencingToken) -> str:
    """Why the version of this token serves no more, "" while it does, or does not yet. Raises `KubeError`."""
    route = await router.read()
    ours = route.generation == token.generation and route.deployment == token.deployment
    gone = route.generation > token.generation or (ours and route.stage is Stage.ABORTED)
    return f"traffic is not on {token.preview} any more: {route}" if gone else ""


async def patiently(attempt: Callable[[], Awaitable[T]], patience: float = PATIENCE_SECONDS) -> T:
    """Tries again while the API server is away or has a fault of its own, as when it is restarted.

    Raises what ``attempt`` raises; a passing `KubeError` only after ``patience`` seconds.
    """
    deadline = clock.monotonic() + patience
    while True:
        try:
            return await attempt()
        except KubeError as error:
            if not error.passing or clock.monotonic() > deadline:
                raise
            await asyncio.sleep(POLL_SECONDS)


def is_ready(pod: Json) -> bool:
    """Ready, and not on its way out."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


async def ready_pods(kube: Kube, labels: dict[str, str]) -> set[str]:
    return {pod["metadata"]["name"] for pod in await kube.list("pods", labels) if is_ready(pod)}


async def until_behind(
    kube: Kube, router: Router, colours: Iterable[dict[str, str]], timeout: float, meanwhile: Check | None = None
) -> set[str]:
    """Waits until exactly the ready pods of these colours (labels of each) are behind the router.

    Raises `NotReady` after ``timeout`` seconds, or when a colour has no ready pod by then, and `KubeError`.

    :param meanwhile: called while waiting; raises when there is nothing to wait for any more
    """
    deadline = clock.monotonic() + timeout
    wanted = list(colours)

    async def look() -> list[set[str]]:
        return await asyncio.gather(router.behind(), *(ready_pods(kube, labels) for labels in wanted))

    while True:
        behind, *ready = await patiently(look, timeout)
        if all(ready) and behind == set().union(*ready):
            return behind
        if clock.monotonic() > deadline:
            pods = "; ".join(
                f"{labels}: {sorted(found) or 'none'}" for labels, found in zip(wanted, ready, strict=True)
            )
            raise NotReady(f"behind {router.name} after {timeout:g} s: {sorted(behind)}; ready pods: {pods}")
        if meanwhile:
            await patiently(meanwhile, timeout)
        await asyncio.sleep(POLL_SECONDS)


async def full(kube: Kube, name: str, replicas: int) -> None:
    """Raises `NotReady` unless the Deployment has all its replicas, and at least as many as these."""
    if short := shortage(await kube.get(DEPLOYMENTS, name), replicas):
        raise NotReady(short)


def shortage(deployment: Json, replicas: int) -> str:
    """What a Deployment lacks of all its replicas, and of so many at least; empty when it has them."""
    status, wanted = deployment.get("status") or {}, max(replicas, deployment["spec"].get("replicas", 1))
    known = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    available, updated = status.get("availableReplicas") or 0, status.get("updatedReplicas") or 0
    if known and min(available, updated) >= wanted:
        return ""
    name = deployment["metadata"]["name"]
    return f"{name} has {available} of {wanted} replicas available, {updated} of this release"
