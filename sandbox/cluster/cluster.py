"""Joins the parts to one cluster, and gives it a node and its first namespaces."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from sandbox.cluster.api import Api
from sandbox.cluster.controllers.collector import Collector
from sandbox.cluster.controllers.deployments import Deployments
from sandbox.cluster.controllers.endpoints import EndpointsController
from sandbox.cluster.controllers.jobs import Jobs
from sandbox.cluster.controllers.replicasets import ReplicaSets
from sandbox.cluster.controllers.scheduler import Scheduler
from sandbox.cluster.environment import Environments
from sandbox.cluster.guardian import Guardian
from sandbox.cluster.images import Catalogue
from sandbox.cluster.kinds import NAMESPACE, NODE
from sandbox.cluster.kubelet import NODE_NAME, Kubelet
from sandbox.cluster.logs import PodLogs
from sandbox.cluster.proxy import ServiceProxy
from sandbox.cluster.registry import Registry, timestamp
from sandbox.cluster.relay import Relay
from sandbox.cluster.store import Store

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


@dataclass(frozen=True)
class Config:
    subnet: str
    token: str
    data_dir: Path
    catalogue: Path
    port: int = 6443
    tls_port: int = 0  # 0: the one after `port`
    history: int = 4096  # changes a watch can go back

    @classmethod
    def read(cls, path: Path) -> Config:
        raw = json.loads(path.read_text())
        raw |= {"data_dir": Path(raw["data_dir"]).absolute(), "catalogue": Path(raw["catalogue"]).absolute()}
        config = cls(**raw)
        return config if config.tls_port else cls(**{**raw, "tls_port": config.port + 1})

    @property
    def host(self) -> str:
        return f"{self.subnet}.0.1"


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[Api]:
    """A cluster for as long as the block runs; afterwards none of its processes is left."""
    # Versions start with the time, so that they never repeat those of an earlier run.
    registry = Registry(Store(config.history, first_version=int(time.time())), config.subnet)
    for leftover in ("logs", "pods"):  # of a run before this one, whose objects are gone
        shutil.rmtree(config.data_dir / leftover, ignore_errors=True)
    logs, guardian = PodLogs(config.data_dir / "logs"), Guardian()
    environments = Environments(registry, (config.host, config.tls_port))
    kubelet = Kubelet(registry, Catalogue(config.catalogue), environments, logs, guardian, config.data_dir)
    proxy = ServiceProxy(registry)
    relay = Relay(registry, proxy)
    for controller in (Scheduler, ReplicaSets, Deployments, EndpointsController, Jobs, Collector):
        controller(registry)
    _furnish(registry, config)
    try:
        yield Api(registry, config.token, logs, relay)
    finally:
        await proxy.close()
        await relay.close()
        await kubelet.close()
        guardian.close()


def _furnish(registry: Registry, config: Config) -> None:
    labels = {"kubernetes.io/hostname": NODE_NAME, "kubernetes.io/os": "linux"}
    capacity = {"cpu": "4", "memory": "8Gi", "pods": "200"}
    registry.create(
        NODE,
        "",
        {
            "metadata": {"name": NODE_NAME, "labels": labels},
            "spec": {},
            "status": {
                "capacity": capacity,
                "allocatable": capacity,
                "addresses": [{"type": "InternalIP", "address": config.host}],
                "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
                                "lastTransitionTime": timestamp()}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "osImage": "sandbox", "operatingSystem": "linux"},
            },
        },
    )  # fmt: skip
    for name in NAMESPACES:
        registry.create(NAMESPACE, "", {"metadata": {"name": name}})
