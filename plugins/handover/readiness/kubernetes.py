"""What the cluster says of its nodes, of what serves now, and of the load balancer in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from handover.models.evidence import Evidence, Measurement, combined, failed, passed
from handover.outside import outside
from handover.readiness import web
from handover.readiness.check import CheckKind, NoAnswer, Scope

if TYPE_CHECKING:
    from handover.ports.kube import Kube

Json = Mapping[str, Any]
SOURCE = "cluster"
PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable")
SLICES = "discovery.k8s.io/v1/endpointslices"


class ClusterCheck(CheckKind):
    """What these checks share: one look with the plan's own connection, in its production namespace."""

    def look(self, scope: Scope) -> Evidence:
        async def ask() -> Evidence:
            cluster = scope.plan.cluster
            async with outside().kube(cluster.connection, cluster.namespace) as kube:
                return await self.ask(kube, scope)

        return asyncio.run(ask())

    async def ask(self, kube: Kube, scope: Scope) -> Evidence:
        raise NotImplementedError


class NodesReady(ClusterCheck):
    """Every node is ready and under no pressure. Cordoned nodes count as healthy: somebody wanted that."""

    kind: Literal["nodes_ready"]

    async def ask(self, kube: Kube, scope: Scope) -> Evidence:
        return nodes_ready(self.kind, await kube.nodes())


def nodes_ready(check: str, nodes: Sequence[Json]) -> Evidence:
    if not nodes:
        raise NoAnswer("the cluster names no node")
    bad = []
    for node in nodes:
        status = {one["type"]: one["status"] for one in node.get("status", {}).get("conditions", [])}
        wrong = [] if status.get("Ready") == "True" else ["not ready"]
        wrong += [pressure for pressure in PRESSURES if status.get(pressure) == "True"]
        bad += [f"{node['metadata']['name']}: {', '.join(wrong)}"] if wrong else []
    measured = Measurement(what="nodes", value=len(nodes), source=SOURCE)
    return failed(check, "; ".join(bad), measured) if bad else passed(check, f"{len(nodes)} nodes ready", measured)


class ProductionServes(ClusterCheck):
    """The Deployment that the public Service selects has every replica up to date and available."""

    kind: Literal["production_serves"]

    async def ask(self, kube: Kube, scope: Scope) -> Evidence:
        cluster = scope.plan.cluster
        service = await kube.get("services", cluster.service)
        colour = (service["spec"].get("selector") or {}).get(cluster.colour_key)
        if colour not in cluster.colours:
            return failed(self.kind, f"{cluster.service} selects no colour: {colour}")
        return available(self.kind, await kube.get("apps/v1/deployments", cluster.deployment_of(colour)))


def available(check: str, deployment: Json) -> Evidence:
    name, wanted = deployment["metadata"]["name"], deployment["spec"].get("replicas", 1)
    status = deployment.get("status", {})
    up = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
    measured = Measurement(what="available_replicas", value=up, source=f"{SOURCE} {name}")
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    if wanted < 1 or up < wanted or not seen:
        return failed(check, f"{name}: {up} of {wanted} replicas are up to date and available", measured)
    return passed(check, f"{name}: {up} of {wanted} replicas are up to date and available", measured)


class LoadBalancer(ClusterCheck):
    """The public Service has an address, as many ready endpoints as the plan has replicas, and answers through it."""

    kind: Literal["load_balancer"]

    async def ask(self, kube: Kube, scope: Scope) -> Evidence:
        cluster = scope.plan.cluster
        service = await kube.get("services", cluster.service)
        slices = await kube.list(SLICES, {"kubernetes.io/service-name": cluster.service})
        parts = [addressed("address", service), endpoints("endpoints", slices, cluster.replicas)]
        api, path = scope.plan.traffic.api_connection, scope.plan.health.path
        # without the connection's token, which is the administrator's: the health endpoint takes only its own
        answer = await asyncio.to_thread(web.response, api, path, bearer=False)
        parts.append(passed("answer", f"{answer.status_code} from {path}"))
        return combined(self.kind, parts)


def addressed(check: str, service: Json) -> Evidence:
    kind = service["spec"].get("type", "ClusterIP")
    if kind != "LoadBalancer":
        return passed(check, f"Service of type {kind}")
    given = service.get("status", {}).get("loadBalancer", {}).get("ingress") or []
    where = ", ".join(one.get("hostname") or one.get("ip") or "" for one in given)
    return passed(check, where) if where else failed(check, "the load balancer has no address")


def endpoints(check: str, slices: Sequence[Json], least: int) -> Evidence:
    """A pod counts once, however many addresses it has."""
    ready = {
        (endpoint.get("targetRef") or {}).get("name") or address
        for one in slices
        for endpoint in one.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready", True)
        for address in endpoint["addresses"]
    }
    measured = Measurement(what="ready_endpoints", value=len(ready), source=SOURCE)
    verdict = passed if len(ready) >= least else failed
    return verdict(check, f"{len(ready)} ready, {least} wanted", measured)
