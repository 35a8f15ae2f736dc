"""Objects of a cluster by their manifests: create, read, patch, remove."""

from __future__ import annotations

import time
from typing import Any

import httpx

from sandbox.processes import POLL_SECONDS
from sandbox.settings import SandboxError

Object = dict[str, Any]
GONE_SECONDS = 90
SERVED_SECONDS = 30
NAMESPACED = {
    "ConfigMap": "configmaps", "Secret": "secrets", "Service": "services", "ServiceAccount": "serviceaccounts",
    "Rollout": "rollouts", "AnalysisTemplate": "analysistemplates", "AnalysisRun": "analysisruns",
    "Deployment": "deployments", "Pod": "pods",
}  # fmt: skip
OF_THE_CLUSTER = {
    "Namespace": "namespaces", "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
}  # fmt: skip


def collection(version: str, kind: str, namespace: str = "") -> str:
    """The path of all objects of a kind."""
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    if kind in OF_THE_CLUSTER:
        return f"{root}/{OF_THE_CLUSTER[kind]}"
    return f"{root}/namespaces/{namespace}/{NAMESPACED[kind]}"


def path_of(manifest: Object) -> str:
    """The path of one object."""
    name, namespace = manifest["metadata"]["name"], manifest["metadata"].get("namespace", "")
    return f"{collection(manifest['apiVersion'], manifest['kind'], namespace)}/{name}"


class Objects:
    """Of one cluster. What the API refuses is a SandboxError with its answer."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def create(self, manifest: Object) -> Object:
        return self._call("POST", path_of(manifest).rpartition("/")[0], json=manifest)

    def get(self, path: str) -> Object:
        return self._call("GET", path)

    def patch(self, path: str, body: Object) -> Object:
        return self._call("PATCH", path, json=body, headers={"Content-Type": "application/merge-patch+json"})

    def remove(self, manifest: Object) -> None:
        """What is there no longer is fine; what belongs to it goes too."""
        self._call("DELETE", path_of(manifest), gone_is_fine=True, params={"propagationPolicy": "Background"})

    def until_served(self, definition: Object) -> None:
        """Waits until the API knows the kind that a CustomResourceDefinition defines."""
        spec = definition["spec"]
        path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"
        deadline = time.monotonic() + SERVED_SECONDS
        while not self.client.get(path, params={"limit": 1}).is_success:
            if time.monotonic() > deadline:
                raise SandboxError(f"the cluster does not serve {path} after {SERVED_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def until_gone(self, manifest: Object) -> None:
        deadline = time.monotonic() + GONE_SECONDS
        while self.client.get(path_of(manifest)).status_code != httpx.codes.NOT_FOUND:
            if time.monotonic() > deadline:
                raise SandboxError(f"{path_of(manifest)} is not gone after {GONE_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def _call(self, method: str, path: str, *, gone_is_fine: bool = False, **given: Any) -> Object:
        answer = self.client.request(method, path, **given)
        if gone_is_fine and answer.status_code == httpx.codes.NOT_FOUND:
            return {}
        if answer.is_error:
            raise SandboxError(f"the cluster refused {method} {path}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())
