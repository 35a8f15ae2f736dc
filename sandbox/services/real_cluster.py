"""A real Kubernetes in the stand-in's place: real images in its registry, and the namespaces of the hotel system."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sandbox.processes import POLL_SECONDS
from sandbox.services.access import Access, kubeconfig, remember
from sandbox.services.component import Component, Context
from sandbox.services.registry import catalogue
from sandbox.services.workloads import NAMESPACES
from sandbox.settings import REPOSITORY, SandboxError, Settings

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

    from sandbox.kubernetes.description import Cluster

GONE_SECONDS = 90
DEPLOYER = "pms-deployer"
READS_NODES = "pms-readiness-nodes"
"""ClusterRole and its binding: in no namespace, so removed by name."""
OURS = {"pms.sandbox/made-by": "sandbox"}
"""Label of the namespaces that a sandbox may delete."""
TOKEN_SECONDS = 24 * 3600
ADMIN = "pms-sandbox"
"""The ServiceAccount with which the sandbox prepares the cluster and tests look into it."""


class ReleaseImages(Component):
    """The hotel's releases as OCI images, built if they are not in the cache, and pushed to the cluster's registry."""

    name = "images"

    def start(self, context: Context) -> None:
        from sandbox import images

        cluster = _cluster(context.settings)
        with context.settings.log(self.name).open("a", buffering=1) as log:

            def tell(line: str) -> None:
                print(line, file=log)

            built = images.build(tell)
            images.push(built, cluster.registry_url, cluster.registry_user, cluster.registry_password, tell)
        entries = [{"repository": i.repository, "tag": i.tag, "digest": i.digest} for i in built]
        path = catalogue(context.settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"images": entries}, indent=2))


class RealCluster(Component):
    """The cluster with empty namespaces, whatever an earlier sandbox left in them."""

    name = "kubernetes"

    def start(self, context: Context) -> None:
        from kubernetes import client, config, utils

        settings = context.settings
        with config.new_client_from_config(_cluster(settings).kubeconfig) as api:
            core = client.CoreV1Api(api)
            _remove(api)
            for name in NAMESPACES:
                _until_gone(core, name)
                core.create_namespace({"metadata": {"name": name, "labels": OURS}})
            ca = settings.folder("cluster") / "ca.crt"
            shutil.copyfile(api.configuration.ssl_ca_cert, ca)
            remember(settings, Access(api.configuration.host, _admin_token(api), str(ca)))
            utils.create_from_yaml(api, yaml_objects=_deployer())
            token = _token(core, DEPLOYER, NAMESPACES[0])
            _write_kubeconfig(kubeconfig(settings), api.configuration.host, ca, token)

    def remove(self, settings: Settings) -> None:
        from kubernetes import config

        with config.new_client_from_config(_cluster(settings).kubeconfig) as api:
            _remove(api)


def _cluster(settings: Settings) -> Cluster:
    assert settings.cluster is not None
    return settings.cluster


def _remove(api: ApiClient) -> None:
    """What a sandbox has made; refuses before anything is touched if the namespaces are somebody else's."""
    from kubernetes import client

    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    _remove_namespaces(core)
    for binding in (ADMIN, READS_NODES):
        _unless(404, rbac.delete_cluster_role_binding, binding)
    _unless(404, rbac.delete_cluster_role, READS_NODES)
    _unless(404, core.delete_namespaced_service_account, ADMIN, "kube-system")


def _remove_namespaces(core: Any) -> None:
    """Those of a sandbox, and no other: on somebody's own cluster they may hold what matters."""
    found = [namespace for name in NAMESPACES if (namespace := _unless(404, core.read_namespace, name))]
    for namespace in found:
        if not OURS.items() <= (namespace.metadata.labels or {}).items():
            name = namespace.metadata.name
            raise SandboxError(f"the cluster has a namespace {name} that no sandbox has made; use another cluster")
    for namespace in found:
        _unless(404, core.delete_namespace, namespace.metadata.name)


def _until_gone(core: Any, name: str) -> None:
    deadline = time.monotonic() + GONE_SECONDS
    while _unless(404, core.read_namespace, name) is not None:
        if time.monotonic() > deadline:
            raise SandboxError(f"the namespace {name} of an earlier sandbox is not gone after {GONE_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _admin_token(api: ApiClient) -> str:
    from kubernetes import client

    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    subject = {"kind": "ServiceAccount", "name": ADMIN, "namespace": "kube-system"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": ADMIN}, "roleRef": role, "subjects": [subject]}
    _unless(409, core.create_namespaced_service_account, "kube-system", {"metadata": {"name": ADMIN}})
    _unless(409, rbac.create_cluster_role_binding, binding)
    return _token(core, ADMIN, "kube-system")


def _deployer() -> list[dict[str, Any]]:
    """What the product says that its deployer needs: it runs with that and nothing else."""
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "plugins")}
    found: list[dict[str, Any]] = []
    for part in ((), ("--nodes",)):
        argv = [sys.executable, "-m", "handover", "rbac", *part, "--plan", "pms"]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SandboxError(f"the deployer's permissions: {done.stderr.strip()}")
        found += yaml.safe_load_all(done.stdout)
    return found


def _token(core: Any, account: str, namespace: str) -> str:
    request = {"spec": {"expirationSeconds": TOKEN_SECONDS}}
    return str(core.create_namespaced_service_account_token(account, namespace, request).status.token)


def _unless(status: int, call: Any, *arguments: Any) -> Any:
    """What the call gives, or None when the API answers with this status."""
    from kubernetes.client.exceptions import ApiException

    try:
        return call(*arguments)
    except ApiException as error:
        if error.status == status:
            return None
        raise SandboxError(
            f"the cluster refused {call.__name__} of {arguments[0]}: {error.status} {error.body}"
        ) from None


def _write_kubeconfig(path: Path, server: str, ca: Path, token: str) -> None:
    content = {
        "apiVersion": "v1", "kind": "Config", "current-context": "pms",
        "clusters": [{"name": "pms", "cluster": {"server": server, "certificate-authority": str(ca)}}],
        "users": [{"name": "pms", "user": {"token": token}}],
        "contexts": [{"name": "pms", "context": {"cluster": "pms", "user": "pms", "namespace": "production"}}],
    }  # fmt: skip
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        yaml.safe_dump(content, file)
