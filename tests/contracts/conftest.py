"""One contract, three clusters: the twin in memory, the stand-in, and a real Kubernetes (marked ``cluster``).

A difference between them is a defect of the twin.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.ports.kube import Json, Kube
from tests.support import cluster as stand_in
from tests.support.virtual import VirtualTime
from tests.twins.kube import TwinCluster

T = TypeVar("T")
APP = "web"
MISSING = "registry.example.com/nobody/has:this"
"""An image that no cluster can pull."""
LITTLE = {"requests": {"cpu": "10m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
TWIN, STAND_IN, REAL = "twin", "stand-in", "kubernetes"


@dataclass(frozen=True)
class ClusterToTry:
    """One empty namespace of some cluster. ``image``: of a program that listens on 8080 and is ready at once."""

    kind: str
    image: str
    run: Callable[[Callable[[Kube], Coroutine[Any, Any, Any]]], Any]
    says: Callable[[str, int], list[str]]
    """The command line of a program of that image that prints a text and exits with a code."""

    def deployment(self, name: str, *, replicas: int = 2, version: str = "blue", **annotations: str) -> Json:
        labels = {"app": APP, "version": version}
        env = [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PORT", "value": "8080"}, {"name": "VERSION", "value": "v1"},
        ]  # fmt: skip
        container = {
            "name": "main", "image": self.image, "env": env,
            "resources": LITTLE,
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        }  # fmt: skip
        pod = {"containers": [container], "terminationGracePeriodSeconds": 1}
        return {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {
                "replicas": replicas, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }  # fmt: skip

    def service(self, name: str, **selector: str) -> Json:
        spec = {"selector": selector, "ports": [{"port": 80, "targetPort": 8080}]}
        return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}

    def job(self, name: str, text: str, code: int = 0) -> Json:
        container = {
            "name": "main", "image": self.image, "command": self.says(text, code),
            "resources": LITTLE,
        }  # fmt: skip
        pod = {"containers": [container], "restartPolicy": "Never"}
        spec = {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": APP}}, "spec": pod}}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def _twin() -> ClusterToTry:
    """Its time is turned, and every program says what its command line asks for."""
    time = VirtualTime()
    twin = TwinCluster(start_seconds=1.5, program=lambda _, argv: (int(argv[2]), f"{argv[1]}\n"))
    twin.missing_images.add(MISSING)
    return ClusterToTry(TWIN, "twin/program:v1", lambda work: time.run(work(twin.client())), _saying)


def _saying(text: str, code: int) -> list[str]:
    return ["say", text, str(code)]


def _connecting(kubeconfig: str, namespace: str) -> Callable[[Callable[[Kube], Coroutine[Any, Any, T]]], T]:
    def run(work: Callable[[Kube], Coroutine[Any, Any, T]]) -> T:
        async def connected() -> T:
            async with connect_with_kubeconfig(kubeconfig, namespace) as kube:
                return await work(kube)

        return asyncio.run(connected())

    return run


@pytest.fixture(params=[TWIN, STAND_IN, pytest.param(REAL, marks=pytest.mark.cluster)])
def any_cluster(request: pytest.FixtureRequest) -> Iterator[ClusterToTry]:
    """An empty namespace of each kind of cluster in turn."""
    if request.param == TWIN:
        yield _twin()
        return
    if request.param == STAND_IN:
        running = request.getfixturevalue("cluster")
        name = f"contract-{next(stand_in.NAMES)}"
        running.make("", "namespaces", {"metadata": {"name": name}})
        run = _connecting(str(running.kubeconfig), name)
        yield ClusterToTry(STAND_IN, stand_in.image("v1.0.0"), run, _shell)
        return
    kubeconfig, image = request.getfixturevalue("real_program")
    name = f"contract-{next(stand_in.NAMES)}"
    _make_namespace(kubeconfig, name)
    yield ClusterToTry(
        REAL, image, _connecting(kubeconfig, name), lambda text, code: ["/hello", "say", text, str(code)]
    )


def _shell(text: str, code: int) -> list[str]:
    return ["sh", "-c", f"echo {text}; exit {code}"]


@pytest.fixture(scope="session")
def real_program(real_cluster: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Kubeconfig of a real cluster, and an image there."""
    from tests.sandbox.kubernetes.image import build_hello, push

    digest = push(real_cluster, "ai-hotel/hello", build_hello(tmp_path_factory.mktemp("hello")))
    return str(real_cluster.kubeconfig), f"ghcr.io/ai-hotel/hello@{digest}"


def _make_namespace(kubeconfig: str, name: str) -> None:
    from kubernetes import client, config

    with config.new_client_from_config(kubeconfig) as connection:
        client.CoreV1Api(connection).create_namespace({"metadata": {"name": name}})
