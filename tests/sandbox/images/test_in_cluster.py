"""The images in a real cluster, by the product's own manifests: the service, its commands, the tools, the end."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import psycopg
import pytest
from kubernetes import client, config

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.kube import jobs
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.workload import manifests
from sandbox.hotel import seed
from sandbox.images import Image, push
from sandbox.images.base import USER
from sandbox.kubernetes import Cluster
from sandbox.kubernetes import build as programs
from sandbox.services import postgres

pytestmark = pytest.mark.cluster
NAMESPACE = "images"
PASSWORD = "only-for-tests"


@dataclass(frozen=True)
class Place:
    """A namespace with the settings of the service, and its database."""

    cluster: Cluster
    api: client.ApiClient
    plan: Plan
    dsn: str

    def events(self) -> str:
        found = client.CoreV1Api(self.api).list_namespaced_event(NAMESPACE).items
        return "; ".join(f"{one.reason}: {one.message}" for one in found)

    def run(self, image: Image, *argv: str, foreign: bool = False, **env: str) -> jobs.JobResult:
        """A Job, as the product runs a release's commands."""
        secret = "pms-scanner" if foreign else None
        command = jobs.Command(argv[0], str(time.time()), image.name, argv, env, foreign=foreign, env_secret=secret)

        async def wait() -> jobs.JobResult:
            async with connect_with_kubeconfig(self.cluster.kubeconfig, NAMESPACE) as kube:
                return await jobs.run(kube, self.plan.cluster, command)

        result = asyncio.run(wait())
        assert result.succeeded is not None, f"{result}; {self.events()}"
        return result


@pytest.fixture(scope="module")
def database(real_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database where pods reach it, empty."""
    folder = tmp_path_factory.mktemp("pg")
    data, log, host = folder / "data", folder / "log", f"{real_cluster.host_prefix}.77"
    postgres.initdb(data, log)
    postgres.set_roles(data, {"pms": (PASSWORD, "CREATEDB")}, log)
    process = postgres.serve("postgres", data, host, 5432, postgres.ALONE, log)
    try:
        postgres.wait_ready(f"postgresql://pms:{PASSWORD}@{host}:5432/postgres", process)
        with psycopg.connect(f"postgresql://pms:{PASSWORD}@{host}:5432/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE pms")
        yield f"postgresql://pms:{PASSWORD}@{host}:5432/pms"
    finally:
        process.stop(grace_seconds=20)


@pytest.fixture(scope="module")
def place(real_cluster: Cluster, images: dict[str, Image], database: str) -> Iterator[Place]:
    there = real_cluster
    push(list(images.values()), there.registry_url, there.registry_user, there.registry_password, print)
    assert push(list(images.values()), there.registry_url, there.registry_user, there.registry_password) == 0
    with config.new_client_from_config(there.kubeconfig) as api:
        core = client.CoreV1Api(api)
        core.create_namespace({"metadata": {"name": NAMESPACE}})
        settings = {"DATABASE_URL": database, "JWT_SECRET": "j" * 72, "ADMIN_TOKEN": "a" * 32}
        login = {
            "TRIVY_USERNAME": there.registry_user, "TRIVY_PASSWORD": there.registry_password,
            "REGISTRY_MIRROR": there.registry_url,
        }  # fmt: skip
        for name, content in (("pms-secrets", settings), ("pms-scanner", login)):
            core.create_namespaced_secret(NAMESPACE, {"metadata": {"name": name}, "stringData": content})
        yield Place(there, api, load_plan(INCLUDE / "plans" / "pms.yaml"), database)
        core.delete_namespace(NAMESPACE)


def test_prisma_migrates_as_a_job(place: Place, images: dict[str, Image]):
    done = place.run(images["v1.0.0"], "npx", "prisma", "migrate", "deploy")
    assert (done.exit_code, "successfully applied" in done.output) == (0, True), done.output
    done = place.run(images["v1.0.0"], "npx", "prisma", "migrate", "status")
    assert (done.exit_code, "up to date" in done.output) == (0, True), done.output
    assert place.run(images["v1.1.0"], "npx", "prisma", "migrate", "status").exit_code == 1


def test_a_release_serves_passes_its_smoke_test_and_ends_when_told(place: Place, images: dict[str, Image]):
    seed.small(place.dsn, test_password="one", admin_password="two")
    apps, core = client.AppsV1Api(place.api), client.CoreV1Api(place.api)
    body = manifests.deployment(place.plan, "blue", "v1.1.0", images["v1.1.0"].name, 1)
    apps.create_namespaced_deployment(NAMESPACE, body)
    pods = serving(apps, core, body["metadata"]["name"], place.plan.cluster.replicas)
    url = f"http://{pods[0].status.pod_ip}:{place.plan.cluster.port}"
    answer = httpx.get(f"{url}/health", trust_env=False, timeout=5)
    assert (answer.status_code, answer.headers["x-version"]) == (200, "v1.1.0")
    done = place.run(images["v1.1.0"], "npm", "run", "test:smoke", "--", "--url", url)
    assert done.exit_code == 0, done.output
    name = pods[0].metadata.name
    assert inside(place, name, "id", "-u").strip() == USER
    assert inside(place, name, "cat", "/proc/1/cmdline").split("\0")[:3] == ["python3", "-m", "sandbox.hotel"]
    begin = time.monotonic()
    core.delete_namespaced_pod(name, NAMESPACE)
    while exists(core, name):
        assert time.monotonic() - begin < 25, "a program that heeds SIGTERM needs no SIGKILL after 30 s"
        time.sleep(0.2)


def test_the_scanner_refuses_a_bad_image_and_no_other(place: Place, images: dict[str, Image]):
    words = ("trivy", "image", "--severity", "CRITICAL,HIGH", "--exit-code", "10")
    bad = place.run(images["tools"], *words, images["v1.8.0"].name, foreign=True)
    assert (bad.exit_code, "CVE-2026-0001" in bad.output, "CVE-2026-0002" in bad.output) == (10, True, False)
    good = place.run(images["tools"], *words, images["v1.1.0"].name, foreign=True)
    assert good.exit_code == 0, good.output
    lost = place.run(images["tools"], *words, f"{images['v1.1.0'].repository}:v9.9.9", foreign=True)
    assert lost.exit_code == 1


def serving(apps: client.AppsV1Api, core: client.CoreV1Api, name: str, replicas: int) -> list:
    deadline = time.monotonic() + 120
    while (apps.read_namespaced_deployment(name, NAMESPACE).status.available_replicas or 0) < replicas:
        assert time.monotonic() < deadline, "the pods are not ready"
        time.sleep(0.5)
    return core.list_namespaced_pod(NAMESPACE, label_selector="version=blue").items


def inside(place: Place, pod: str, *argv: str) -> str:
    kubectl = [str(programs.obtain(print) / "kubectl"), "--kubeconfig", place.cluster.kubeconfig, "-n", NAMESPACE]
    return subprocess.check_output([*kubectl, "exec", pod, "--", *argv], text=True, timeout=60)


def exists(core: client.CoreV1Api, name: str) -> bool:
    found = core.list_namespaced_pod(NAMESPACE, field_selector=f"metadata.name={name}").items
    return bool(found)
