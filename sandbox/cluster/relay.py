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

from sandbox.cluster.errors import StatusError
from sandbox.cluster.kinds import POD, Kind
from sandbox.cluster.objects import container_port
from sandbox.cluster.proxy import Address, ServiceProxy
from sandbox.cluster.registry import Registry

HOP_BY_HOP = {"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
DROPPED = HOP_BY_HOP | {"host", "content-length", "authorization"}


class Relay:
    def __init__(self, registry: Registry, proxy: ServiceProxy) -> None:
        self._registry, self._proxy = registry, proxy
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session:
            await self._session.close()

    async def handle(self, request: Request, kind: Kind, namespace: str, name: str) -> Response:
        parts = name.split(":")  # name, name:port or scheme:name:port
        name, port = (parts[1], parts[2]) if len(parts) == 3 else (parts[0], "".join(parts[1:2]))
        address = self._address(kind, namespace, name, port)
        if address is None:
            raise StatusError(503, "ServiceUnavailable", f'{kind.resource} "{name}" has no ready address')
        path, query = (request.scope[part].decode() for part in ("raw_path", "query_string"))
        rest = path.partition("/proxy/")[2] + ("?" + query if query else "")
        url = URL(f"http://{address[0]}:{address[1]}/{rest}", encoded=True)
        return await self._forward(request, url)

    def _address(self, kind: Kind, namespace: str, name: str, port: str) -> Address | None:
        obj = self._registry.get(kind, namespace, name)
        if kind is POD:
            ports = obj["spec"]["containers"][0].get("ports") or [{"containerPort": 80}]
            number = container_port(obj, port or ports[0]["containerPort"])
            return (obj["status"]["podIP"], number) if obj["status"].get("podIP") and number else None
        for one in obj["spec"]["ports"]:
            if not port or port in (one.get("name"), str(one["port"])):
                return self._proxy.choose((namespace, name), one["port"])
        return None

    async def _forward(self, request: Request, url: URL) -> Response:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
            cookies = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(auto_decompress=False, timeout=timeout, cookie_jar=cookies)
        headers = CIMultiDict((key, value) for key, value in request.headers.items() if key not in DROPPED)
        try:
            answer = await self._session.request(
                request.method, url, headers=headers, data=await request.body() or None, allow_redirects=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )  # fmt: skip
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise StatusError(503, "ServiceUnavailable", f"error trying to reach service: {error}") from error

        async def content() -> AsyncIterator[bytes]:
            async with answer:
                async for chunk in answer.content.iter_any():
                    yield chunk

        response = StreamingResponse(content(), answer.status)
        found = ((key.lower(), value) for key, value in answer.raw_headers)
        response.raw_headers = [(key, value) for key, value in found if key.decode() not in HOP_BY_HOP]
        return response
