"""The kinds of object this API knows, and what is particular about each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    group: str
    name: str
    plural: str
    short: tuple[str, ...] = ()
    namespaced: bool = True
    status: bool = False  # has a status subresource, and counts the changes of its spec
    scale: bool = False  # has a scale subresource

    @property
    def api_version(self) -> str:
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def resource(self) -> str:
        """As in error messages: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACE = Kind("", "Namespace", "namespaces", ("ns",), namespaced=False)
NODE = Kind("", "Node", "nodes", ("no",), namespaced=False)
POD = Kind("", "Pod", "pods", ("po",), status=True)
SERVICE = Kind("", "Service", "services", ("svc",), status=True)
SLICE = Kind("discovery.k8s.io", "EndpointSlice", "endpointslices")
CONFIG_MAP = Kind("", "ConfigMap", "configmaps", ("cm",))
SECRET = Kind("", "Secret", "secrets")
EVENT = Kind("", "Event", "events", ("ev",))
DEPLOYMENT = Kind("apps", "Deployment", "deployments", ("deploy",), status=True, scale=True)
REPLICA_SET = Kind("apps", "ReplicaSet", "replicasets", ("rs",), status=True, scale=True)
JOB = Kind("batch", "Job", "jobs", status=True)
LEASE = Kind("coordination.k8s.io", "Lease", "leases")
AUTOSCALER = Kind("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers", ("hpa",))
"""Kept, and scales nothing."""

KINDS = (
    NAMESPACE, NODE, POD, SERVICE, SLICE, CONFIG_MAP, SECRET, EVENT, DEPLOYMENT, REPLICA_SET, JOB, LEASE, AUTOSCALER,
)  # fmt: skip
BY_PATH = {(kind.group, kind.plural): kind for kind in KINDS}
