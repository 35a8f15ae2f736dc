"""Argo Rollouts' controller, and all that a cluster needs to have for it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from sandbox.argo import build, manifests
from sandbox.argo.objects import Object, Objects, path_of
from sandbox.processes import Process
from sandbox.services.access import Access

NAMESPACE = ACCOUNT = "argo-rollouts"
"""Where its manifests say that it lives."""
TOKEN_SECONDS = 24 * 3600
PORTS = {"--metricsPort": 18090, "--healthzPort": 18091}
"""It serves them on all addresses, so it runs where the guests do: in the node's own network."""
PARTS = (
    "crds/*-crd.yaml", "role/argo-rollouts-clusterrole.yaml", "base/argo-rollouts-sa.yaml",
    "base/argo-rollouts-config.yaml", "cluster-install/argo-rollouts-clusterrolebinding.yaml",
)  # fmt: skip


class Argo:
    """``with Argo(endpoints, folder) as argo: ...``: installed and running; nothing is left in the cluster afterwards.

    :param endpoints: of a sandbox on a real cluster whose `pms` is up
    :param folder: for its program, its log and its kubeconfig; must not exist
    """

    def __init__(self, endpoints: dict[str, Any], folder: Path) -> None:
        self.endpoints, self.folder = endpoints, folder
        self.log, self.kubeconfig = folder / "controller.log", folder / "kubeconfig"
        self._process: Process | None = None
        self._made: list[Object] = []
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        build.obtain(self.folder)
        self.folder.chmod(0o700)
        client = self._open.enter_context(Access(**self.endpoints["kubernetes"]).client())
        self.objects = Objects(client)
        try:
            for manifest in [*installation(self.folder / build.MANIFESTS), _namespace(manifests.NAMESPACE)]:
                self.create(manifest)
            for manifest in self._made:
                if manifest["kind"] == "CustomResourceDefinition":
                    self.objects.until_served(manifest)
            self.create(self._settings())
            self._write_kubeconfig()
            self._process = Process("argo-rollouts", self._command(), self.log)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Namespaces and definitions take their objects with them."""
        try:
            if self._process is not None:
                self._process.stop()
            for manifest in reversed(self._made):
                self.objects.remove(manifest)
            for manifest in self._made:
                self.objects.until_gone(manifest)
        finally:
            self._open.close()

    def create(self, manifest: Object) -> None:
        self.objects.create(manifest)
        self._made.append(manifest)

    def check(self) -> None:
        """Raises SandboxError when the controller has ended."""
        assert self._process is not None
        self._process.check()

    def _settings(self) -> Object:
        """What the hotel's pods read: the same database as ours."""
        found = self.objects.get("/api/v1/namespaces/production/secrets/pms-secrets")
        metadata = {"name": found["metadata"]["name"], "namespace": manifests.NAMESPACE}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": found["data"]}

    def _command(self) -> list[str | Path]:
        argv: list[str | Path] = [*self.endpoints["guests"]["enter"], self.folder / build.PROGRAM]
        ports = [f"{name}={port}" for name, port in PORTS.items()]
        return [*argv, "--kubeconfig", self.kubeconfig, "--leader-elect=false", *ports]

    def _write_kubeconfig(self) -> None:
        """The deployer's, with Argo's own account in it."""
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{ACCOUNT}/token"
        answer = self.objects.client.post(account, json={"spec": {"expirationSeconds": TOKEN_SECONDS}})
        config = yaml.safe_load(Path(self.endpoints["kubeconfig"]).read_text())
        config["users"][0]["user"] = {"token": answer.raise_for_status().json()["status"]["token"]}
        with os.fdopen(os.open(self.kubeconfig, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            yaml.safe_dump(config, file)


def installation(folder: Path) -> list[Object]:
    """The objects of the module's own manifests, in the order in which they can be created."""
    found = [_namespace(NAMESPACE)]
    for pattern in PARTS:
        for path in sorted(folder.glob(pattern)):
            manifest = yaml.safe_load(path.read_text())
            if manifest["kind"] in ("ServiceAccount", "ConfigMap"):
                manifest["metadata"]["namespace"] = NAMESPACE
            found.append(manifest)
    return found


def _namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def left(objects: Objects, folder: Path) -> list[str]:
    """Paths of what an installation from these manifests has left in the cluster."""
    everything = [*installation(folder), _namespace(manifests.NAMESPACE)]
    return [path_of(manifest) for manifest in everything if objects.client.get(path_of(manifest)).is_success]
