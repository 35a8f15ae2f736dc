"""The hotel system before the first deployment: staging, and production's blue colour serving."""

from __future__ import annotations

import json
import string
import time
from typing import Any

import httpx
import yaml

from sandbox.processes import POLL_SECONDS
from sandbox.services.access import access
from sandbox.services.component import Component, Context
from sandbox.services.connections import registry
from sandbox.services.databases import PRODUCTION, STAGING
from sandbox.services.registry import catalogue
from sandbox.settings import NODE_PORTS, REPOSITORY, SERVICE_PORT, TEST_EMAIL, SandboxError, Settings

RELEASE = "v1.0.0"
"""What runs at the start."""
READY_SECONDS = 120
NAMESPACES = ("production", "staging")
Object = dict[str, Any]


class Workloads(Component):
    """PMS v1.0.0: blue in production, and staging; ready when every pod is."""

    name = "pms"
    needs = ("images", "kubernetes", "primary", "staging")

    def start(self, context: Context) -> None:
        settings = context.settings
        with access(settings).client() as client:
            for path, body in manifests(settings):
                answer = client.post(path, json=body)
                if answer.status_code != httpx.codes.CREATED:
                    raise SandboxError(f"the cluster refused {path}: {answer.status_code} {answer.text[:500]}")
            for namespace, name in (("production", "pms-blue"), ("staging", "pms-staging")):
                _wait_available(client, namespace, name)


def manifests(settings: Settings) -> list[tuple[str, Object]]:
    """API path and body of everything that is there before the first deployment, but its namespaces."""
    found: list[tuple[str, Object]] = [] if settings.cluster else [("/api/v1/nodes", _node())]
    for namespace in NAMESPACES:
        found.append((f"/api/v1/namespaces/{namespace}/secrets", _secret(settings, namespace)))
    found.append(("/api/v1/namespaces/production/secrets", _scanner(settings)))
    for namespace, name, selector in (
        ("production", "pms-api", {"app": "pms", "version": "blue"}),
        ("production", "pms-preview", {"app": "pms", "version": "green"}),
        ("staging", "pms-staging", {"app": "pms", "version": "staging"}),
    ):
        service = _service(settings, name, selector)
        found.append((f"/api/v1/namespaces/{namespace}/services", service))
    for namespace, name, colour, replicas in (
        ("production", "pms-blue", "blue", 2),
        ("staging", "pms-staging", "staging", 1),
    ):
        deployment = _deployment(settings, name, colour, replicas)
        found.append((f"/apis/apps/v1/namespaces/{namespace}/deployments", deployment))
    return found


def _secret(settings: Settings, namespace: str) -> Object:
    secrets = settings.secrets
    server, database = ("primary", PRODUCTION) if namespace == "production" else ("metadata", STAGING)
    values = {
        "DATABASE_URL": settings.dsn(server, database, "pms", secrets.pms),
        "JWT_SECRET": secrets.jwt,
        "HEALTH_CHECK_TOKEN": secrets.health_check_token,
        "ADMIN_TOKEN": secrets.admin_token,
        "SMOKE_EMAIL": TEST_EMAIL,
        "SMOKE_PASSWORD": secrets.test_password,
    }
    return {"metadata": {"name": "pms-secrets"}, "type": "Opaque", "stringData": values}


def _scanner(settings: Settings) -> Object:
    """What the plan's `image.scan` takes as its environment; the registry answers for every host of an image."""
    url, user, password = registry(settings)
    values = {"TRIVY_USERNAME": user, "TRIVY_PASSWORD": password, "REGISTRY_MIRROR": url}
    return {"metadata": {"name": "pms-scanner"}, "type": "Opaque", "stringData": values}


def _node() -> Object:
    """The machine that the stand-in runs its pods on; a real cluster has its own."""
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady"}
    return {"metadata": {"name": "stand-in"}, "status": {"conditions": [ready]}}


def _service(settings: Settings, name: str, selector: dict[str, str]) -> Object:
    """Outside of a real cluster its Services are reached by the ports of the node."""
    port: Object = {"name": "http", "port": SERVICE_PORT, "targetPort": "http", "protocol": "TCP"}
    spec: Object = {"selector": selector, "ports": [port]}
    if settings.cluster:
        port["nodePort"] = NODE_PORTS[name]
        spec["type"] = "NodePort"
    else:
        spec |= {"type": "ClusterIP", "clusterIP": settings.service_address(name)[0]}
    return {"metadata": {"name": name, "labels": {"app": "pms"}}, "spec": spec}


def _deployment(settings: Settings, name: str, colour: str, replicas: int) -> Object:
    """From the product's own template, so that the first colour is like all that follow."""
    entry = next(e for e in json.loads(catalogue(settings).read_text())["images"] if e["tag"] == RELEASE)
    template = string.Template((REPOSITORY / "include" / "k8s" / "deployment.yaml").read_text())
    text = template.substitute(
        name=name, app="pms", colour_key="version", colour=colour, version=RELEASE, replicas=replicas, deadline=120,
        container="pms", image=f"{entry['repository']}@{entry['digest']}", port=SERVICE_PORT, secret="pms-secrets",
        cpu_limit="1", memory_limit="512Mi", health_path="/health",
    )  # fmt: skip
    return dict(yaml.safe_load(text))


def _wait_available(client: httpx.Client, namespace: str, name: str) -> None:
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}"
    deadline = time.monotonic() + READY_SECONDS
    while True:
        found = client.get(path).json()
        if found.get("status", {}).get("availableReplicas", 0) >= found["spec"]["replicas"]:
            return
        if time.monotonic() > deadline:
            raise SandboxError(
                f"{namespace}/{name} is not available after {READY_SECONDS} s:\n{_pods(client, namespace)}"
            )
        time.sleep(POLL_SECONDS)


def _pods(client: httpx.Client, namespace: str) -> str:
    """The state and last words of each pod, for an error message."""
    lines = []
    for pod in client.get(f"/api/v1/namespaces/{namespace}/pods").json().get("items", []):
        name = pod["metadata"]["name"]
        log = client.get(f"/api/v1/namespaces/{namespace}/pods/{name}/log", params={"tailLines": 5}).text
        lines.append(f"  {name}: {json.dumps(pod.get('status', {}).get('containerStatuses'))}\n  {log}")
    return "\n".join(lines)
