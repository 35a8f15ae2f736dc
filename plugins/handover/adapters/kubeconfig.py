"""The cluster of a kubeconfig file, for a command that has no second to lose: the full client takes longer to import
than traffic takes to move.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from http.client import HTTPConnection, HTTPException, HTTPMessage
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from handover.adapters.kube_access import Access, ClusterApi, HttpResponse, Renewal, limit_of, within
from handover.adapters.kube_users import access_from_file
from handover.adapters.kubernetes import KubeClient, connect_with_kubeconfig
from handover.models.annotations import AGENT
from handover.ports.kube import Kube

if TYPE_CHECKING:
    from handover.adapters.kube_access import Query
    from handover.ports.kube import Json


class _Connection(HTTPConnection):
    """With TLS where there is a context for it; http.client's own cannot ask for a certificate of another name."""

    def __init__(self, access: Access, context: ssl.SSLContext | None, timeout: float) -> None:
        server = urlsplit(access.server)
        super().__init__(server.hostname or "", server.port or (443 if context else 80), timeout=timeout)
        self._tls, self._name = context, access.server_name or server.hostname

    def connect(self) -> None:
        super().connect()
        if self._tls is not None:
            wrapped: socket.socket = self._tls.wrap_socket(self.sock, server_hostname=self._name)
            self.sock = wrapped


class LightApi(ClusterApi):
    """On the standard library: a connection for each request, in a thread."""

    _kept: tuple[tuple[object, ...], ssl.SSLContext | None] | None = None

    async def ask(
        self, access: Access, method: str, path: str, query: Query, body: Json | None, headers: dict[str, str],
        timeout: float,
    ) -> HttpResponse:  # fmt: skip
        if self._kept is None or self._kept[0] != access.channel:
            self._kept = (access.channel, access.tls())
        target = f"{urlsplit(access.server).path}{path}{'?' if query else ''}{urlencode(query)}"
        connection = _Connection(access, self._kept[1], timeout)
        data = None if body is None else json.dumps(body)
        sent = HTTPMessage()  # a header may come several times
        for name, value in [("User-Agent", AGENT), *headers.items(), *access.impersonated]:
            sent.add_header(name, value)
        return await asyncio.to_thread(_asked, connection, method, target, data, sent)


def _asked(
    connection: HTTPConnection, method: str, target: str, data: str | None, headers: HTTPMessage
) -> HttpResponse:
    with closing(connection):
        try:
            connection.request(method, target, data, headers)  # type: ignore[arg-type]  # its items() are all it asks
            response = connection.getresponse()
            limit = limit_of(target)
            return within(limit, response.status, response.read(limit), dict(response.headers))
        except HTTPException as error:
            raise ConnectionError(repr(error)) from error


@asynccontextmanager
async def connect(path: str | None, namespace: str, context: str | None = None) -> AsyncIterator[Kube]:
    """By default the file that kubectl would use, or in a pod its service account. Raises `NoAccess`."""
    renewal = Renewal(lambda: access_from_file(path, context))
    if (await renewal.current()).proxy:  # only the full client knows proxies
        async with connect_with_kubeconfig(path, namespace, context) as kube:
            yield kube
        return
    async with aclosing(LightApi(renewal)) as api:
        yield KubeClient(api, namespace)
