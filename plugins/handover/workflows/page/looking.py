"""Looks at the cluster for the page: everything at once, nothing is changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination import state as states
from handover.coordination.heartbeat import beats_of
from handover.coordination.lock import LEASES, generation_of
from handover.coordination.routing import DEPLOYMENTS
from handover.outside import outside
from handover.readiness import result
from handover.readiness.result import Unreadable

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.models.heartbeat import Heartbeat
    from handover.models.readiness import Readiness
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Route

LOOK_SECONDS = 4.0
"""A cluster that has not answered by then is shown as one that does not."""


@dataclass(frozen=True)
class ClusterSeen:
    """As it was at ``at``. ``workloads``: colour to its Deployment, None where there is none."""

    at: float
    state: DeploymentState | None
    route: Route
    lease: Json | None
    workloads: dict[str, Json | None]
    readiness: Readiness | None
    readiness_problem: str = ""

    @property
    def beats(self) -> list[Heartbeat]:
        """Of this deployment's watches alone."""
        if self.lease is None or self.state is None or generation_of(self.lease) != self.state.generation:
            return []
        return beats_of(self.lease)


async def look(kube: Kube, plan: Plan) -> ClusterSeen:
    """Raises `KubeError`, `TimeoutError`, and `ValueError` for a state that cannot be read."""
    cluster = plan.cluster
    router = outside().router(kube, cluster, cluster.service)
    async with asyncio.timeout(LOOK_SECONDS):
        (state, route, lease), colours, (ready, problem) = await asyncio.gather(
            asyncio.gather(states.read(kube, plan.lock_name), router.read(), kube.find(LEASES, plan.lock_name)),
            asyncio.gather(*(kube.find(DEPLOYMENTS, cluster.deployment_of(colour)) for colour in cluster.colours)),
            _readiness(kube, plan),
        )
    workloads = dict(zip(cluster.colours, colours, strict=True))
    return ClusterSeen(clock.epoch(), state, route, lease, workloads, ready, problem)


async def _readiness(kube: Kube, plan: Plan) -> tuple[Readiness | None, str]:
    try:
        return await result.read(kube, plan.readiness_name), ""
    except Unreadable as error:
        return None, str(error)
