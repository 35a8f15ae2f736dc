"""podinfo, a service that nobody here wrote: as it stands in a cluster before anybody deploys it with us, adopted by
the commands of docs/adopt.md.

It says its version in a body only, counts requests by `status`, and has neither a database nor a login.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from sandbox.airflow_client import AirflowClient
from sandbox.hotel.build import manifest_bytes
from sandbox.kubernetes import build
from sandbox.processes import POLL_SECONDS
from sandbox.services.access import Access, access
from sandbox.services.connections import connections
from sandbox.services.registry import catalogue
from sandbox.settings import REPOSITORY, SandboxError, Settings

IMAGE = "registry.example.com/shop/podinfo"
FIRST, GOOD, BAD, NEVER_READY = "6.9.2", "6.9.3", "6.9.4", "6.9.5"
FAULTS: dict[str, dict[str, str]] = {
    FIRST: {},
    GOOD: {},
    BAD: {"PODINFO_RANDOM_ERROR": "true"},
    NEVER_READY: {"PODINFO_UNREADY": "true"},
}
"""Release to what its image sets in the environment: errors for one answer in three; not ready, ever."""
NAMESPACE, NAME, PORT = "shop", "podinfo", 9898
REPLICAS = 2
SAME = ("airflow", "registry")
"""Connections that are those of the sandbox's other plan."""
READY_SECONDS = 120
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
Object = dict[str, Any]


def add_images(settings: Settings, tell: Callable[[str], None] = print) -> None:
    """Its releases, beside those that the stand-in's catalogue has."""
    programs = build.podinfo(tuple(FAULTS), tell)
    path = catalogue(settings)
    content = json.loads(path.read_text())
    content["images"] = [one for one in content["images"] if one["repository"] != IMAGE]
    content["images"] += [_image(version, program) for version, program in programs.items()]
    draft = path.with_suffix(".podinfo")
    draft.write_text(json.dumps(content, indent=2))
    os.replace(draft, path)


def _image(version: str, program: Path) -> Object:
    digest = f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"
    entry: Object = {
        "repository": IMAGE, "tag": version, "argv": [str(program)], "workdir": "", "path": [],
        "env": {"PMS_BUILD": digest, **FAULTS[version]},
    }  # fmt: skip
    return entry | {"digest": f"sha256:{hashlib.sha256(manifest_bytes(entry)).hexdigest()}"}


def objects() -> list[tuple[str, Object]]:
    """API path and body of everything that is there before: a Service by one label, and a Deployment."""
    labels = {"app": NAME}
    container = {
        "name": NAME, "image": f"{IMAGE}:{FIRST}", "ports": [{"name": "http", "containerPort": PORT}],
        "env": [
            {"name": "PODINFO_HOST", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PODINFO_LEVEL", "value": "warn"},
        ],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
        "resources": {"limits": {"cpu": "1", "memory": "256Mi"}},
    }  # fmt: skip
    deployment = {
        "metadata": {"name": NAME}, "spec": {
            "replicas": REPLICAS, "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }  # fmt: skip
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return [
        ("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}),
        (SERVICES, {"metadata": {"name": NAME}, "spec": {"selector": labels, "ports": ports}}),
        (DEPLOYMENTS, deployment),
    ]


@dataclass(frozen=True)
class Adopted:
    """podinfo with a plan. ``commands``: those that a person typed to get there."""

    settings: Settings
    url: str
    plan: Path
    commands: tuple[str, ...]

    def serving(self) -> set[str]:
        """The versions that answer new connections."""
        return {str(httpx.get(self.url, trust_env=False).json()["version"]) for _ in range(10)}


def begin(settings: Settings) -> None:
    """Puts podinfo where nobody has deployed it with us yet."""
    with access(settings).client() as kube:
        for path, body in objects():
            _made(kube.post(path, json=body))
        _wait(kube, NAME)


def adopt(settings: Settings, include: Path, admin: AirflowClient) -> Adopted:
    """Does what docs/adopt.md says, up to a plan in Airflow. ``include``: the folder of its files.

    Raises `SandboxError`.
    """
    kubeconfig = include.parent / "kubeconfig"
    _write_kubeconfig(kubeconfig, access(settings))
    command = ["adopt", "--kubeconfig", str(kubeconfig), "--namespace", NAMESPACE, "--service", NAME]
    printed = _handover(*command, "--write", str(include))
    typed = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
    with access(settings).client() as kube:
        for body in yaml.safe_load_all((include / "k8s" / f"{NAME}-first.yaml").read_text()):
            _made(kube.post({"Service": SERVICES, "Deployment": DEPLOYMENTS}[body["kind"]], json=body))
        _wait(kube, f"{NAME}-blue")
        _patch(kube, f"{SERVICES}/{NAME}", {"spec": {"selector": {"version": "blue"}}})
        time.sleep(1)
        _patch(kube, f"{DEPLOYMENTS}/{NAME}", {"spec": {"replicas": 0}})
        urls = {name: _url(kube, name) for name in (NAME, f"{NAME}-preview")}
    for name, connection in _connections(settings, urls).items():
        admin.make_connection(name, connection)
    plan = include / "plans" / f"{NAME}.yaml"
    return Adopted(settings, urls[NAME], plan, (f"python -m handover {' '.join(command)} --write", *typed))


def _connections(settings: Settings, urls: dict[str, str]) -> dict[str, Object]:
    known = connections(settings)
    found = {f"{NAME}_{what}": known[f"pms_{what}"] for what in SAME}
    found[f"{NAME}_kubernetes"] = known["pms_kubernetes"]
    for what, name in (("api", NAME), ("preview", f"{NAME}-preview")):
        found[f"{NAME}_{what}"] = {"conn_type": "http", "host": urls[name]}
    return found


def _handover(*arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    argv = [sys.executable, "-m", "handover", *arguments]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"{' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def _write_kubeconfig(path: Path, found: Access) -> None:
    cluster = {"server": found.url} | ({"certificate-authority": found.ca} if found.ca else {})
    content = {
        "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": found.token}}],
    }  # fmt: skip
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content))


def _url(kube: httpx.Client, service: str) -> str:
    spec = kube.get(f"{SERVICES}/{service}").raise_for_status().json()["spec"]
    return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"


def _wait(kube: httpx.Client, deployment: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while kube.get(f"{DEPLOYMENTS}/{deployment}").json().get("status", {}).get("availableReplicas", 0) < REPLICAS:
        if time.monotonic() > deadline:
            raise SandboxError(f"{NAMESPACE}/{deployment} is not available after {READY_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _patch(kube: httpx.Client, path: str, body: Object) -> None:
    _made(kube.patch(path, json=body, headers={"Content-Type": "application/merge-patch+json"}))


def _made(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise SandboxError(f"the cluster refused {answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
