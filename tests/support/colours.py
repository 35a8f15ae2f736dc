"""Two colours that really serve, in one namespace of the stand-in cluster for a whole module, reset for each test.

Import the fixtures into a folder's conftest.py, beside `cluster` of tests.support.cluster.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adapters.service_router import ServiceRouter
from handover.coordination import lock
from handover.models.deployment import FencingToken
from handover.plan.model import Plan
from handover.ports.kube import Kube, KubeError
from handover.ports.router import Router
from tests.support.cluster import REPOSITORY, Cluster, digest, plan_with
from tests.support.steps import opened
from tests.support.until import PATIENCE
from tests.support.until import until as wait_until

POD = str(Path(__file__).with_name("pod.py"))
TOKEN = "drain-token"
VERSIONS = {"blue": "v1.0.0", "green": "v1.1.0"}
DEPLOYMENTS = "apps/v1/deployments"
T = TypeVar("T")
Work = Callable[[Kube], Coroutine[Any, Any, T]]


@dataclass
class World:
    """One namespace with a public and a preview Service, and two pods of each colour."""

    kubeconfig: Path
    namespace: str
    url: str
    plan: Plan
    token: FencingToken = field(default=FencingToken(deployment="", generation=0, stable="", preview=""))

    @asynccontextmanager
    async def kube(self) -> AsyncIterator[Kube]:
        async with connect_with_kubeconfig(str(self.kubeconfig), self.namespace) as kube:
            yield kube

    def run(self, work: Work[T]) -> T:
        async def connected() -> T:
            async with self.kube() as kube:
                return await work(kube)

        return asyncio.run(connected())

    def router(self, kube: Kube) -> Router:
        return ServiceRouter(kube, self.plan.cluster, self.plan.cluster.service)

    async def where(self, kube: Kube) -> tuple[str | None, str | None]:
        """Colour and stage."""
        route = await self.router(kube).read()
        return route.colour, route.stage

    async def pods(self, kube: Kube, colour: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in await kube.list("pods", {"app": "pms", "version": colour})]

    async def tell(self, kube: Kube, colour: str, only: list[str] | None = None, **fault: Any) -> list[dict[str, Any]]:
        """Makes every pod of a colour misbehave (``mode``: none, errors, slow, mute); gives what each pod says."""
        api = kube._api  # the product has no use for a body here
        said = []
        for pod in only or await self.pods(kube, colour):
            where = kube.path("pods", f"{pod}:8080", "proxy") + "/-/fault"
            answer = await api.call_api(
                where, "POST", body=fault, header_params={"X-Admin-Token": TOKEN, "Content-Type": "application/json"},
                auth_settings=["BearerToken"], _preload_content=False,
            )  # fmt: skip
            said.append(json.loads(await answer.read()))
        return said

    async def scale(self, kube: Kube, colour: str, replicas: int) -> None:
        """Waits until so many pods are ready, and no other is left."""
        name = f"pms-{colour}"
        await kube.merge(DEPLOYMENTS, name, {"spec": {"replicas": replicas}})
        while True:
            status = (await kube.get(DEPLOYMENTS, name)).get("status") or {}
            if (status.get("availableReplicas") or 0) == replicas == len(await self.pods(kube, colour)):
                return
            await asyncio.sleep(0.05)


def _deployment(colour: str) -> dict[str, Any]:
    labels = {"app": "pms", "version": colour}
    env = [
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "PORT", "value": "8080"},
    ]
    tag = f"serves-{VERSIONS[colour]}"
    container = {
        "name": "pms", "image": f"{REPOSITORY}@{digest(tag)}", "env": env, "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}},
    }  # fmt: skip
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": f"pms-{colour}"}, "spec": spec}


@pytest.fixture(scope="module")
def made_world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> World:
    catalogue = cluster.kubeconfig.parent / "images.json"
    if not any(image["tag"].startswith("serves-") for image in cluster.images):
        cluster.images.extend(
            {"repository": REPOSITORY, "tag": f"serves-{version}", "digest": digest(f"serves-{version}"),
             "argv": [sys.executable, "-S", POD], "workdir": str(catalogue.parent), "env": {"VERSION": version}}
            for version in VERSIONS.values()
        )  # fmt: skip
        catalogue.write_text(json.dumps({"images": cluster.images}))
    namespace = f"colours-{request.node.name.rpartition('/')[2].removesuffix('.py').replace('_', '-')}"
    cluster.make("", "namespaces", {"metadata": {"name": namespace}})
    for name in ("pms-api", "pms-preview"):
        spec = {"selector": {"app": "pms", "version": "blue"}, "ports": [{"port": 8080, "targetPort": 8080}]}
        cluster.make(namespace, "services", {"metadata": {"name": name}, "spec": spec})
    for colour in VERSIONS:
        cluster.make(namespace, DEPLOYMENTS, _deployment(colour))
    plan = plan_with(
        tmp_path_factory.mktemp("plan"),
        cluster={"namespace": namespace, "staging_namespace": namespace, "replicas": 2},
        traffic={"overlap_seconds": 0.3, "endpoint_timeout_seconds": 10, "drain_timeout_seconds": 3},
        rollback={"old_colour_timeout_seconds": 30},
        watch={
            "probe_interval_seconds": 0.1, "metrics_interval_seconds": 0.25, "slow_interval_seconds": 0.5,
            "window_seconds": 5, "sustained_seconds": 2, "no_data_seconds": 1.5, "probe_timeout_seconds": 2,
        },
    )  # fmt: skip
    world = World(cluster.kubeconfig, namespace, "", plan)

    async def up(kube: Kube) -> None:
        for colour in VERSIONS:
            await world.scale(kube, colour, 2)
        address = (await kube.get("services", "pms-api"))["spec"]["clusterIP"]
        world.url = f"http://{address}:8080"

    world.run(up)
    return world


@pytest.fixture
def world(made_world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Traffic on blue, both colours good, a deployment that holds the lock."""
    world = made_world
    extra = {"kube_config_path": str(world.kubeconfig)}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_KUBERNETES", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    host, _, port = world.url.removeprefix("http://").partition(":")
    api = {"conn_type": "http", "schema": "http", "host": host, "port": int(port), "password": TOKEN}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_API", json.dumps(api))

    async def reset(kube: Kube) -> FencingToken:
        for name in ("pms-api", "pms-preview"):
            notes = dict.fromkeys((await kube.get("services", name))["metadata"].get("annotations") or {})
            change = {"metadata": {"annotations": notes}, "spec": {"selector": {"app": "pms", "version": "blue"}}}
            await kube.merge("services", name, change)
        await kube.delete("configmaps", world.plan.lock_name)
        await kube.delete(lock.LEASES, world.plan.lock_name)
        for colour in VERSIONS:
            await world.scale(kube, colour, 2)
            await world.tell(kube, colour, mode="none", draining=False)
        return await opened(kube, world.plan.lock_name, "registry.example.com/shop/web@sha256:1")

    world.token = world.run(reset)
    return world


@dataclass
class Guests:
    """What clients saw. ``failed``: no answer at all."""

    versions: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    bad: int = 0
    last: dict[str, float] = field(default_factory=dict)
    """When the last request that this version answered was sent (time.monotonic)."""

    @staticmethod
    def until(condition: Callable[[], bool]) -> None:
        """Waits for what clients are to see."""
        wait_until(condition, "what clients are to see")

    def ask_again(self, times: int) -> None:
        """Waits until so many more were answered, or were not."""
        asked = self.asked
        self.until(lambda: self.asked >= asked + times)

    @property
    def asked(self) -> int:
        return sum(self.versions.values()) + len(self.failed)


@contextmanager
def load(url: str, *, keep_alive: bool = False, clients: int = 4) -> Iterator[Guests]:
    """Clients in a thread of their own that keep asking while the block runs."""
    guests, stop = Guests(), threading.Event()

    async def client(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            sent = time.monotonic()
            try:
                async with http.get(f"{url}/health") as answer:
                    await answer.read()
                    version = answer.headers["X-Version"]
                    guests.versions[version] += 1
                    guests.bad += answer.status != 200
                    guests.last[version] = max(sent, guests.last.get(version, 0))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                guests.failed.append(repr(error))
            await asyncio.sleep(0.005)

    async def crowd() -> None:
        connector = aiohttp.TCPConnector(force_close=not keep_alive)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
            await asyncio.gather(*(client(http) for _ in range(clients)))

    thread = threading.Thread(target=lambda: asyncio.run(crowd()))
    thread.start()
    try:
        guests.ask_again(2 * clients)
        yield guests
        guests.ask_again(2 * clients)
    finally:
        stop.set()
        thread.join()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(KubeError):
                if await condition():
                    return
            await asyncio.sleep(0.02)
