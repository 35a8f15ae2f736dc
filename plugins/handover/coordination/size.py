"""How many pods a colour needs: as many as serve now, whatever the plan said when it was written."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from handover import clock
from handover.coordination.routing import DEPLOYMENTS, POLL_SECONDS, Check, NotReady, full, patiently, ready_pods
from handover.models.annotations import as_annotations
from handover.ports.kube import Conflict, KubeError, NotFound

if TYPE_CHECKING:
    from handover.models.deployment import FencingToken
    from handover.plan.model import Cluster
    from handover.ports.kube import Json, Kube

AUTOSCALERS = "autoscaling/v1/horizontalpodautoscalers"
LEFT = ": a rollback would go at once to what is left"


def declared(deployment: Json | None) -> int:
    """As many pods as it is to have; 0 when there is none."""
    return int(deployment["spec"].get("replicas", 1)) if deployment else 0


async def needed(kube: Kube, cluster: Cluster, colour: str) -> int:
    """As many pods as this colour, which serves, has or is to have; no fewer than the plan says. Raises `KubeError`."""
    deployment, pods = await asyncio.gather(
        kube.find(DEPLOYMENTS, cluster.deployment_of(colour)), ready_pods(kube, cluster.selector_of(colour))
    )
    return max(cluster.replicas, declared(deployment), len(pods))


async def grow(kube: Kube, name: str, pods: int, fence: Check, **said: str) -> int | None:
    """Gives a Deployment so many pods if it is to have fewer; it never shrinks. Gives how many that were, None when it
    was large enough. Raises `KubeError`, and what ``fence`` raises, which is called right before the change.

    :param said: annotations of the change
    """
    while True:
        found = await kube.get(DEPLOYMENTS, name)
        if (had := declared(found)) >= pods:
            return None
        await fence()
        read = {"resourceVersion": found["metadata"]["resourceVersion"], "annotations": as_annotations(**said)}
        with suppress(Conflict):  # somebody has changed it since it was read: look again
            await kube.merge(DEPLOYMENTS, name, {"metadata": read, "spec": {"replicas": pods}})
            return had


async def until_full(
    kube: Kube, name: str, pods: int, timeout: float, meanwhile: Check | None = None, pause: float = POLL_SECONDS
) -> None:
    """Waits until a Deployment has all its pods, and so many at least. Raises `NotReady` after ``timeout`` seconds.

    :param meanwhile: called while waiting; raises when there is nothing to wait for any more
    """
    deadline = clock.monotonic() + timeout
    while True:
        try:
            return await patiently(partial(full, kube, name, pods))
        except NotReady:
            if clock.monotonic() > deadline:
                raise
        if meanwhile:
            await patiently(meanwhile)
        await asyncio.sleep(pause)


async def autoscaled(kube: Kube, cluster: Cluster, token: FencingToken) -> str:
    """A warning for people when an autoscaler may take from a colour what it needs while it serves nobody; empty when
    none does.
    """
    colours = {cluster.deployment_of(colour): colour for colour in (token.stable, token.preview)}
    try:
        found = [one for one in await kube.list(AUTOSCALERS) if _target(one) in colours]
        pods = await needed(kube, cluster, token.stable) if found else 0
    except NotFound:
        return ""  # the cluster has no autoscalers
    except KubeError as error:
        return f"warning: whether an autoscaler sizes one of the colours is not known: {error}"
    return "; ".join(
        f"warning: HorizontalPodAutoscaler {one['metadata']['name']} may shrink {_target(one)} to {least} pods while "
        f"it serves nobody, and {pods} serve now" + (LEFT if colours[_target(one)] == token.stable else "")
        for one in found
        if (least := one["spec"].get("minReplicas") or 1) < pods
    )


def _target(autoscaler: Json) -> str:
    target = autoscaler["spec"].get("scaleTargetRef") or {}
    return target.get("name", "") if target.get("kind") == "Deployment" else ""
