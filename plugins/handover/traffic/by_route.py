"""What the Service knows of the deployment, for a way back whose own record in the cluster is gone or damaged."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from handover.coordination import lock
from handover.models.annotations import notes
from handover.models.deployment import DeploymentState, Status
from handover.ports.router import Stage

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Route

log = logging.getLogger(__name__)


def says_enough(plan: Plan, route: Route) -> bool:
    """Whether it says which deployment moved traffic last, and between which of the plan's colours."""
    return bool(route.deployment) and {route.stable, route.preview} == set(plan.cluster.colours)


async def known(kube: Kube, plan: Plan, route: Route, versions: Mapping[str, str], why: str) -> DeploymentState | str:
    """The deployment that moved traffic last, with the generation that holds the lock now; or why there is none to take
    back.

    :param versions: what is deployed on each colour, "" where nobody knows
    :param why: its own record is not gone by
    """
    lease = await kube.find(lock.LEASES, plan.lock_name)
    holder = lease["spec"].get("holderIdentity") if lease else ""
    rolls_back = lease is not None and notes(lease).get("reason", "").startswith(lock.ROLLBACK)
    if holder not in (None, "", route.deployment) and not rolls_back:
        return (
            f"{why}; {holder} holds the lock, and traffic is still as {route.deployment} left it; nothing was touched"
        )
    generation = lock.generation_of(lease) if lease else 0
    log.warning("%s; what the Service says is gone by: %s", why, route)
    return DeploymentState(
        deployment=route.deployment, generation=max(generation, route.generation),
        status=Status.SUCCEEDED if route.stage is Stage.FINALISED else Status.DEPLOYING,
        version=versions.get(route.preview) or "the new version", image="",
        previous_version=versions.get(route.stable, ""), previous_image="", stable=route.stable, preview=route.preview,
        reason=route.reason, started_at=route.moved_at or 0.0, switched_at=route.exposed_at,
    )  # fmt: skip
