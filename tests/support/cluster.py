"""A real stand-in cluster for the session, a namespace of its own for each test, and a plan that lives there.

`cluster` stands in tests/conftest.py, so that a worker starts one; import the others into a folder's conftest.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
import yaml

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.kube import Kube
from sandbox.settings import Subnet

ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = "registry.example.com/shop/web"
APP = str(Path(__file__).with_name("app.py"))
PROGRAMS = {
    "v1.0.0": [sys.executable, APP],
    "v1.1.0": [sys.executable, APP],
    "crash": ["sh", "-c", "echo warming up; echo DATABASE_URL is wrong; exit 3"],
    "deaf": ["sleep", "600"],
}
NAMES = itertools.count(1)
PATIENCE = 60.0
"""Seconds; a cluster that takes so long is broken on any machine."""
T = TypeVar("T")


def digest(tag: str) -> str:
    return f"sha256:{hashlib.sha256(tag.encode()).hexdigest()}"


def image(tag: str) -> str:
    return f"{REPOSITORY}@{digest(tag)}"


@dataclass(frozen=True)
class Cluster:
    url: str
    token: str
    kubeconfig: Path
    images: list[dict[str, Any]]

    def know(self, *images: dict[str, Any]) -> None:
        """More images, for as long as it lives."""
        known = {image["digest"] for image in self.images}
        self.images.extend(image for image in images if image["digest"] not in known)
        (self.kubeconfig.parent / "images.json").write_text(json.dumps({"images": self.images}))

    def make(self, namespace: str, resource: str, body: dict[str, Any]) -> None:
        root = f"/apis/{resource.rpartition('/')[0]}" if "/" in resource else "/api/v1"
        where = f"/namespaces/{namespace}" if namespace else ""
        answer = requests.post(
            f"{self.url}{root}{where}/{resource.rpartition('/')[2]}",
            json=body, headers={"Authorization": f"Bearer {self.token}"}, timeout=PATIENCE,
        )  # fmt: skip
        assert answer.ok, answer.text


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cluster")
    images = [
        {"repository": REPOSITORY, "tag": tag, "digest": digest(tag), "argv": argv, "workdir": str(folder),
         "env": {"VERSION": tag}}
        for tag, argv in PROGRAMS.items()
    ]  # fmt: skip
    catalogue = folder / "images.json"
    catalogue.write_text(json.dumps({"images": images}))
    with contextlib.closing(Subnet()) as own:  # of this process alone, whoever else runs tests or a sandbox
        config = {"subnet": own.prefix, "token": "for-tests", "data_dir": str(folder), "catalogue": str(catalogue)}
        (folder / "config.json").write_text(json.dumps(config))
        url = f"http://{own.prefix}.0.1:6443"
        command = [sys.executable, "-m", "sandbox.cluster", "--config", str(folder / "config.json")]
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            _until_ready(process, url)
            yield Cluster(url, config["token"], folder / "kubeconfig", images)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)


def _until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, "the cluster ended"
        with contextlib.suppress(requests.RequestException):
            if requests.get(f"{url}/readyz", timeout=PATIENCE).ok:
                return
        time.sleep(0.05)
    raise AssertionError("the cluster does not start")


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The product looks at what it waits for as soon as it can; how often it does in production is tried elsewhere."""
    monkeypatch.setattr("handover.kube.waiting.POLL_SECONDS", 0.02)


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new namespace with the Secret and the Service that the plan expects; the Service selects blue."""
    name = f"test-{next(NAMES)}"
    cluster.make("", "namespaces", {"metadata": {"name": name}})
    cluster.make(name, "secrets", {"metadata": {"name": "pms-secrets"}, "stringData": {"SETTING": "from the secret"}})
    service = {
        "metadata": {"name": "pms-api"},
        "spec": {"selector": {"app": "pms", "version": "blue"}, "ports": [{"port": 8080, "targetPort": 8080}]},
    }
    cluster.make(name, "services", service)
    return name


@pytest.fixture
def in_cluster(cluster: Cluster, namespace: str) -> Callable[[Callable[[Kube], Coroutine[Any, Any, T]]], T]:
    """Runs a coroutine function with a client of the test's namespace."""

    def run(work: Callable[[Kube], Coroutine[Any, Any, T]]) -> T:
        async def connected() -> T:
            async with connect_with_kubeconfig(str(cluster.kubeconfig), namespace) as kube:
                return await work(kube)

        return asyncio.run(connected())

    return run


def plan_with(folder: Path, **sections: Any) -> Plan:
    """The repository's plan with changes, e.g. ``cluster={"namespace": "x"}``."""
    overlay = folder / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(sections))
    return load_plan(INCLUDE / "plans" / "pms.yaml", overlay)


@pytest.fixture
def plan(cluster: Cluster, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan in the test's namespace, with one replica; its cluster connection is set."""
    extra = {"kube_config_path": str(cluster.kubeconfig)}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_KUBERNETES", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    return plan_with(
        tmp_path,
        image={"repository": REPOSITORY},
        cluster={
            "namespace": namespace, "staging_namespace": namespace, "replicas": 1,
            "rollout_timeout_seconds": 120, "job_timeout_seconds": 60,
        },
        traffic={"drain_timeout_seconds": 3},
    )  # fmt: skip
