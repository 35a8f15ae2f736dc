"""The cluster: one namespace's objects as plain JSON, with compare and swap, Jobs' logs and the way to a single pod.

Every implementation passes ``tests/contracts/test_kube.py``.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]
REQUEST_TIMEOUT = 10.0
MAX_POD_BYTES = 2**23
"""Of a pod's own answer, and of what its container has printed, no more is read."""
MAX_CLUSTER_BYTES = 2**26
"""The same for the cluster's own answers: others may write its objects too."""
MAX_LOG_LINES = 150_000
"""Of what a container has printed, its end: as many as are in `MAX_POD_BYTES` of base64."""
APPLY = "apply include/k8s/rbac.yaml"
"""What to do about a missing permission."""


class KubeError(Exception):
    """The cluster refused or did not answer; ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether asking again may help: no answer, too many requests, or a fault of the API server."""
        return self.status in (0, 408, 429) or self.status >= 500

    @property
    def refusal(self) -> bool:
        """Whether the cluster would not have what it was asked for; its words say why."""
        return not self.passing and not isinstance(self, Conflict | NotFound)


class Conflict(KubeError):
    """Somebody else changed the object since it was read (409)."""


class NotFound(KubeError):
    """There is no such object (404)."""


class Forbidden(KubeError):
    """The API server refused (403); the text names what the deployer lacks, if that is why."""


@dataclass(frozen=True, order=True)
class Permission:
    """One verb on one resource. ``name``: empty for any; ``namespace``: empty for the whole cluster."""

    namespace: str
    group: str
    resource: str
    verb: str
    subresource: str = ""
    name: str = ""

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        what = "/".join(part for part in (kind, self.subresource, self.name) if part)
        return f"{self.verb} {what} in {self.namespace or 'the cluster'}"


@dataclass(frozen=True)
class PodAnswer:
    """What a pod answered with a good status. ``headers``: by lower-case name."""

    body: str
    headers: Mapping[str, str]


class Kube(Protocol):
    """``resource`` is ``services`` or, of a group, ``apps/v1/deployments``. Every call raises `KubeError`."""

    @property
    def namespace(self) -> str: ...

    def rehearsing(self) -> Kube:
        """The same, but every change is only tried by the API server (``dryRun=All``): it answers what would be, and
        keeps nothing. It asks for the same rights.
        """

    async def get(self, resource: str, name: str) -> Json:
        """Raises `NotFound`."""

    async def find(self, resource: str, name: str) -> Json | None:
        """The object, or None when there is none."""

    async def list(self, resource: str, labels: dict[str, str] | None = None) -> list[Json]:
        """Those with all of these labels, in no order to rely on."""

    async def nodes(self) -> builtins.list[Json]:
        """The nodes of the cluster, which are in no namespace."""

    async def create(self, resource: str, body: Json) -> Json:
        """Raises `Conflict` when there is one of this name."""

    async def replace(self, resource: str, name: str, body: Json) -> Json:
        """Compare and swap: raises `Conflict` unless ``body`` carries the newest resourceVersion."""

    async def merge(self, resource: str, name: str, body: Json) -> Json:
        """Merge patch; with ``metadata.resourceVersion`` in it, compare and swap."""

    async def apply(self, resource: str, body: Json) -> Json:
        """Server-side apply: running it twice changes nothing the second time."""

    async def delete(self, resource: str, name: str) -> None:
        """Deletes in the background; an object that is gone already is fine."""

    async def proxy(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> str:  # fmt: skip
        """An HTTP request to one pod through the API server, which works from anywhere; gives the body. A body of more
        than `MAX_POD_BYTES` is a `KubeError` of status 413.
        """

    async def proxied(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> PodAnswer:  # fmt: skip
        """The same with the headers of the answer."""

    async def logs(self, pod: str, container: str) -> str:
        """What a container has printed: its last `MAX_LOG_LINES`, and of those no more than `MAX_POD_BYTES`."""

    async def events(self, about: str) -> builtins.list[Json]:
        """What is said lately of the objects of this name, in no order to rely on."""

    async def may(self, permission: Permission) -> bool:
        """Whether the API server would let us; in any namespace, and whichever authorizer it asks."""
