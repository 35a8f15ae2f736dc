"""Which colour serves now, and what runs there: as what serves says it, not as somebody wrote it down once."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from handover.coordination.promotion import Refused
from handover.coordination.routing import DEPLOYMENTS, ready_pods
from handover.models.annotations import notes
from handover.models.containers import NoContainer, container_of
from handover.models.image_reference import BadImage, ImageReference
from handover.models.versions import core_of, same_version
from handover.ports.kube import KubeError
from handover.ports.router import Stage

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube
    from handover.ports.router import Route, Router

ASK_SECONDS = 2.0
_VERSION = re.compile(r"[\w][\w.+-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Serving:
    """The colour that serves alone, with the version and the image that run there."""

    colour: str
    version: str
    image: str


async def serving(kube: Kube, router: Router, plan: Plan) -> Serving:
    """Raises `KubeError`, and `Refused` when not one colour of the plan serves alone, or nothing tells what it runs."""
    cluster, route = plan.cluster, await router.read()
    if route.unfit:
        raise Refused(f"{route.name}: {route.unfit}")
    if route.colour not in cluster.colours:
        raise Refused(f"{route}, not to one of {', '.join(cluster.colours)}; {_advice(plan, route)}")
    name = cluster.deployment_of(route.colour)
    running = await kube.get(DEPLOYMENTS, name)
    try:
        image = container_of(running["spec"]["template"]["spec"], cluster.container)["image"]
        reference = ImageReference.parse(image)
    except (NoContainer, BadImage) as wrong:
        raise Refused(f"Deployment {name}: {wrong}") from None
    version = _written(running, reference) or await _answered(kube, plan, route.colour, reference)
    return Serving(route.colour, version, image)


def _advice(plan: Plan, route: Route) -> str:
    """A rollback helps only where a deployment of ours has left traffic."""
    key, colours = plan.cluster.colour_key, " or ".join(plan.cluster.colours)
    if route.serving <= set(plan.cluster.colours) and route.stage in (Stage.OVERLAP, Stage.ABORTED):
        return f"a cutover was left half-way, run {plan.rollback_dag_id} first"
    return f"label the pods that serve with {key}: {colours}, and then give its selector the same"


def _written(running: Json, image: ImageReference) -> str:
    """The version that we wrote beside the image; empty when we did not, or another image runs by now."""
    said = notes(running)
    version = said.get("version", "")
    if said.get("image", str(image)) != str(image):
        return ""
    told = core_of(image.tag)
    return "" if told and told != core_of(version) else version


async def _answered(kube: Kube, plan: Plan, colour: str, image: ImageReference) -> str:
    """The version that every pod says where the plan looks for it, else the image's tag if that is a version."""
    pods = sorted(await ready_pods(kube, plan.cluster.selector_of(colour)))
    found = dict(zip(pods, await asyncio.gather(*(_asked(kube, plan, pod) for pod in pods)), strict=True))
    told = {version for version in found.values() if version}
    if any(not same_version(one, other) for one in told for other in told):
        each = ", ".join(f"{pod} {version or 'nothing'}" for pod, version in found.items())
        raise Refused(f"the pods of {colour} say different versions ({each}); wait until one is rolled out")
    if told:
        version = min(told)
        return image.tag if same_version(version, image.tag) else version
    if core_of(image.tag):
        return image.tag
    origin = plan.traffic.origin
    place = f"in the {origin.place}" if origin and not origin.names_pod else "at all (traffic.origin)"
    asked = f"none of its {len(pods)} ready pods says it {place}" if pods else "none of its pods is ready"
    raise Refused(
        f"nobody knows which version serves: the image {image} does not tell it, and {asked}; "
        f"annotate Deployment {plan.cluster.deployment_of(colour)} with handover/version=<version>"
    )


async def _asked(kube: Kube, plan: Plan, pod: str) -> str:
    """What one pod says; empty for nothing, or what is no version."""
    origin = plan.traffic.origin
    if origin is None or origin.names_pod:
        return ""
    try:
        answer = await kube.proxied(pod, plan.cluster.port, origin.path or plan.health.path, timeout=ASK_SECONDS)
    except KubeError:
        return ""
    said = origin.said(answer.headers, answer.body)
    return said if _VERSION.fullmatch(said) else ""
