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
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pms.kube.client import Kube, connect_with_kubeconfig

if TYPE_CHECKING:
    import aiohttp

    from pms.kube.client import Json, Query

UNKNOWN = {"auth-provider", "username", "as", "proxy-url"}
EXEC_SECONDS = 10


class LightApi:
    """As much of `kubernetes_asyncio.client.ApiClient` as `Kube` uses."""

    def __init__(self, http: aiohttp.ClientSession, server: str, ssl_context: ssl.SSLContext | bool) -> None:
        self._http, self._server, self._ssl = http, server.rstrip("/"), ssl_context

    async def call_api(
        self, path: str, method: str, *, query_params: Query, body: Json | None, header_params: dict[str, str],
        _request_timeout: float, **_: Any,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        import aiohttp
        from yarl import URL

        url = URL(self._server + path, encoded=True).with_query(query_params)
        data = None if body is None else json.dumps(body)
        timeout = aiohttp.ClientTimeout(total=_request_timeout)
        return await self._http.request(method, url, data=data, headers=header_params, timeout=timeout, ssl=self._ssl)


@asynccontextmanager
async def connect(path: str | None, namespace: str) -> AsyncIterator[Kube]:
    """By default the file that kubectl would use."""
    import aiohttp

    where = path or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    if os.pathsep in where or (found := _current(Path(where))) is None:
        async with connect_with_kubeconfig(path, namespace) as kube:
            yield kube
        return
    cluster, user = found
    credentials = await _credentials(user)
    headers = {"Authorization": f"Bearer {credentials['token']}"} if credentials.get("token") else {}
    async with aiohttp.ClientSession(headers=headers) as http:
        yield Kube(LightApi(http, cluster["server"], _tls(cluster, credentials)), namespace)


def _current(path: Path) -> tuple[Json, Json] | None:
    """Cluster and user of the current context; None when they need the full client."""
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
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
    found = {"token": user.get("token")}
    if not found["token"] and "tokenFile" in user:
        found["token"] = Path(user["tokenFile"]).read_text(encoding="utf-8").strip()
    for kind in ("certificate", "key"):
        if f"client-{kind}-data" in user:
            found[kind] = base64.b64decode(user[f"client-{kind}-data"]).decode()
        elif f"client-{kind}" in user:
            found[kind] = Path(user[f"client-{kind}"]).read_text(encoding="utf-8")
    return found | (await _executed(user["exec"]) if "exec" in user else {})


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


def _tls(cluster: Json, credentials: Json) -> ssl.SSLContext | bool:
    if not cluster["server"].startswith("https"):
        return True
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
