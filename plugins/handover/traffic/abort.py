"""Moves traffic back to the stable colour in as few round trips as possible, from the cluster's own facts alone.

Serves the watch, the rollback DAG and the command line. The latter two have no token: what was deployed, and which
colour is the stable one, lies in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination import promotion
from handover.coordination import state as states
from handover.coordination.routing import DEPLOYMENTS, POLL_SECONDS, NotReady, full, move, patiently
from handover.models.annotations import as_annotations
from handover.models.deployment import Status
from handover.traffic.drain import Drained, drain, undrain

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState, FencingToken
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Route, Router

log = logging.getLogger(__name__)
DRAIN_SECONDS = 3.0


class NothingToRollBack(Exception):
    """There is no such deployment; nothing was touched."""


@dataclass(frozen=True)
class Position:
    """What has to be known before traffic moves back. ``ready``: ready pods of the stable colour."""

    token: FencingToken
    route: Route
    ready: int

    @property
    def on_stable(self) -> bool:
        """Whether new connections reach the stable colour alone."""
        return self.route.colour == self.token.stable

    @property
    def can_move(self) -> bool:
        return self.on_stable or self.ready > 0


async def look(
    kube: Kube, router: Router, plan: Plan, deployment: str | None = None
) -> tuple[DeploymentState, Position]:
    """Reads everything at once: one round trip. Raises `NothingToRollBack`.

    :param deployment: the run to roll back; None for the current one
    """
    cluster = plan.cluster
    state, route, colours = await asyncio.gather(
        states.read(kube, plan.lock_name),
        router.read(),
        asyncio.gather(*(kube.find(DEPLOYMENTS, cluster.deployment_of(colour)) for colour in cluster.colours)),
    )
    if state is None:
        raise NothingToRollBack("there is no deployment to roll back")
    if deployment and deployment != state.deployment:
        raise NothingToRollBack(
            f"there is no deployment {deployment} to roll back: the current one is {state.deployment} "
            f"({state.version}, {state.status}); nothing was touched"
        )
    if state.status is Status.GIVEN_UP:
        raise NothingToRollBack(f"{state.deployment} was given up before anything was changed; nothing was touched")
    ready = {colour: _ready(found) for colour, found in zip(cluster.colours, colours, strict=True)}
    return state, Position(state.token, route, ready.get(state.stable, 0))


async def look_for(kube: Kube, router: Router, plan: Plan, token: FencingToken) -> Position:
    """The position for whoever holds a token."""
    route, stable = await asyncio.gather(
        router.read(), kube.find(DEPLOYMENTS, plan.cluster.deployment_of(token.stable))
    )
    return Position(token, route, _ready(stable))


def _ready(deployment: Json | None) -> int:
    return ((deployment or {}).get("status") or {}).get("readyReplicas") or 0


async def abort(
    router: Router, plan: Plan, position: Position, reason: str, *, finalised_too: bool = True
) -> tuple[Route, bool]:
    """One change; gives the route then, and whether it was needed. Running it twice is fine, and so is a position that
    is not fresh any more.

    Raises `NotReady` when the stable colour has no ready pod, `Asleep` when it is about to have none (nothing was
    changed), and `FencedOut` when traffic is a newer deployment's.

    :param finalised_too: see `promotion.abort`
    """
    if not position.can_move:
        name = plan.cluster.deployment_of(position.token.stable)
        raise NotReady(f"{name} has no ready pod, so traffic would go nowhere; nothing was changed")
    decide = partial(promotion.abort, token=position.token, reason=reason, finalised_too=finalised_too)
    route, changed = await move(router, decide, known=position.route)
    log.info("%s%s", route, "" if changed else " already")
    return route, changed


async def abort_or_wake(kube: Kube, router: Router, plan: Plan, position: Position, reason: str) -> tuple[Route, bool]:
    """The same, but a stable colour that sleeps (after a deployment that ended well) is woken first."""
    try:
        return await abort(router, plan, position, reason)
    except (NotReady, promotion.Asleep) as error:
        log.info("%s", error)
    await move(router, partial(promotion.hold, token=position.token, reason=reason))
    await wake(kube, plan, position.token)
    return await abort(router, plan, await look_for(kube, router, plan, position.token), reason)


async def wake(kube: Kube, plan: Plan, token: FencingToken) -> None:
    """Scales the stable colour up and waits until it is ready. Whoever has read it to scale it down has to read it
    again: its generation is written into it.

    Raises `NotReady` after ``rollback.old_colour_timeout_seconds``.
    """
    name, replicas = plan.cluster.deployment_of(token.stable), plan.cluster.replicas
    deadline = clock.monotonic() + plan.rollback.old_colour_timeout_seconds
    found = await patiently(partial(kube.get, DEPLOYMENTS, name))
    wanted = max(replicas, found["spec"].get("replicas", 1))
    log.info("%s is scaled to %s", name, wanted)
    woken = {"metadata": {"annotations": as_annotations(woken_by=token.deployment)}, "spec": {"replicas": wanted}}
    await patiently(partial(kube.merge, DEPLOYMENTS, name, woken))
    while True:
        try:
            return await patiently(partial(full, kube, name, replicas))
        except NotReady as error:
            if clock.monotonic() > deadline:
                raise NotReady(f"{error}: traffic was not moved") from None
        await asyncio.sleep(POLL_SECONDS)


async def let_go(
    kube: Kube, plan: Plan, token: FencingToken, drain_token: str, timeout: float = DRAIN_SECONDS
) -> tuple[Drained, Drained]:
    """After traffic moved back: the stable pods keep connections again, and those of the preview ones move over."""
    return await asyncio.gather(
        undrain(kube, plan, token.stable, drain_token, timeout), drain(kube, plan, token.preview, drain_token, timeout)
    )
