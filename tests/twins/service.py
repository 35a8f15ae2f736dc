"""The twin of a service with two colours: pods that answer, count, drain and misbehave, in the twin of a cluster."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from handover import clock
from handover.outside import Outside
from handover.plan.model import Plan
from handover.ports.kube import Json, KubeError
from handover.ports.public import Answer
from tests.twins.airflow import TwinAirflow
from tests.twins.balancer import Balancer
from tests.twins.kube import DEPLOYMENTS, SERVICES, Pod, TwinCluster, TwinKube

TOKEN = "drain-token"
VERSIONS = {"blue": "v1.0.0", "green": "v1.1.0"}
BOUNDS = (0.05, 0.1, 0.2, 0.5, 1.0, float("inf"))
LATENCY_SECONDS = 0.004


@dataclass
class App:
    """What one pod is like. ``mode``: none, errors, slow (by ``delay_seconds``) or mute (its metrics are broken)."""

    version: str
    name: str = ""
    mode: str = "none"
    delay_seconds: float = 0.0
    draining: bool = False
    connected: int = 0
    """Open connections, of whomever."""
    answers: Counter[int] = field(default_factory=Counter)
    slower: Counter[float] = field(default_factory=Counter)

    def serve(self, path: str, *, counted: bool = True) -> Answer:
        seconds = LATENCY_SECONDS + (self.delay_seconds if self.mode == "slow" else 0)
        status = 500 if self.mode == "errors" else 200
        if counted:
            self.answers[status] += 1
            self.slower[next(bound for bound in BOUNDS if seconds <= bound)] += 1
        return Answer(seconds, status, {"x-version": self.version}, body=self.body)

    @property
    def body(self) -> str:
        return json.dumps({"build": {"version": self.version}, "hostname": self.name})

    def metrics(self) -> str:
        lines = ["# TYPE http_requests_total counter"]
        lines += [f'http_requests_total{{code="{code}"}} {self.answers[code]}' for code in (200, 500)]
        lines.append("# TYPE http_request_duration_seconds histogram")
        total = 0
        for bound in BOUNDS:
            total += self.slower[bound]
            le = "+Inf" if bound == float("inf") else bound
            lines.append(f'http_request_duration_seconds_bucket{{le="{le}"}} {total}')
        lines.append(f"server_open_connections {self.connected}")
        lines += ["process_cpu_seconds_total 1", "process_resident_memory_bytes 1e7", "database_connections 2"]
        return "\n".join([*lines, "disk_bytes_total 4096", f"network_bytes_total {total * 100}", ""])


class TwinService:
    """A namespace with a public and a preview Service and two pods of each colour; traffic is on blue.

    :param metrics: what every pod says of itself, where nobody counts its requests
    """

    def __init__(self, plan: Plan, *, replicas: int = 2, start_seconds: float = 0.0, metrics: str = "") -> None:
        self.plan, self.namespace, self._metrics = plan, plan.cluster.namespace, metrics
        self.cluster = TwinCluster(start_seconds=start_seconds, app=self._answer, headers=self._headers)
        self.apps: dict[str, App] = {}
        self._turn = itertools.count()
        self.balancer: Balancer | None = None
        """What lies before the public Service."""
        self.preview_follows_after = 0.0
        """Seconds until what lies before the preview Service has followed its selector."""
        self._previewed: list[tuple[float, dict[str, str]]] = []
        cluster = plan.cluster
        for service in (cluster.service, cluster.preview_service):
            body = {"spec": {"selector": cluster.selector_of("blue"), "ports": [{"port": cluster.port}]}}
            self.cluster.write((SERVICES, self.namespace, service), body)
        for colour, version in VERSIONS.items():
            deployment = _deployment(plan, colour, version, replicas)
            self.cluster.write((DEPLOYMENTS, self.namespace, cluster.deployment_of(colour)), deployment)
        for pods in self.cluster.pods.values():
            for pod in pods:
                pod.ready_at = clock.monotonic()

    def kube(self) -> TwinKube:
        return self.cluster.client(self.namespace)

    def outside(self, airflow: TwinAirflow | None = None) -> Outside:
        """For `handover.outside.standing_in`."""

        @asynccontextmanager
        async def kube(_connection: str, namespace: str) -> Any:
            yield self.cluster.client(namespace)

        @asynccontextmanager
        async def public(connection: str) -> Any:
            yield self.address(connection)

        return Outside(kube=kube, public=public, airflow=lambda _: airflow or TwinAirflow())

    def address(self, connection: str) -> TwinAddress:
        """What stands behind one of the plan's connections."""
        return TwinAddress(self, preview=connection == self.plan.traffic.preview_connection)

    # --- what stands there

    def pods(self, colour: str) -> list[Pod]:
        return self.cluster.pods[self.namespace, self.plan.cluster.deployment_of(colour)]

    def app(self, pod: Pod) -> App:
        version = pod.template["metadata"].get("annotations", {}).get("handover/version", "")
        return self.apps.setdefault(pod.name, App(version, pod.name))

    def tell(self, colour: str, **fault: Any) -> list[App]:
        """Makes every pod of a colour misbehave; gives what each is then."""
        apps = [self.app(pod) for pod in self.pods(colour)]
        for app in apps:
            for name, value in fault.items():
                setattr(app, name, value)
        return apps

    def behind_a_balancer(self, entry: Callable[[Pod], float]) -> Balancer:
        """From now on; see `Balancer`."""
        self.balancer = Balancer(entry)
        self.balancer.knows(self.serving())
        return self.balancer

    def scale(self, colour: str, replicas: int) -> None:
        """As a person does."""
        key = (DEPLOYMENTS, self.namespace, self.plan.cluster.deployment_of(colour))
        found = self.cluster.read(key)
        self.cluster.write(key, found | {"spec": found["spec"] | {"replicas": replicas}})

    def selector(self) -> dict[str, str]:
        return self.cluster.objects[SERVICES, self.namespace, self.plan.cluster.service]["spec"]["selector"]

    def serving(self) -> list[Pod]:
        """The pods that new connections to the public address reach now."""
        return self.cluster.behind(self.namespace, self.plan.cluster.service)

    def next_pod(self) -> Pod | None:
        """Who gets the next connection."""
        pods = self.balancer.targets(self.serving()) if self.balancer else self.serving()
        return pods[next(self._turn) % len(pods)] if pods else None

    def next_previewed(self) -> Pod | None:
        """Who gets the next connection to the preview address, which may lag behind its Service."""
        selector = self.cluster.objects[SERVICES, self.namespace, self.plan.cluster.preview_service]["spec"]["selector"]
        if not self._previewed or self._previewed[-1][1] != selector:
            self._previewed.append((clock.monotonic(), selector))
        since = clock.monotonic() - self.preview_follows_after
        known = [labels for at, labels in self._previewed if at <= since] or [self.plan.cluster.selector_of("blue")]
        pods = self.cluster.ready_pods(self.namespace, known[-1])
        return pods[next(self._turn) % len(pods)] if pods else None

    def _headers(self, name: str) -> dict[str, str]:
        return {"x-version": self.app(self._pod(name)).version}

    def _pod(self, name: str) -> Pod:
        return next(one for pods in self.cluster.pods.values() for one in pods if one.name == name)

    def _answer(self, name: str, method: str, path: str, headers: dict[str, str]) -> str:
        """What a pod answers through the API server's proxy."""
        app = self.app(self._pod(name))
        if path == self.plan.health.path:
            return app.body
        if path == "/metrics":
            if app.mode == "mute":
                raise KubeError(500, "broken")
            return self._metrics or app.metrics()
        if headers.get(self.plan.traffic.drain_header) != TOKEN:
            raise KubeError(401, "401 the token is wrong")
        app.draining = method == "POST"
        return "{}"


@dataclass(frozen=True)
class TwinAddress:
    """The public address of the twin, or that of its preview."""

    service: TwinService
    token: str = TOKEN
    preview: bool = False

    async def get(self, path: str, timeout: float) -> Answer:
        pod = self.service.next_previewed() if self.preview else self.service.next_pod()
        if pod is None:
            await asyncio.sleep(LATENCY_SECONDS)
            if self.service.balancer and not self.preview:
                return Answer(LATENCY_SECONDS, 503)
            return Answer(LATENCY_SECONDS, problem="ConnectionRefusedError: nobody is there")
        answer = self.service.app(pod).serve(path)
        await asyncio.sleep(min(answer.seconds, timeout))
        if answer.seconds >= timeout:
            return Answer(timeout, problem="no answer in time")
        return answer


@dataclass
class Guests:
    """What clients saw. ``failed``: no answer at all; ``last``: when the last request of a version was sent."""

    versions: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    bad: int = 0
    last: dict[str, float] = field(default_factory=dict)


async def ask_for_ever(service: TwinService, seen: Guests, seconds_between: float = 0.01) -> None:
    """A client that asks on new connections."""
    address = TwinAddress(service)
    while True:
        sent = clock.monotonic()
        answer = await address.get("/health", 5)
        if answer.problem:
            seen.failed.append(answer.problem)
        else:
            version = answer.headers.get("x-version", "")
            seen.versions[version] += 1
            seen.bad += answer.status != 200
            seen.last[version] = sent
        await asyncio.sleep(seconds_between)


def _deployment(plan: Plan, colour: str, version: str, replicas: int) -> Json:
    labels = plan.cluster.selector_of(colour)
    container = {
        "name": plan.cluster.container, "image": f"{plan.image.repository}:{version}",
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}},
    }  # fmt: skip
    template = {
        "metadata": {"labels": labels, "annotations": {"handover/version": version}},
        "spec": {"containers": [container]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"annotations": {"handover/version": version}}, "spec": spec}
