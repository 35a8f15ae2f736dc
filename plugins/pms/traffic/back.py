"""Moves traffic back to the old colour in as few round trips as possible, from the cluster's own facts alone.

Serves the rollback DAG and the command line, neither of which has a ticket: what was deployed, and which colour is
the old one, lies in the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pms.kube import state as states
from pms.models.deployment import DeploymentState, Ticket
from pms.traffic import switch
from pms.traffic.drain import Drained, drain, undrain
from pms.traffic.service import DEPLOYMENTS, POLL_SECONDS, SERVICES, NotReady, change

if TYPE_CHECKING:
    from pms.kube.client import Json, Kube
    from pms.plan.model import Cluster, Plan

log = logging.getLogger(__name__)
DRAIN_SECONDS = 3.0


class NothingToRollBack(Exception):
    """There is no such deployment; nothing was touched."""


@dataclass(frozen=True)
class Facts:
    """What has to be known before traffic moves back. ``old_ready``: ready pods of the old colour."""

    cluster: Cluster
    ticket: Ticket
    service: Json
    old_ready: int

    @property
    def on_old(self) -> bool:
        """Whether new connections reach the old colour alone."""
        return switch.read(self.service, self.cluster).colour == self.ticket.old_colour

    @property
    def can_move(self) -> bool:
        return self.on_old or self.old_ready > 0


@dataclass(frozen=True)
class Known(Facts):
    """The same when nobody brought a ticket: it speaks for the deployment that the cluster knows."""

    state: DeploymentState


async def look(kube: Kube, plan: Plan, deployment: str | None = None) -> Known:
    """Reads all facts at once: one round trip. Raises `NothingToRollBack`.

    :param deployment: the run to roll back; None for the current one
    """
    cluster = plan.cluster
    state, service, colours = await asyncio.gather(
        states.read(kube, plan.lock_name),
        kube.get(SERVICES, cluster.service),
        asyncio.gather(*(kube.find(DEPLOYMENTS, cluster.deployment_of(colour)) for colour in cluster.colours)),
    )
    if state is None:
        raise NothingToRollBack("there is no deployment to roll back")
    if deployment and deployment != state.deployment:
        raise NothingToRollBack(
            f"there is no deployment {deployment} to roll back: the current one is {state.deployment} "
            f"({state.version}, {state.status}); nothing was touched"
        )
    ready = {colour: _ready(found) for colour, found in zip(cluster.colours, colours, strict=True)}
    ticket = Ticket(
        deployment=state.deployment, generation=state.generation, old_colour=state.old_colour,
        new_colour=state.new_colour,
    )  # fmt: skip
    return Known(cluster, ticket, service, ready.get(state.old_colour, 0), state)


async def look_for(kube: Kube, plan: Plan, ticket: Ticket) -> Facts:
    """The facts for whoever holds a ticket."""
    service, old = await asyncio.gather(
        kube.get(SERVICES, plan.cluster.service),
        kube.find(DEPLOYMENTS, plan.cluster.deployment_of(ticket.old_colour)),
    )
    return Facts(plan.cluster, ticket, service, _ready(old))


def _ready(deployment: Json | None) -> int:
    return ((deployment or {}).get("status") or {}).get("readyReplicas") or 0


async def move_back(kube: Kube, plan: Plan, facts: Facts, reason: str, *, settled_too: bool = True) -> bool:
    """One patch; gives whether it was needed. Running it twice is fine, and so are facts that are not fresh any more.

    Raises `NotReady` when the old colour has no ready pod (nothing was changed), and `FencedOut` when traffic is a
    newer deployment's.

    :param settled_too: see `switch.back`
    """
    if not facts.can_move:
        name = plan.cluster.deployment_of(facts.ticket.old_colour)
        raise NotReady(f"{name} has no ready pod, so traffic would go nowhere; nothing was changed")
    decide = partial(switch.back, cluster=plan.cluster, ticket=facts.ticket, reason=reason, settled_too=settled_too)
    service, changed = await change(kube, plan.cluster.service, decide, known=facts.service)
    log.info("%s%s", switch.read(service, plan.cluster), "" if changed else " already")
    return changed


async def wake_old(kube: Kube, plan: Plan, facts: Known) -> Known:
    """Scales the old colour up again (it sleeps after a deployment that ended well) and waits until it is ready.

    Raises `NotReady` after ``rollback.old_colour_timeout_seconds``.
    """
    name = plan.cluster.deployment_of(facts.ticket.old_colour)
    deadline = time.monotonic() + plan.rollback.old_colour_timeout_seconds
    found = await kube.get(DEPLOYMENTS, name)
    wanted = max(plan.cluster.replicas, found["spec"].get("replicas", 1))
    if found["spec"].get("replicas", 1) != wanted:
        log.info("%s is scaled up to %s", name, wanted)
        await kube.merge(DEPLOYMENTS, name, {"spec": {"replicas": wanted}})
    while ((found.get("status") or {}).get("availableReplicas") or 0) < wanted:
        if time.monotonic() > deadline:
            raise NotReady(f"{name} has {_ready(found)} of {wanted} replicas ready: traffic was not moved")
        await asyncio.sleep(POLL_SECONDS)
        found = await kube.get(DEPLOYMENTS, name)
    return await look(kube, plan, facts.ticket.deployment)


async def let_go(
    kube: Kube, plan: Plan, ticket: Ticket, token: str, timeout: float = DRAIN_SECONDS
) -> tuple[Drained, Drained]:
    """After traffic moved back: the old pods keep connections again, and those of the new ones move over."""
    return await asyncio.gather(
        undrain(kube, plan, ticket.old_colour, token, timeout), drain(kube, plan, ticket.new_colour, token, timeout)
    )
