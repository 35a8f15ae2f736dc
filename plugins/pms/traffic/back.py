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
    from pms.plan.model import Plan

log = logging.getLogger(__name__)
DRAIN_SECONDS = 3.0


class NothingToRollBack(Exception):
    """There is no such deployment; nothing was touched."""


@dataclass(frozen=True)
class Facts:
    """What has to be known before traffic moves back, read in one go."""

    state: DeploymentState
    service: Json
    old_ready: int
    """Ready pods of the old colour."""

    @property
    def ticket(self) -> Ticket:
        """Speaks for the deployment itself, not for who holds the lock now."""
        s = self.state
        return Ticket(
            deployment=s.deployment, generation=s.generation, old_colour=s.old_colour, new_colour=s.new_colour
        )


async def look(kube: Kube, plan: Plan, deployment: str | None = None) -> Facts:
    """Reads all facts at once: one round trip. Raises `NothingToRollBack`.

    :param deployment: the run to roll back; None for the current one
    """
    cluster = plan.cluster
    state, service, *colours = await asyncio.gather(
        states.read(kube, plan.lock_name),
        kube.get(SERVICES, cluster.service),
        *(kube.find(DEPLOYMENTS, cluster.deployment_of(colour)) for colour in cluster.colours),
    )
    if state is None:
        raise NothingToRollBack("there is no deployment to roll back")
    if deployment and deployment != state.deployment:
        raise NothingToRollBack(
            f"there is no deployment {deployment} to roll back: the current one is {state.deployment} "
            f"({state.version}, {state.status}); nothing was touched"
        )
    ready = {colour: _ready(found) for colour, found in zip(cluster.colours, colours, strict=True)}
    return Facts(state, service, ready.get(state.old_colour, 0))


def _ready(deployment: Json | None) -> int:
    return ((deployment or {}).get("status") or {}).get("readyReplicas") or 0


async def move_back(kube: Kube, plan: Plan, facts: Facts, reason: str) -> bool:
    """One patch; gives whether it was needed. Running it twice is fine.

    Raises `NotReady` when the old colour has no ready pod (nothing was changed), and `FencedOut` when a newer
    deployment has traffic.
    """
    if not facts.old_ready:
        raise NotReady(
            f"{plan.cluster.deployment_of(facts.state.old_colour)} has no ready pod, so traffic would go nowhere; "
            "nothing was changed"
        )
    decide = partial(switch.back, cluster=plan.cluster, ticket=facts.ticket, reason=reason)
    service, changed = await change(kube, plan.cluster.service, decide, known=facts.service)
    log.info("%s%s", switch.read(service, plan.cluster), "" if changed else " already")
    return changed


async def wake_old(kube: Kube, plan: Plan, facts: Facts) -> Facts:
    """Scales the old colour up again (it sleeps after a deployment that ended well) and waits until it is ready.

    Raises `NotReady` after ``rollback.old_colour_timeout_seconds``.
    """
    name = plan.cluster.deployment_of(facts.state.old_colour)
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
    return await look(kube, plan, facts.state.deployment)


async def let_go(
    kube: Kube, plan: Plan, ticket: Ticket, token: str, timeout: float = DRAIN_SECONDS
) -> tuple[Drained, Drained]:
    """After traffic moved back: the old pods keep connections again, and those of the new ones move over."""
    return await asyncio.gather(
        undrain(kube, plan, ticket.old_colour, token, timeout), drain(kube, plan, ticket.new_colour, token, timeout)
    )
