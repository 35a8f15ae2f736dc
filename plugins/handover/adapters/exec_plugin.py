"""Credentials that a program gives (client.authentication.k8s.io), as EKS, GKE, AKS and others have them."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from handover.adapters.children import not_ours
from handover.adapters.kube_access import NoAccess
from handover.models.json_text import decoded
from handover.ports.kube import Json

SECONDS = 15.0
"""A plugin that has said nothing by then is stopped."""
STOP_SECONDS = 1.0
MAX_BYTES = 1_000_000
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
CLUSTER_KEYS = ("server", "tls-server-name", "insecure-skip-tls-verify", "certificate-authority-data", "proxy-url")


@dataclass(frozen=True)
class Given:
    """What a plugin gave. ``ends_at``: seconds since the epoch, None if it did not say."""

    token: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    ends_at: float | None = None


async def credentials(plugin: Json, cluster: Json, folder: Path, user: str) -> Given:
    """Runs the plugin of a kubeconfig in ``folder``. Nobody is there to answer it, so it may not ask.

    :param cluster: for a plugin that wants to know which one it is
    :param user: whose it is, for messages
    :raises NoAccess: it failed, hung, or gave no credentials; what it wrote is never told, it may be a secret
    """
    command, version = str(plugin.get("command") or ""), plugin.get("apiVersion")
    whose = f"{user}: exec plugin {command}"
    if not command or version not in VERSIONS:
        raise NoAccess(f"{whose}: a command and an apiVersion ({' or '.join(VERSIONS)}) are needed")
    if plugin.get("interactiveMode") == "Always":
        raise NoAccess(f"{whose}: it wants a terminal (interactiveMode: Always), and there is none")
    if os.sep in command:
        command = str(folder / command)
    argv = [command, *(str(one) for one in plugin.get("args") or ())]
    environment = not_ours() | {str(one["name"]): str(one["value"]) for one in plugin.get("env") or ()}
    environment["KUBERNETES_EXEC_INFO"] = json.dumps(_told(plugin, cluster))
    return _read(await _output(argv, environment, whose), str(version), whose)


def _told(plugin: Json, cluster: Json) -> Json:
    spec: Json = {"interactive": False}
    if plugin.get("provideClusterInfo"):
        spec["cluster"] = {key: cluster[key] for key in CLUSTER_KEYS if cluster.get(key)}
        for extension in cluster.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                spec["cluster"]["config"] = extension.get("extension")
    return {"apiVersion": plugin["apiVersion"], "kind": "ExecCredential", "spec": spec}


async def _output(argv: list[str], environment: dict[str, str], whose: str) -> bytes:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment, start_new_session=True, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
    except OSError as error:
        raise NoAccess(f"{whose}: it cannot be run: {error.strerror}") from None
    try:
        async with asyncio.timeout(SECONDS):
            output, code = await _said(process)
    except TimeoutError:
        await _stop(process)
        raise NoAccess(f"{whose}: it gave nothing within {SECONDS:g} s") from None
    except asyncio.CancelledError:
        _kill(process)
        raise
    if len(output) > MAX_BYTES:
        await _stop(process)
    if code:
        raise NoAccess(f"{whose}: it failed (exit code {code}); run it by hand to see why")
    return output


async def _said(process: asyncio.subprocess.Process) -> tuple[bytes, int]:
    """What it printed, up to a little more than `MAX_BYTES`, and its exit code."""
    assert process.stdout is not None
    output = bytearray()
    while part := await process.stdout.read(65536):
        output += part
        if len(output) > MAX_BYTES:
            return bytes(output), 0
    return bytes(output), await process.wait()


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Lets the loop see its end, unless something that it started has left its group and will not end."""
    _kill(process)
    with suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await process.communicate()


def _kill(process: asyncio.subprocess.Process) -> None:
    """It and whatever it started: a child that holds on to its output would be waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _read(output: bytes, version: str, whose: str) -> Given:
    try:
        answer: Any = decoded(output) if len(output) <= MAX_BYTES else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise NoAccess(f"{whose}: what it printed is no ExecCredential")
    if answer.get("apiVersion") != version:
        raise NoAccess(f"{whose}: it answered for another apiVersion than {version}")
    status = answer.get("status")
    found = status if isinstance(status, dict) else {}
    token, certificate, key = (found.get(one) or "" for one in ("token", "clientCertificateData", "clientKeyData"))
    if not all(isinstance(one, str) for one in (token, certificate, key)) or bool(certificate) != bool(key):
        raise NoAccess(f"{whose}: its credentials have another form than they should")
    if not token and not certificate:
        raise NoAccess(f"{whose}: it gave neither a token nor a certificate")
    return Given(token, certificate, key, _moment(found.get("expirationTimestamp"), whose))


def _moment(text: object, whose: str) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise NoAccess(f"{whose}: its expirationTimestamp is no time") from None
    return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=datetime.UTC).timestamp()
