"""Which colour serves now, and what runs there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover.coordination.promotion import Refused
from handover.coordination.routing import DEPLOYMENTS
from handover.models.annotations import notes

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router


@dataclass(frozen=True)
class Serving:
    """The colour that serves alone, with the version and the image that run there."""

    colour: str
    version: str
    image: str


async def serving(kube: Kube, router: Router, plan: Plan) -> Serving:
    """Raises `Refused` when not exactly one colour of the plan serves."""
    cluster, route = plan.cluster, await router.read()
    if route.colour not in cluster.colours:
        advice = f"a cutover was left half-way, run {plan.rollback_dag_id} first"
        if not route.serving <= set(cluster.colours):
            advice = f"give its selector {cluster.colour_key}: {' or '.join(cluster.colours)}"
        raise Refused(f"{route}, not to one of {', '.join(cluster.colours)}; {advice}")
    running = await kube.get(DEPLOYMENTS, cluster.deployment_of(route.colour))
    image = running["spec"]["template"]["spec"]["containers"][0]["image"]
    version = notes(running).get("version") or image.rpartition(":")[2]
    return Serving(route.colour, version, image)
