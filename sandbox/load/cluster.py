"""A cluster of many services under deployment, as far as a watch asks it: every object is there from the start, and
pods count requests as time goes on. A process of its own, so that what it costs is not the watch's.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from aiohttp import web

from handover.models.annotations import as_annotations
from handover.models.deployment import DeploymentState, Status
from handover.plan.model import Plan
from handover.ports.router import Stage

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
REQUESTS_PER_SECOND = 40
GENERATION = 1
CORE = 1


@dataclass(frozen=True)
class Scale:
    """``page_bytes``: of the metrics of each pod, about."""

    deployments: int
    pods: int
    page_bytes: int


def namespace_of(number: int) -> str:
    return f"service-{number:03d}"


def deployment_of(plan: Plan) -> DeploymentState:
    """What every one of them knows of itself: green has just been promoted."""
    blue, green = plan.cluster.colours
    return DeploymentState(
        deployment="run", generation=GENERATION, status=Status.DEPLOYING, version="v2", image="web:v2",
        previous_version="v1", previous_image="web:v1", stable=blue, preview=green, reason="load", started_at=1.0,
        switched_at=time.time(),
    )  # fmt: skip


class StandingCluster:
    """The API server and every pod behind it."""

    def __init__(self, plan: Plan, scale: Scale) -> None:
        self._plan, self._scale, self._began = plan, scale, time.monotonic()
        self._page = page(scale.page_bytes)
        self._leases: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()

    def app(self) -> web.Application:
        app = web.Application()
        here, cluster = "/api/v1/namespaces/{namespace}", self._plan.cluster
        app.router.add_get(f"{here}/pods", self._pods)
        app.router.add_get(f"{here}/pods/{{pod}}/proxy{{path:.*}}", self._metrics)
        app.router.add_get(f"{here}/services/{cluster.service}", self._service)
        app.router.add_get(f"{here}/configmaps/{self._plan.lock_name}", self._state)
        app.router.add_get("/apis/apps/v1/namespaces/{namespace}/deployments/{name}", self._deployment)
        lease = f"/apis/coordination.k8s.io/v1/namespaces/{{namespace}}/leases/{self._plan.lock_name}"
        app.router.add_get(lease, self._lease)
        app.router.add_put(lease, self._renew)
        app.router.add_get(self._plan.health.path, self._health)
        return app

    async def _pods(self, request: web.Request) -> web.Response:
        self.asked["pods"] += 1
        colour = self._plan.cluster.colours[1]
        names = [f"web-{colour}-{number}" for number in range(self._scale.pods)]
        return web.json_response({"items": [_pod(name, self._plan.cluster.container) for name in names]})

    async def _metrics(self, _: web.Request) -> web.Response:
        self.asked["metrics"] += 1
        served = int((time.monotonic() - self._began) * REQUESTS_PER_SECOND)
        return web.Response(body=self._page.replace(b" 7\n", b" %d\n" % served))

    async def _health(self, _: web.Request) -> web.Response:
        self.asked["probes"] += 1
        return web.json_response({"status": "ok"})

    async def _service(self, _: web.Request) -> web.Response:
        blue, green = self._plan.cluster.colours
        said = as_annotations(
            generation=str(GENERATION), deployment="run", stable=blue, preview=green, stage=Stage.PROMOTED.value
        )
        selector = {"app": self._plan.cluster.app, self._plan.cluster.colour_key: green}
        return web.json_response({"metadata": {"annotations": said}, "spec": {"selector": selector}})

    async def _state(self, _: web.Request) -> web.Response:
        data = {"state": deployment_of(self._plan).model_dump_json()}
        return web.json_response({"metadata": {"resourceVersion": "1"}, "data": data})

    async def _deployment(self, _: web.Request) -> web.Response:
        return web.json_response({"metadata": {}, "spec": {"replicas": 2}, "status": {"readyReplicas": 2}})

    async def _lease(self, request: web.Request) -> web.Response:
        spec = {"holderIdentity": "run", "leaseTransitions": GENERATION}
        held = {"metadata": {"resourceVersion": "1", "annotations": {}}, "spec": spec}
        return web.json_response(self._leases.get(request.match_info["namespace"], held))

    async def _renew(self, request: web.Request) -> web.Response:
        self.asked["beats"] += 1
        self._leases[request.match_info["namespace"]] = lease = await request.json()
        return web.json_response(lease)


def _pod(name: str, container: str) -> dict[str, Any]:
    ready = [{"type": "Ready", "status": "True"}]
    return {
        "metadata": {"name": name}, "spec": {"containers": [{"name": container}]},
        "status": {"conditions": ready, "containerStatuses": [{"restartCount": 0}]},
    }  # fmt: skip


def page(size: int) -> bytes:
    """About so many bytes of metrics, all of them of requests; those of the first route grow."""
    lines = ["# TYPE http_requests_total counter", "# TYPE http_request_duration_seconds histogram"]
    route = length = 0
    while length < size:
        value = "7" if route == 0 else "9"
        labels = f'method="GET",route="/of/some/service/{route:04d}"'
        found = [f'http_requests_total{{{labels},status="200"}} {value}']
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        found += [f'http_request_duration_seconds_bucket{{{labels},le="{bound}"}} {value}' for bound in bounds]
        lines += found
        length += sum(len(line) + 1 for line in found)
        route += 1
    return "\n".join([*lines, ""]).encode()


async def _serve(plan: Plan, scale: Scale, told: Connection) -> None:
    cluster = StandingCluster(plan, scale)
    runner = web.AppRunner(cluster.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    told.send(runner.addresses[0][1])
    while await asyncio.to_thread(told.recv):  # until False: whoever asks wants what was asked until now
        told.send((dict(cluster.asked), time.process_time()))
    await runner.cleanup()


def serve(plan: dict[str, Any], scale: Scale, told: Connection) -> None:
    """What the process runs: says its port, then what was asked whenever it gets True."""
    if hasattr(os, "sched_setaffinity") and (os.cpu_count() or 1) > CORE:
        os.sched_setaffinity(0, {CORE})
    asyncio.run(_serve(Plan.model_validate(plan), scale, told))


def kubeconfig(port: int) -> str:
    """Of this cluster, as JSON, which is YAML."""
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "load",
        "clusters": [{"name": "load", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "load", "user": {"token": "load"}}],
        "contexts": [{"name": "load", "context": {"cluster": "load", "user": "load"}}],
    })  # fmt: skip
