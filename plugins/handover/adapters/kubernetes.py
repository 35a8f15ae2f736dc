"""One namespace of a Kubernetes cluster, as plain JSON over the cluster's own API.

The same asynchronous client serves tasks (`asyncio.run`), triggers and the command line, so that there is one
implementation of every step that touches production.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from handover.adapters.airflow_connections import extra_of
from handover.adapters.http import MAX_HEADER_BYTES
from handover.adapters.kube_access import Access, ClusterApi, HttpResponse, NoAccess, Query, Renewal, limit_of, within
from handover.adapters.kube_users import access_from_file, access_from_text, access_in_pod
from handover.models.annotations import AGENT, FORMER_AGENT
from handover.models.json_text import decoded
from handover.ports.kube import (
    APPLY,
    MAX_LOG_LINES,
    MAX_POD_BYTES,
    REQUEST_TIMEOUT,
    Conflict,
    Forbidden,
    Json,
    KubeError,
    NotFound,
    Permission,
    PodAnswer,
)

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger(__name__)
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
ACCESS_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
READY_TIMEOUT = 2.0
MAX_CONNECTIONS = 100
KEPT_SECONDS = 60.0
"""So long a connection is kept that nobody uses: a new one costs more than the change of a route. API servers close
them after 90 s.
"""
ROLES_SECONDS = 0.5
"""An API server that answers has loaded its roles by then."""
_DENIED = re.compile(
    r'^\S+(?: "(?P<name>[^"]*)")? is forbidden: .* cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r' in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]*)")?'
)
"""How every API server says no, whichever authorizer it asked."""


class KubeClient:
    """Reads and changes objects of one namespace. ``api``: a `ClusterApi`, or what has its ``call_api``."""

    def __init__(self, api: Any, namespace: str, *, dry_run: bool = False) -> None:
        self._api = api
        self.namespace = namespace
        self._dry_run = dry_run

    def rehearsing(self) -> KubeClient:
        """The same, but every change is only tried by the API server (``dryRun=All``): it answers what would be, and
        keeps nothing. It asks for the same rights.
        """
        return KubeClient(self._api, self.namespace, dry_run=True)

    def path(self, resource: str, name: str = "", sub: str = "") -> str:
        """``resource`` as ``services`` or ``apps/v1/deployments``; gives the URL path in this namespace."""
        group, _, plural = resource.rpartition("/")
        root = f"/apis/{group}" if group else "/api/v1"
        parts = [root, "namespaces", self.namespace, plural, quote(name, safe=":"), sub]
        return "/".join(part for part in parts if part)

    async def get(self, resource: str, name: str, sub: str = "") -> Json:
        return await self._json("GET", self.path(resource, name, sub))

    async def find(self, resource: str, name: str) -> Json | None:
        """The object, or None when there is none."""
        try:
            return await self.get(resource, name)
        except NotFound:
            return None

    async def nodes(self) -> list[Json]:
        """The nodes of the cluster, which are in no namespace."""
        return (await self._json("GET", "/api/v1/nodes")).get("items", [])

    async def events(self, about: str) -> list[Json]:
        query = [("fieldSelector", f"involvedObject.name={about}")]
        return (await self._json("GET", self.path("events"), query=query)).get("items", [])

    async def list(self, resource: str, labels: dict[str, str] | None = None) -> list[Json]:
        selector = ",".join(f"{k}={v}" for k, v in (labels or {}).items())
        query = [("labelSelector", selector)] if selector else []
        return (await self._json("GET", self.path(resource), query=query)).get("items", [])

    async def create(self, resource: str, body: Json) -> Json:
        return await self._json("POST", self.path(resource), body=body)

    async def replace(self, resource: str, name: str, body: Json) -> Json:
        """Compare and swap: raises `Conflict` unless ``body`` carries the newest resourceVersion."""
        return await self._json("PUT", self.path(resource, name), body=body)

    async def merge(self, resource: str, name: str, body: Json, sub: str = "") -> Json:
        """Merge patch; with ``metadata.resourceVersion`` in it, compare and swap."""
        return await self._json("PATCH", self.path(resource, name, sub), body=body, kind=MERGE_PATCH)

    async def apply(self, resource: str, body: Json) -> Json:
        """Server-side apply: running it twice changes nothing the second time. What we applied under our former name
        is ours now: else a field that is not applied any more would stay for ever.
        """
        applied = await self._apply(resource, body, AGENT)
        managers = {
            one.get("manager")
            for one in applied["metadata"].get("managedFields") or ()
            if one.get("operation") == "Apply"
        }
        if FORMER_AGENT not in managers or self._dry_run:
            return applied
        nothing = {key: body[key] for key in ("apiVersion", "kind")} | {"metadata": {"name": body["metadata"]["name"]}}
        return await self._apply(resource, nothing, FORMER_AGENT)

    async def _apply(self, resource: str, body: Json, manager: str) -> Json:
        query = [("fieldManager", manager), ("force", "true")]
        path = self.path(resource, body["metadata"]["name"])
        return await self._json("PATCH", path, body=body, kind=APPLY_PATCH, query=query)

    async def delete(self, resource: str, name: str) -> None:
        """Deletes in the background; an object that is gone already is fine."""
        with suppress(NotFound):
            await self._json("DELETE", self.path(resource, name), query=[("propagationPolicy", "Background")])

    async def proxy(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> str:  # fmt: skip
        """An HTTP request to one pod through the API server, which works from anywhere; gives the body."""
        return (await self.proxied(pod, port, path, method, headers, timeout)).body

    async def proxied(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> PodAnswer:  # fmt: skip
        """The same with the headers of the answer."""
        where = f"{self.path('pods', f'{pod}:{port}', 'proxy')}{path}"
        return await self._answer(method, where, headers=headers, timeout=timeout)

    async def logs(self, pod: str, container: str) -> str:
        end = [("container", container), ("tailLines", str(MAX_LOG_LINES)), ("limitBytes", str(MAX_POD_BYTES))]
        return await self._text("GET", self.path("pods", pod, "log"), query=end)

    async def may(self, permission: Permission) -> bool:
        """Whether the API server would let us; in any namespace, and whichever authorizer it asks."""
        asked = {
            "namespace": permission.namespace, "verb": permission.verb, "group": permission.group,
            "resource": permission.resource, "subresource": permission.subresource, "name": permission.name,
        }  # fmt: skip
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = review | {"spec": {"resourceAttributes": {key: value for key, value in asked.items() if value}}}
        status = (await self._json("POST", ACCESS_REVIEWS, body=body))["status"]
        if error := status.get("evaluationError"):
            log.warning("may the deployer %s? The API server says: %s", permission, error)
        return bool(status.get("allowed"))

    async def _json(self, method: str, path: str, **kwargs: Any) -> Json:
        return decoded(await self._text(method, path, **kwargs))

    async def _text(self, method: str, path: str, **kwargs: Any) -> str:
        return (await self._answer(method, path, **kwargs)).body

    async def _answer(
        self, method: str, path: str, *, query: Query | None = None, body: Json | None = None,
        kind: str = "application/json", headers: dict[str, str] | None = None, timeout: float = REQUEST_TIMEOUT,
    ) -> PodAnswer:  # fmt: skip
        query = query or []
        if self._dry_run and method != "GET" and path != ACCESS_REVIEWS:
            if "/proxy" in path:
                raise ValueError(f"{method} {path}: a pod knows no dry run")
            query = [*query, ("dryRun", "All")]
        header = {"Accept": "*/*", "Content-Type": kind, **(headers or {})}
        status, answer = await self._send(method, path, query, body, header, timeout)
        if status == 403:
            if not await self._ready():
                raise KubeError(503, f"{method} {path}: the API server is not ready yet")
            status, answer = await self._send(method, path, query, body, header, timeout)
        if status < 300:
            return answer
        kind_of = {403: Forbidden, 404: NotFound, 409: Conflict}.get(status, KubeError)
        message = _message(answer.body)
        lacking = f"{denied(message)}; " if kind_of is Forbidden and denied(message) else ""
        raise kind_of(status, f"{lacking}{method} {path}: {status} {message}")

    async def _send(
        self, method: str, path: str, query: Query, body: Json | None, headers: dict[str, str], timeout: float
    ) -> tuple[int, PodAnswer]:
        try:
            response = await self._api.call_api(
                path, method, query_params=query, body=body, auth_settings=["BearerToken"], header_params=headers,
                _preload_content=False, _request_timeout=timeout,
            )  # fmt: skip
            said = {name.lower(): value for name, value in response.headers.items()}
            return response.status, PodAnswer((await response.read()).decode("utf-8", "replace"), said)
        except Exception as error:
            if not _is_silence(error):
                raise
            raise KubeError(0, f"{method} {path}: the API server did not answer: {error!r}") from error

    async def _ready(self) -> bool:
        """Whether it is time to believe a refusal: an API server that has just started refuses everything, this
        question too, until it knows its roles. A cluster that keeps its health to itself gets a moment instead.
        """
        try:
            response = await self._api.call_api(
                "/readyz", "GET", auth_settings=["BearerToken"], _preload_content=False, _request_timeout=READY_TIMEOUT
            )
        except Exception as error:
            if not _is_silence(error):
                raise
            return False
        if response.status == 403:
            await asyncio.sleep(ROLES_SECONDS)
        return bool(response.status < 300 or response.status == 403)


def _is_silence(error: Exception) -> bool:
    import aiohttp  # only when something went wrong: the command line moves traffic without it

    return isinstance(error, (aiohttp.ClientError, OSError, TimeoutError))


def denied(message: str) -> str:
    """What an API server's refusal lacks, and what to do; empty for a 403 of another kind (a quota, an admission)."""
    if not (found := _DENIED.match(message)):
        return ""
    resource, _, sub = found["resource"].partition("/")
    name = "" if sub else found["name"] or ""  # of a subresource it is some pod's
    permission = Permission(found["namespace"] or "", found["group"], resource, found["verb"], sub, name)
    return f"the deployer may not {permission}: {APPLY}"


def _message(text: str) -> str:
    try:
        return decoded(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text[:300]


class PooledApi(ClusterApi):
    """Over connections that are kept, for whoever asks much."""

    def __init__(self, renewal: Renewal) -> None:
        super().__init__(renewal)
        self._sessions: dict[tuple[object, ...], aiohttp.ClientSession] = {}

    async def ask(
        self, access: Access, method: str, path: str, query: Query, body: Json | None, headers: dict[str, str],
        timeout: float,
    ) -> HttpResponse:  # fmt: skip
        import aiohttp
        from yarl import URL

        url = URL(f"{access.server}{path}{'?' if query else ''}{urlencode(query)}", encoded=True)
        async with self._session(access).request(
            method, url, data=None if body is None else json.dumps(body),
            headers=[*headers.items(), *access.impersonated],
            timeout=aiohttp.ClientTimeout(total=timeout), proxy=access.proxy or None,
            server_hostname=access.server_name or None, allow_redirects=method == "GET",
        ) as answer:  # fmt: skip
            limit = limit_of(path)
            found = bytearray()
            while len(found) < limit and (piece := await answer.content.read(limit - len(found))):
                found += piece
            return within(limit, answer.status, bytes(found), answer.headers)

    async def aclose(self) -> None:
        await super().aclose()
        for session in self._sessions.values():
            await session.close()

    def _session(self, access: Access) -> aiohttp.ClientSession:
        """One for each certificate that we had: what is under way with the last one comes to its end."""
        import aiohttp

        if access.channel not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, ssl=access.tls() or True, keepalive_timeout=KEPT_SECONDS
            )
            self._sessions[access.channel] = aiohttp.ClientSession(
                connector=connector, headers={"User-Agent": AGENT}, read_bufsize=2**21,
                cookie_jar=aiohttp.DummyCookieJar(), max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES,
            )  # fmt: skip
        return self._sessions[access.channel]


@asynccontextmanager
async def connect(connection: str, namespace: str) -> AsyncIterator[KubeClient]:
    """The cluster behind an Airflow connection (of type kubernetes). Raises `NoAccess`."""

    async def fetch() -> Access:
        extra = await extra_of(connection)
        try:
            return await _access_of(extra)
        except NoAccess as error:
            raise NoAccess(f"connection {connection}: {error}") from None

    async with _connected(fetch, namespace) as kube:
        yield kube


@asynccontextmanager
async def connect_with_kubeconfig(
    path: str | None, namespace: str, context: str | None = None
) -> AsyncIterator[KubeClient]:
    """The cluster of a kubeconfig file, without Airflow; by default as kubectl, so in a pod without such a file as its
    service account. Raises `NoAccess`.
    """
    async with _connected(lambda: access_from_file(path, context), namespace) as kube:
        yield kube


@asynccontextmanager
async def _connected(fetch: Callable[[], Awaitable[Access]], namespace: str) -> AsyncIterator[KubeClient]:
    renewal = Renewal(fetch)
    await renewal.current()
    async with aclosing(PooledApi(renewal)) as api:
        yield KubeClient(api, namespace)


async def _access_of(extra: Json) -> Access:
    """What the connection's extra says, in the words of Airflow's own provider."""
    given = {key.removeprefix("extra__kubernetes__"): value for key, value in extra.items() if value}
    ways = [key for key in ("in_cluster", "kube_config_path", "kube_config") if given.get(key)]
    if len(ways) > 1:
        raise NoAccess(f"only one of {', '.join(ways)} may be set")
    if "in_cluster" in ways:
        return await access_in_pod()
    if "kube_config" in ways:
        return await access_from_text(given["kube_config"], given.get("cluster_context"))
    return await access_from_file(given.get("kube_config_path"), given.get("cluster_context"))
