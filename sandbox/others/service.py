"""A service as it stands in a cluster before anybody deploys it with us, adopted by the commands of docs/adopt.md."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from sandbox.airflow_client import AirflowClient
from sandbox.hotel.build import manifest_bytes
from sandbox.images import layers, layout
from sandbox.images.layout import Image, Recipe
from sandbox.images.push import push
from sandbox.processes import POLL_SECONDS
from sandbox.services.access import Access, access
from sandbox.services.connections import connections
from sandbox.services.registry import catalogue
from sandbox.settings import REPOSITORY, SandboxError, Settings

Object = dict[str, Any]
REPLICAS = 2
SAME = ("airflow", "registry")
"""Connections of every plan that are those of the sandbox's own."""
READY_SECONDS = 120
USER = "65532:65532"


@dataclass(frozen=True)
class OtherService:
    """``releases``: version to what its image sets in the environment, the one that runs at first before all others;
    ``programs``: builds them; ``container``: what its container has besides name, image and port; ``secret``: the
    environment that is secret; ``lines``: what a person adds to the drafted plan.
    """

    name: str
    port: int
    releases: Mapping[str, Mapping[str, str]]
    programs: Callable[[], Mapping[str, Path]]
    container: Object
    secret: Callable[[Settings], Mapping[str, str]] = lambda _: {}
    lines: Object = field(default_factory=dict)
    more: Callable[[Settings], Mapping[str, Object]] = lambda _: {}
    """Connections that the drafted plan does not name."""

    @property
    def namespace(self) -> str:
        return f"{self.name}-production"

    @property
    def image(self) -> str:
        return f"registry.example.com/shop/{self.name}"

    @property
    def services(self) -> str:
        return f"/api/v1/namespaces/{self.namespace}/services"

    @property
    def deployments(self) -> str:
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments"

    def add_images(self, settings: Settings) -> None:
        """Its releases: in the registry of a real cluster, or beside those that the stand-in's catalogue has."""
        programs = self.programs()
        if settings.cluster:
            with tempfile.TemporaryDirectory() as folder:
                images = self._layout(Path(folder), programs)
                found = settings.cluster
                push(images, found.registry_url, found.registry_user, found.registry_password)
            return
        path = catalogue(settings)
        content = json.loads(path.read_text())
        content["images"] = [one for one in content["images"] if one["repository"] != self.image]
        content["images"] += [self._image(version, programs[version]) for version in self.releases]
        draft = path.with_suffix(f".{self.name}")
        draft.write_text(json.dumps(content, indent=2))
        os.replace(draft, path)

    def _image(self, version: str, program: Path) -> Object:
        digest = f"sha256:{hashlib.sha256(program.read_bytes()).hexdigest()}"
        entry: Object = {
            "repository": self.image, "tag": version, "argv": [str(program)], "workdir": "",
            "path": [str(program.parent)], "env": {"PMS_BUILD": digest, **self.releases[version]},
        }  # fmt: skip
        return entry | {"digest": f"sha256:{hashlib.sha256(manifest_bytes(entry)).hexdigest()}"}

    def _layout(self, folder: Path, programs: Mapping[str, Path]) -> list[Image]:
        """Images of nothing but the program."""
        recipes = []
        for version, env in self.releases.items():
            program = folder / version / "tree" / "usr" / "bin" / self.name
            program.parent.mkdir(parents=True)
            shutil.copy(programs[version], program)
            layer = layers.of_tree(folder / version / "tree", folder / version)
            recipes.append(
                Recipe(
                    self.image, version, (layer,), (f"/usr/bin/{self.name}",), {"PATH": "/usr/bin", **env}, USER, "/"
                )
            )
        layout.write(folder / "layout", recipes)
        return layout.read(folder / "layout")

    def begin(self, settings: Settings) -> None:
        """Puts it where nobody has deployed it with us yet: a Service by one label, and a Deployment."""
        labels, secret = {"app": self.name}, self.secret(settings)
        container = {
            "name": self.name, "image": f"{self.image}:{next(iter(self.releases))}",
            "ports": [{"name": "http", "containerPort": self.port}],
            "lifecycle": {"preStop": {"sleep": {"seconds": 2}}},
            "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
            **({"envFrom": [{"secretRef": {"name": self.name}}]} if secret else {}), **self.container,
        }  # fmt: skip
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        spec = {"replicas": REPLICAS, "selector": {"matchLabels": labels}, "template": template}
        ports = [{"name": "http", "port": 80, "targetPort": "http"}]
        with access(settings).client() as kube:
            _made(kube.post("/api/v1/namespaces", json={"metadata": {"name": self.namespace}}))
            if secret:
                body = {"metadata": {"name": self.name}, "stringData": dict(secret)}
                _made(kube.post(f"/api/v1/namespaces/{self.namespace}/secrets", json=body))
            service = {"selector": labels, "ports": ports} | ({"type": "NodePort"} if settings.cluster else {})
            _made(kube.post(self.services, json={"metadata": {"name": self.name}, "spec": service}))
            _made(kube.post(self.deployments, json={"metadata": {"name": self.name}, "spec": spec}))
            self._wait(kube, self.name)

    def adopt(self, settings: Settings, include: Path, admin: AirflowClient) -> Adopted:
        """Does what docs/adopt.md says, up to a plan in Airflow. ``include``: the folder of its files.

        Raises `SandboxError`.
        """
        kubeconfig = include.parent / "kubeconfig"
        _write_kubeconfig(kubeconfig, access(settings))
        command = ["adopt", "--kubeconfig", str(kubeconfig), "--namespace", self.namespace, "--service", self.name]
        printed = _handover(*command, "--write", str(include))
        typed = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
        self._two_colours(settings, include)
        with access(settings).client() as kube:
            if settings.cluster:  # this Airflow is not in it
                _patch(kube, f"{self.services}/{self.name}-preview", {"spec": {"type": "NodePort"}})
            urls = {name: self._url(settings, kube, name) for name in (self.name, f"{self.name}-preview")}
        drafted = json.loads((include / "connections" / f"{self.name}.json").read_text())
        for name, connection in (drafted | self._connections(settings, urls)).items():
            admin.make_connection(name, connection)
        plan = include / "plans" / f"{self.name}.yaml"
        if self.lines:
            plan.write_text(f"{plan.read_text()}\n{yaml.safe_dump(self.lines, sort_keys=False)}")
        return Adopted(urls[self.name], plan, (f"python -m handover {' '.join(command)} --write", *typed))

    def _two_colours(self, settings: Settings, include: Path) -> None:
        with access(settings).client() as kube:
            for body in yaml.safe_load_all((include / "k8s" / f"{self.name}-first.yaml").read_text()):
                where = {"Service": self.services, "Deployment": self.deployments}[body["kind"]]
                _made(kube.post(where, json=body))
            self._wait(kube, f"{self.name}-blue")
            _patch(kube, f"{self.services}/{self.name}", {"spec": {"selector": {"version": "blue"}}})
            time.sleep(1)
            _patch(kube, f"{self.deployments}/{self.name}", {"spec": {"replicas": 0}})

    def _connections(self, settings: Settings, urls: Mapping[str, str]) -> dict[str, Object]:
        known = connections(settings)
        found = {f"{self.name}_{what}": known[f"pms_{what}"] for what in SAME} | dict(self.more(settings))
        for what, name in (("api", self.name), ("preview", f"{self.name}-preview")):
            found[f"{self.name}_{what}"] = {"conn_type": "http", "host": urls[name]}
        return found

    def _url(self, settings: Settings, kube: httpx.Client, service: str) -> str:
        """Where it answers on this machine."""
        spec = kube.get(f"{self.services}/{service}").raise_for_status().json()["spec"]
        if settings.cluster:
            return f"http://{settings.cluster.node}:{spec['ports'][0]['nodePort']}"
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    def _wait(self, kube: httpx.Client, deployment: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        where = f"{self.deployments}/{deployment}"
        while kube.get(where).json().get("status", {}).get("availableReplicas", 0) < REPLICAS:
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.namespace}/{deployment} is not available after {READY_SECONDS} s")
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Adopted:
    """A service with a plan. ``commands``: those that a person typed to get there."""

    url: str
    plan: Path
    commands: tuple[str, ...]


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


def _patch(kube: httpx.Client, path: str, body: Object) -> None:
    _made(kube.patch(path, json=body, headers={"Content-Type": "application/merge-patch+json"}))


def _made(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise SandboxError(f"the cluster refused {answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
