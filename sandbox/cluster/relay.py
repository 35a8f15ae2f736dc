"""The API server's own HTTP proxy to pods and Services: .../pods/NAME:PORT/proxy/PATH.

As on a real server the Authorization header ends here (it authenticated the call to the API, and the API server
removes it): a pod behind this proxy never sees it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
from multidict import CIMultiDict
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from yarl import URL

from sandbox.cluster.errors import StatusError, bad_request
from sandbox.cluster.kinds import POD, Kind
from sandbox.cluster.pods import container_port
from sandbox.cluster.proxy import ServiceProxy
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Object

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding",
     "upgrade"}
)  # fmt: skip


class Relay:
    def __init__(self, registry: Registry, proxy: ServiceProxy) -> None:
        self._registry, self._proxy = registry, proxy
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def handle(self, request: Request, kind: Kind, namespace: str, name: str, path: str) -> Response:
        parts = name.split(":")  # name, name:port or scheme:name:port
        name, port = (parts[1], parts[2]) if len(parts) == 3 else (parts[0], "".join(parts[1:2]))
        address = self._address(kind, namespace, name, port)
        query = request.scope["query_string"].decode()
        raw = request.scope.get("raw_path", b"").decode().partition("/proxy/")[2] or path
        url = URL(f"http://{address[0]}:{address[1]}/{raw}{'?' + query if query else ''}", encoded=True)
        return await self._forward(request, url)

    def _address(self, kind: Kind, namespace: str, name: str, port: str) -> tuple[str, int]:
        obj = self._registry.get(kind, namespace, name)
        found = self._pod_address(obj, port) if kind is POD else self._service_address(obj, port)
        if found is None:
            what = "pod has no address or port" if kind is POD else "no endpoints available for service"
            raise StatusError(503, "ServiceUnavailable", f'{what} "{name}"')
        return found

    def _pod_address(self, pod: Object, port: str) -> tuple[str, int] | None:
        ports = [one["containerPort"] for one in pod["spec"]["containers"] for one in one.get("ports") or ()]
        number = container_port(pod, port) if port else (ports[0] if ports else 80)
        address = pod["status"].get("podIP")
        return (address, number) if address and number else None

    def _service_address(self, service: Object, port: str) -> tuple[str, int] | None:
        for one in service["spec"].get("ports") or ():
            if not port or port in (one.get("name"), str(one["port"])):
                meta = service["metadata"]
                return self._proxy.choose((meta["namespace"], meta["name"]), one.get("name", ""))
        raise bad_request(f"service has no port {port!r}")

    async def _forward(self, request: Request, url: URL) -> Response:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
            self._session = aiohttp.ClientSession(
                auto_decompress=False, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()
            )
        dropped = HOP_BY_HOP | {"host", "content-length", "authorization"}
        headers = CIMultiDict((key, value) for key, value in request.headers.items() if key not in dropped)
        headers["X-Forwarded-Uri"] = request.url.path
        body = await request.body()
        try:
            answer = await self._session.request(
                request.method, url, headers=headers, data=body or None, allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )  # fmt: skip
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            message = f"error trying to reach service: {error}"
            raise StatusError(503, "ServiceUnavailable", message) from error

        async def content() -> AsyncIterator[bytes]:
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        response = StreamingResponse(content(), answer.status)
        response.raw_headers = [
            (key.lower(), value) for key, value in answer.raw_headers if key.decode().lower() not in HOP_BY_HOP
        ]
        return response
