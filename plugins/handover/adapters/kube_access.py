"""Who we are to a cluster, and for how long: credentials are renewed before they end, and once when they are refused.

Only the standard library is imported here: the emergency command has no second to lose.
"""

from __future__ import annotations

import abc
import asyncio
import logging
import math
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from handover import clock
from handover.models.json_text import decoded
from handover.ports.kube import MAX_CLUSTER_BYTES, MAX_POD_BYTES, REQUEST_TIMEOUT, Json, KubeError

log = logging.getLogger(__name__)
Query = list[tuple[str, str]]
RETRY_SECONDS = 5.0
"""After a renewal that failed or did not help, the next one is tried so much later."""


class NoAccess(KubeError):
    """There are no credentials for the cluster, or nobody knows where it is; the text says why, and holds no secret."""

    def __init__(self, message: str) -> None:
        super().__init__(0, " ".join(message.split()))


@dataclass(frozen=True)
class Access:
    """A cluster, and who we are there. Certificates and keys are PEM.

    ``user``: what messages call it. ``renew_at``, ``ends_at``: seconds since the epoch.
    """

    server: str
    user: str
    authorization: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    authority: str = field(default="", repr=False)
    """Empty: the authorities of this machine."""
    verify: bool = True
    server_name: str = ""
    """What the server's certificate must be for, where that is not the server's address."""
    proxy: str = field(default="", repr=False)
    impersonated: tuple[tuple[str, str], ...] = ()
    """Headers that say as whom we ask; one may come several times."""
    files: str = ""
    """The kubeconfigs that all of this was read from."""
    renew_at: float = math.inf
    ends_at: float = math.inf

    @property
    def channel(self) -> tuple[object, ...]:
        """What a connection depends on: with another one, kept connections are of no use."""
        return (self.server, self.certificate, self.key, self.authority, self.verify, self.server_name, self.proxy)

    def headers(self) -> dict[str, str]:
        return {"Authorization": self.authorization} if self.authorization else {}

    def tls(self) -> ssl.SSLContext | None:
        """None for a server without. Raises `NoAccess` for certificates that are none."""
        if urlsplit(self.server).scheme != "https":
            return None
        where = f"{self.files}: " if self.files else ""
        try:
            context = ssl.create_default_context(cadata=self.authority or None)
        except (ssl.SSLError, ValueError) as error:
            raise NoAccess(
                f"{where}certificate-authority of {self.server} cannot be read ({type(error).__name__})"
            ) from None
        try:
            if self.certificate:
                with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads certificates from files only
                    file.write(f"{self.certificate}\n{self.key}\n")
                    file.flush()
                    context.load_cert_chain(file.name, password="")  # nobody is there to be asked for another
        except (ssl.SSLError, ValueError) as error:
            raise NoAccess(
                f"{where}{self.user}: a certificate or key cannot be read ({type(error).__name__})"
            ) from None
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # many clusters' own authorities are not that strict
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


class Renewal:
    """The newest `Access`, however many ask for it at once. ``fetch`` gives another one, or raises `NoAccess`.

    What will end soon is renewed beside the requests that still use it: traffic never waits for a plugin. Only what is
    over, or was refused, is waited for.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Access]]) -> None:
        self._fetch = fetch
        self._access: Access | None = None
        self._task: asyncio.Task[Access] | None = None
        self._not_before = self._doubted = -math.inf

    async def current(self) -> Access:
        """Raises `NoAccess` when there never was any. What could not be renewed is tried as it is."""
        access, now = self._access, clock.epoch()
        if access is None:
            return await self._renewed()
        if now >= access.renew_at and now >= self._not_before:
            renewing = self._begin(_told)
            if now >= access.ends_at:
                with suppress(Exception):
                    return await asyncio.shield(renewing)
        return self._access or access

    async def instead_of(self, refused: Access) -> Access:
        """Another one than that which was refused, or itself while the last renewal did not help. Raises `NoAccess`."""
        if self._access is not None and self._access is not refused:
            return self._access
        return refused if clock.epoch() < self._not_before else await self._renewed()

    def doubt(self) -> None:
        """A connection broke off, perhaps as our certificate was refused: the next request has what there is then."""
        now = clock.epoch()
        if now >= max(self._not_before, self._doubted + RETRY_SECONDS):
            self._doubted = now
            self._begin(_told)

    def did_not_help(self) -> None:
        """The renewed one is refused as well: no request runs a plugin again for a while."""
        self._not_before = clock.epoch() + RETRY_SECONDS

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _renewed(self) -> Access:
        return await asyncio.shield(self._begin())

    def _begin(self, ended: Callable[[asyncio.Task[Access]], object] | None = None) -> asyncio.Task[Access]:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renew())
            self._task.add_done_callback(ended or _seen)
        return self._task

    async def _renew(self) -> Access:
        try:
            self._access = await self._fetch()
        except Exception:
            self.did_not_help()
            raise
        self._not_before = -math.inf
        return self._access


def _seen(task: asyncio.Task[Access]) -> BaseException | None:
    """Why it failed; whoever waits for it is told so, or has given up."""
    return None if task.cancelled() else task.exception()


def _told(task: asyncio.Task[Access]) -> None:
    """A renewal that nobody waits for may fail too."""
    if error := _seen(task):
        log.warning("the cluster's credentials were not renewed: %s", error)


@dataclass(frozen=True)
class HttpResponse:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    async def read(self) -> bytes:
        return self.body


def limit_of(path: str) -> int:
    """How many bytes of an answer are read: one more than it may have, which is less for what is a pod's."""
    of_pod = "/proxy" in path or path.partition("?")[0].endswith("/log")
    return (MAX_POD_BYTES if of_pod else MAX_CLUSTER_BYTES) + 1


def within(limit: int, status: int, body: bytes, headers: Mapping[str, str]) -> HttpResponse:
    """What was answered; 413 where more than may be was read."""
    if len(body) < limit:
        return HttpResponse(status, body, headers)
    whose = "the pod's" if limit <= MAX_POD_BYTES + 1 else "the cluster's"
    return HttpResponse(413, f"{whose} answer is larger than {limit - 1} bytes".encode())


class ClusterApi(abc.ABC):
    """As much of `kubernetes_asyncio.client.ApiClient` as `KubeClient` uses, with credentials that never get old."""

    def __init__(self, renewal: Renewal) -> None:
        self._renewal = renewal

    async def call_api(
        self, path: str, method: str, *, query_params: Query | None = None, body: Json | None = None,
        header_params: dict[str, str] | None = None, _request_timeout: float = REQUEST_TIMEOUT, **_: Any,
    ) -> HttpResponse:  # fmt: skip
        """A request that is refused was not begun, so it is tried again with renewed credentials: once.

        Raises `NoAccess`, `KubeError` for the second refusal, and whatever the transport raises.
        """
        asked = (method, path, query_params or [], body, header_params or {}, _request_timeout)
        access = await self._renewal.current()
        if (response := await self._tried(access, *asked)) is not None:
            return response
        renewed = await self._renewal.instead_of(access)
        if renewed is not access:
            if (response := await self._tried(renewed, *asked)) is not None:
                return response
            self._renewal.did_not_help()
        raise KubeError(401, f"{method} {path}: 401, {renewed.user} is refused, with renewed credentials as well")

    async def aclose(self) -> None:
        await self._renewal.close()

    async def _tried(
        self, access: Access, method: str, path: str, query: Query, body: Json | None, headers: dict[str, str],
        timeout: float,
    ) -> HttpResponse | None:  # fmt: skip
        """None: we are not who the cluster wants."""
        try:
            response = await self.ask(access, method, path, query, body, headers | access.headers(), timeout)
        except Exception as error:
            if access.certificate and _is_tls_refusal(error):
                return None
            if access.certificate:  # the alert may be lost with the connection; whether the request was, nobody knows
                self._renewal.doubt()
            raise
        return None if response.status == 401 and _is_the_clusters(path, response) else response

    @abc.abstractmethod
    async def ask(
        self, access: Access, method: str, path: str, query: Query, body: Json | None, headers: dict[str, str],
        timeout: float,
    ) -> HttpResponse:  # fmt: skip
        """One request over the wire, with an answer of any status."""


def _is_the_clusters(path: str, response: HttpResponse) -> bool:
    """Whether the cluster itself said 401: behind its proxy that may be a pod, which knows nothing of our user."""
    if "/proxy" not in path:
        return True
    try:
        return decoded(response.body)["kind"] == "Status"
    except (ValueError, KeyError, TypeError):
        return False


def _is_tls_refusal(error: BaseException | None) -> bool:
    """Whether the other side sent an alert: it did not like our certificate, most often because it has expired."""
    while error is not None:
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return True
        error = error.__cause__ or error.__context__
    return False
