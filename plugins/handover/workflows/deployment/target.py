"""What a deployment is aimed at, looked at before anything changes: what serves, both Services, and the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handover.coordination.promotion import Refused
from handover.coordination.serving import serving
from handover.kube import jobs
from handover.models.containers import NoContainer, find_container
from handover.outside import outside
from handover.ports.kube import NotFound
from handover.workload import manifests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from handover.plan.model import Plan
    from handover.ports.kube import Kube
    from handover.ports.router import Router

_IMAGE, _VERSION = "image.invalid/asked:v0.0.0", "v0.0.0"


async def problem(kube: Kube, plan: Plan) -> str:
    """Everything that is against moving this service's traffic from one colour to the other; nothing when all is well.
    Raises `KubeError`.
    """
    found, labels = manifest_problems(plan), dict[str, str]()
    for key in ("service", "preview_service"):
        router = outside().router(kube, plan.cluster, getattr(plan.cluster, key))
        try:
            route = await router.read()
        except NotFound:
            found.append(f"there is no {router.name}: make it, or name another in cluster.{key}")
            continue
        labels |= route.labels
        if key == "service":
            found += await _serving_problems(kube, router, plan)
        elif route.unfit:
            found.append(f"{router.name}: {route.unfit}")
    return "; ".join([*found, *label_problems(plan, labels)])


async def _serving_problems(kube: Kube, router: Router, plan: Plan) -> list[str]:
    try:
        await serving(kube, router, plan)
    except Refused as refused:
        return [str(refused)]
    except NotFound as missing:
        return [f"{missing}: name what runs the service in cluster.deployment"]
    return []


def manifest_problems(plan: Plan) -> list[str]:
    """What keeps the manifest from running the release where it is looked for."""
    cluster, file = plan.cluster, f"include/k8s/{plan.cluster.manifest}"
    body = manifests.deployment(plan, cluster.colours[0], _VERSION, _IMAGE, 0)
    template = body["spec"]["template"]
    container = find_container(template["spec"], cluster.container)
    found = []
    if container is None:
        found.append(f"{file} has no container {cluster.container}: write $container, or correct cluster.container")
    elif container.get("image") != _IMAGE:
        found.append(f"{file}: container {cluster.container} does not run the release: write $image as its image")
    try:
        jobs.manifest(cluster, jobs.Command(name="x", key="x", image=_IMAGE, argv=("true",)))
    except NoContainer as wrong:
        found.append(f"include/k8s/{cluster.job_manifest}: {wrong}, or write $container there")
    if body["metadata"].get("name") != cluster.deployment_of(cluster.colours[0]):
        found.append(f"{file}: its name is not that of cluster.deployment: write $name")
    return found


def label_problems(plan: Plan, wanted: Mapping[str, str]) -> list[str]:
    """Labels that a Service asks its pods for, and that the manifest does not give them.

    :param wanted: of the Services' selectors
    """
    cluster = plan.cluster
    for colour in cluster.colours:
        body = manifests.deployment(plan, colour, _VERSION, _IMAGE, 0)
        given = body["spec"]["template"].get("metadata", {}).get("labels") or {}
        asked = {**wanted, **cluster.selector_of(colour)}
        if lacking := {key: value for key, value in asked.items() if given.get(key) != value}:
            text = ", ".join(f"{key}: {value}" for key, value in sorted(lacking.items()))
            return [f"include/k8s/{cluster.manifest} gives its pods no {text}, so no Service would find them"]
    return []
