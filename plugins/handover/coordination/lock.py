"""The lock of all who deploy, and the fence in front of every step that changes production.

The lock is a Lease, so that a person sees it with ``kubectl get lease``. Its ``leaseTransitions`` is the generation:
it grows whenever the lock changes hands, and a step that shows an older one is refused. Rollback takes the lock over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Set
from functools import partial
from typing import Any, TypeVar

from handover import clock
from handover.models.annotations import as_annotations, notes
from handover.models.deployment import FencingToken
from handover.ports.kube import Conflict, Json, Kube, NotFound

LEASES = "coordination.k8s.io/v1/leases"
ROLLBACK = "rollback: "
"""How the reason of a holder begins that rolls back; a deployment's begins with its version."""
STALE_LOOKS, STALE_SECONDS = 10, 0.1
T = TypeVar("T")


class Locked(Exception):
    """Another deployment holds the lock."""


class FencedOut(Exception):
    """This step belongs to a deployment that no longer holds the lock: it must not touch production."""


def timestamp() -> str:
    """Now, as the API server writes it."""
    return clock.utc().isoformat(timespec="microseconds").replace("+00:00", "Z")


async def acquire(
    kube: Kube, name: str, holder: str, reason: str, *, take_over: bool | Set[str] = False,
    still_at: int | None = None,
) -> int:  # fmt: skip
    """Takes the lock for ``holder`` and gives its generation; taking it twice gives the same one.

    Raises `Locked` when somebody else holds it, unless ``take_over``: True from anybody, names only from those holders.

    :param still_at: the generation that is taken over; `Locked` when it is over, even if the lock is free: somebody was
        quicker, and is done already
    """
    while True:
        try:
            lease = await fresh(partial(kube.find, LEASES, name), generation_of, still_at or 0)
            if lease is None:
                return generation_of(await kube.create(LEASES, _lease(kube, name, holder, reason, 1)))
            current = lease["spec"].get("holderIdentity") or ""
            if current == holder:
                return generation_of(lease)
            if still_at is not None and generation_of(lease) != still_at:
                raise Locked(
                    f"generation {still_at} is over: the lock is at {generation_of(lease)} ({current or 'free'})"
                )
            if current and take_over is not True and current not in (take_over or ()):
                raise Locked(_who_deploys(lease))
            body = _lease(kube, name, holder, reason, generation_of(lease) + 1)
            body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
            return generation_of(await kube.replace(LEASES, name, body))
        except Conflict:
            continue  # somebody was quicker: look again


async def generation_for(kube: Kube, name: str, *holders: str) -> int:
    """That of the last holder, for one of these to begin after it; 0 when there never was one. Raises `Locked` when it
    is somebody else's now.
    """
    lease = await kube.find(LEASES, name)
    if lease and lease["spec"].get("holderIdentity") not in (None, "", *holders):
        raise Locked(_who_deploys(lease))
    return generation_of(lease) if lease else 0


def _who_deploys(lease: Json) -> str:
    since, who = lease["spec"].get("acquireTime", "an unknown time"), lease["spec"]["holderIdentity"]
    why = notes(lease).get("reason", "no reason given")
    if why.startswith(ROLLBACK):
        reason = why.removeprefix(ROLLBACK)
        return (
            f"{who} has been rolling back since {since} ({reason}); wait for it, or, if it has failed, clear its task"
        )
    return f"{who} has been deploying since {since} ({why}); wait for it or roll it back"


async def release(kube: Kube, name: str, generation: int) -> None:
    """Gives the lock of this generation back; one that is somebody else's by now is left alone."""
    while True:
        lease = await fresh(partial(kube.find, LEASES, name), generation_of, generation)
        if lease is None or generation_of(lease) != generation or not lease["spec"].get("holderIdentity"):
            return
        lease["spec"]["holderIdentity"] = ""
        try:
            await kube.replace(LEASES, name, lease)
            return
        except Conflict:
            continue


async def fence(kube: Kube, name: str, token: FencingToken) -> None:
    """Raises `FencedOut` unless this token's generation still holds the lock."""
    try:
        lease = await fresh(partial(kube.get, LEASES, name), generation_of, token.generation)
    except NotFound:
        raise FencedOut(f"the lock {name} is gone; nothing more is changed") from None
    if generation_of(lease) != token.generation or not lease["spec"].get("holderIdentity"):
        raise FencedOut(
            f"generation {token.generation} is over: the lock {name} is at generation {generation_of(lease)}, held by "
            f"{lease['spec'].get('holderIdentity') or 'nobody'}; nothing was changed"
        )


async def fresh(read: Callable[[], Awaitable[T]], generation: Callable[[Any], int], at_least: int) -> T:
    """What ``read`` gives, looked at again while it is older than the generation that asks, which saw a newer one
    already: then it came from a cache. One that stays older (somebody made it anew) is given as it is.
    """
    for _ in range(STALE_LOOKS):
        found = await read()
        if found is None or generation(found) >= at_least:
            return found
        await asyncio.sleep(STALE_SECONDS)
    return await read()


async def holder(kube: Kube, name: str) -> str:
    """Who deploys or rolls back now, and why; "" when nobody does. Takes nothing: it may be different at once."""
    lease = await kube.find(LEASES, name)
    if lease is None or not (who := lease["spec"].get("holderIdentity")):
        return ""
    why = notes(lease).get("reason", "no reason given")
    does = ", a rollback," if why.startswith(ROLLBACK) else ""
    since = lease["spec"].get("acquireTime", "an unknown time")
    return f"{who}{does} since {since} ({why.removeprefix(ROLLBACK)})"


async def look(kube: Kube, name: str) -> tuple[int, str]:
    """The generation, and who holds the lock ("" for nobody); 0 when there never was one."""
    lease = await kube.find(LEASES, name)
    return (generation_of(lease), lease["spec"].get("holderIdentity") or "") if lease else (0, "")


def generation_of(lease: Json) -> int:
    return int(lease["spec"].get("leaseTransitions") or 0)


def _lease(kube: Kube, name: str, holder: str, reason: str, generation: int) -> Json:
    now = timestamp()
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": kube.namespace, "annotations": as_annotations(reason=reason[:500])},
        "spec": {"holderIdentity": holder, "acquireTime": now, "renewTime": now, "leaseTransitions": generation},
    }
