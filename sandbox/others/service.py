"""A service as it stands in a cluster before anybody deploys it with us, adopted by the commands of docs/adopt.md."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx

from sandbox.airflow_client import AirflowClient
from sandbox.hotel.build import manifest_bytes
from sandbox.images import layers, layout
from sandbox.images.layout import Image, Recipe
from sandbox.images.push import push
from sandbox.others.person import Person
from sandbox.processes import POLL_SECONDS
from sandbox.services.access import access
from sandbox.services.registry import catalogue
from sandbox.settings import SandboxError, Settings

Object = dict[str, Any]
REPLICAS = 2
READY_SECONDS = 120
USER = "65532:65532"


@dataclass(frozen=True)
class OtherService:
    """``image``: its repository; ``releases``: version to what its image sets in the environment, the one that runs at
    first before all others; ``programs``: builds them; ``container``: what its container has besides name, image and
    port; ``secret``: the environment that is secret; ``lines``: what a person adds to the drafted plan.
    """

    name: str
    image: str
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

    def bring(self, settings: Settings) -> Person:
        """To two colours and a plan. Raises `SandboxError`."""
        person = Person(self.name, settings)
        cluster = ["--kubeconfig", person.kubeconfig(access(settings))]
        person.types("adopt", *cluster, "--namespace", self.namespace, "--service", self.name, "--write")
        person.writes(self.lines, self.more(settings))
        person.types("prepare", "--plan", self.name, *cluster)
        return person

    def url(self, settings: Settings) -> str:
        """Where it answers on this machine."""
        with access(settings).client() as kube:
            spec = kube.get(f"{self.services}/{self.name}").raise_for_status().json()["spec"]
        if settings.cluster:
            return f"http://{settings.cluster.node}:{spec['ports'][0]['nodePort']}"
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    def adopt(self, settings: Settings, lead: AirflowClient, version: str) -> Adopted:
        """Does what docs/adopt.md says, as somebody with a terminal and Airflow's UI, up to the dry run of a version;
        writes what it took beside the benches' results.

        Raises `SandboxError`.
        """
        begun, person = time.monotonic(), self.bring(settings)
        asked = {"version": version, "reason": "a rehearsal", "window_override": True}
        asked |= dict.fromkeys(("window_override_reason", "readiness_override_reason"), "a rehearsal")
        person.begins(f"{self.name}_dry_run", asked, lead)
        minutes = round((time.monotonic() - begun) / 60, 2)
        url = person.connections[f"{self.name}_api"]["host"]
        found = Adopted(url, tuple(person.typed), person.lines, minutes)
        report = settings.home.parent / f"adopted-{self.name}.json"
        report.write_text(json.dumps(asdict(found), indent=1) + "\n")
        return found

    def _wait(self, kube: httpx.Client, deployment: str) -> None:
        deadline = time.monotonic() + READY_SECONDS
        where = f"{self.deployments}/{deployment}"
        while kube.get(where).json().get("status", {}).get("availableReplicas", 0) < REPLICAS:
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.namespace}/{deployment} is not available after {READY_SECONDS} s")
            time.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Adopted:
    """A service with a plan, after its first dry run. ``commands``: what a person typed to get there; ``lines``: what a
    person wrote; ``minutes``: until the dry run had ended.
    """

    url: str
    commands: tuple[str, ...]
    lines: int
    minutes: float


def _made(answer: httpx.Response) -> None:
    if not answer.is_success:
        raise SandboxError(f"the cluster refused {answer.request.url.path}: {answer.status_code} {answer.text[:300]}")
