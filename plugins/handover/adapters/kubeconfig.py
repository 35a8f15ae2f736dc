"""The cluster of a kubeconfig file, for a command that has no second to lose: the full client takes longer to import
than traffic takes to move.

Knows tokens, client certificates and exec plugins; anything else is left to the full client.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from handover.adapters.kubernetes import KubeClient, connect_with_kubeconfig
from handover.models.annotations import AGENT
from handover.plan.text import from_yaml
from handover.ports.kube import Kube

if TYPE_CHECKING:
    from handover.adapters.kubernetes import Query
    from handover.ports.kube import Json

UNKNOWN = {"auth-provider", "username", "as", "proxy-url"}
EXEC_SECONDS = 10


@dataclass(frozen=True)
class HttpResponse:
    status: int
    body: bytes

    async def read(self) -> bytes:
        return self.body


class LightApi:
    """As much of `kubernetes_asyncio.client.ApiClient` as `Kube` uses, on the standard library; a connection for each
    request, in a thread.
    """

    def __init__(self, server: str, token: str | None, context: ssl.SSLContext | None) -> None:
        self._server, self._context = urlsplit(server), context
        self._headers = {"User-Agent": AGENT} | ({"Authorization": f"Bearer {token}"} if token else {})

    async def call_api(self, path: str, method: str, **how: Any) -> HttpResponse:
        return await asyncio.to_thread(self._request, path, method, **how)

    def _request(
        self, path: str, method: str, *, query_params: Query, body: Json | None, header_params: dict[str, str],
        _request_timeout: float, **_: Any,
    ) -> HttpResponse:  # fmt: skip
        host, port = self._server.hostname or "", self._server.port
        connection: HTTPConnection
        if self._context:
            connection = HTTPSConnection(host, port, timeout=_request_timeout, context=self._context)
        else:
            connection = HTTPConnection(host, port, timeout=_request_timeout)
        target = self._server.path.rstrip("/") + path + (f"?{urlencode(query_params)}" if query_params else "")
        with closing(connection):
            data = None if body is None else json.dumps(body)
            try:
                connection.request(method, target, data, self._headers | header_params)
                response = connection.getresponse()
                return HttpResponse(response.status, response.read())
            except HTTPException as error:
                raise ConnectionError(repr(error)) from error


@asynccontextmanager
async def connect(path: str | None, namespace: str) -> AsyncIterator[Kube]:
    """By default the file that kubectl would use."""
    where = path or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if os.pathsep in where or (found := _current(Path(where))) is None:
        async with connect_with_kubeconfig(path, namespace) as kube:
            yield kube
        return
    cluster, user = found
    credentials = await _credentials(user)
    yield KubeClient(LightApi(cluster["server"], credentials.get("token"), _tls(cluster, credentials)), namespace)


def _current(path: Path) -> tuple[Json, Json] | None:
    """Cluster and user of the current context; None when they need the full client."""
    config = from_yaml(path.read_text(encoding="utf-8"))
    context = _named(config, "contexts", config["current-context"])["context"]
    cluster = _absolute(_named(config, "clusters", context["cluster"])["cluster"], path)
    user = _absolute(_named(config, "users", context["user"])["user"] or {}, path)
    return None if UNKNOWN & (cluster.keys() | user.keys()) else (cluster, user)


def _named(config: Json, section: str, name: str) -> Json:
    return next(item for item in config[section] if item["name"] == name)


def _absolute(section: Json, config: Path) -> Json:
    """Paths in a kubeconfig are relative to the file."""
    paths = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {key: str(config.parent / value) if key in paths else value for key, value in section.items()}


async def _credentials(user: Json) -> Json:
    """Token, certificate and key, as the kubeconfig has them or as its exec plugin gives them."""
    return _stored(user) | (await _executed(user["exec"]) if "exec" in user else {})


def _stored(user: Json) -> Json:
    found = {"token": user.get("token")}
    if not found["token"] and "tokenFile" in user:
        found["token"] = Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    for kind in ("certificate", "key"):
        if f"client-{kind}-data" in user:
            found[kind] = base64.b64decode(user[f"client-{kind}-data"]).decode()
        elif f"client-{kind}" in user:
            found[kind] = Path(user[f"client-{kind}"]).read_text(encoding="utf-8")
    return found


async def _executed(plugin: Json) -> Json:
    info = {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": {"interactive": False}}
    env = os.environ | {e["name"]: e["value"] for e in plugin.get("env") or ()}
    process = await asyncio.create_subprocess_exec(
        plugin["command"], *(plugin.get("args") or ()), stdout=asyncio.subprocess.PIPE,
        env=env | {"KUBERNETES_EXEC_INFO": json.dumps(info)},
    )  # fmt: skip
    async with asyncio.timeout(EXEC_SECONDS):
        output, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"{plugin['command']} gave no credentials (exit {process.returncode})")
    status = json.loads(output)["status"]
    certificate = {"certificate": status.get("clientCertificateData"), "key": status.get("clientKeyData")}
    return {"token": status.get("token")} | {kind: text for kind, text in certificate.items() if text}


def _tls(cluster: Json, credentials: Json) -> ssl.SSLContext | None:
    if not cluster["server"].startswith("https"):
        return None
    data = cluster.get("certificate-authority-data")
    authority = base64.b64decode(data).decode() if data else None
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=authority)
    if cluster.get("insecure-skip-tls-verify"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if credentials.get("certificate"):
        with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # ssl reads certificates from files only
            file.write(f"{credentials['certificate']}\n{credentials['key']}\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context
