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
    status: bool = False  # has a status subresource
    scale: bool = False  # has a scale subresource
    generation: bool = False  # counts changes of its spec
    returns_deleted: bool = False  # DELETE answers with the object instead of a Status
    everything: bool = False  # part of `kubectl get all`
    create_on_update: bool = False  # PUT creates what is missing, and replacing asks for a resourceVersion
    version: str = "v1"

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As in error messages: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


NAMESPACE = Kind("", "Namespace", "namespaces", ("ns",), namespaced=False, status=True)
NODE = Kind("", "Node", "nodes", ("no",), namespaced=False, status=True)
POD = Kind("", "Pod", "pods", ("po",), status=True, generation=True, returns_deleted=True, everything=True)
SERVICE = Kind("", "Service", "services", ("svc",), status=True, returns_deleted=True, everything=True)
ENDPOINTS = Kind("", "Endpoints", "endpoints", ("ep",))
SLICE = Kind("discovery.k8s.io", "EndpointSlice", "endpointslices")
CONFIG_MAP = Kind("", "ConfigMap", "configmaps", ("cm",))
SECRET = Kind("", "Secret", "secrets")
EVENT = Kind("", "Event", "events", ("ev",))
SERVICE_ACCOUNT = Kind("", "ServiceAccount", "serviceaccounts", ("sa",), returns_deleted=True)
DEPLOYMENT = Kind(
    "apps", "Deployment", "deployments", ("deploy",), status=True, scale=True, generation=True, everything=True
)
REPLICA_SET = Kind(
    "apps", "ReplicaSet", "replicasets", ("rs",), status=True, scale=True, generation=True, everything=True
)
JOB = Kind("batch", "Job", "jobs", status=True, generation=True, everything=True)
LEASE = Kind("coordination.k8s.io", "Lease", "leases", create_on_update=True)

KINDS = (
    NAMESPACE, NODE, POD, SERVICE, ENDPOINTS, SLICE, CONFIG_MAP, SECRET, EVENT, SERVICE_ACCOUNT,
    DEPLOYMENT, REPLICA_SET, JOB, LEASE,
)  # fmt: skip
BY_PATH = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
