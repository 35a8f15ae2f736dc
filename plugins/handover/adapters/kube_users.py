"""Which cluster, and as whom: kubeconfig files as kubectl reads them, and the service account of the pod we run in.

Everything is read anew whenever credentials are renewed, so what is rotated on disk is seen.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from handover import clock
from handover.adapters import exec_plugin
from handover.adapters.kube_access import Access, NoAccess
from handover.plan.text import from_yaml
from handover.ports.kube import Json

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AGAIN_SECONDS = 60.0
"""So old is what was read from a file at most."""
MARGIN_SECONDS, MARGIN = 60.0, 0.25
"""How long before its end a plugin's credential is renewed, and at most this share of what it had left when it came."""
MISFORMED = (AttributeError, KeyError, TypeError, ValueError)
NOT_KNOWN = ("as-uid", "as-groups", "as-user-extra")


@dataclass(frozen=True)
class Identity:
    """A cluster and a user as a kubeconfig has them. ``name``: what messages call the user."""

    cluster: Json
    user: Json = field(repr=False)
    name: str
    folder: Path = Path()
    """What the user's paths are relative to."""
    files: str = ""
    """Where it stands, as KUBECONFIG would name it."""
    context: str = ""


async def access_of(identity: Identity) -> Access:
    """Raises `NoAccess`."""
    try:
        stored = await asyncio.to_thread(_stored, identity)
        if plugin := identity.user.get("exec"):
            return await _executed(stored, plugin, identity)
        return await _provided(stored, identity) if "auth-provider" in identity.user else stored
    except MISFORMED as error:
        raise NoAccess(f"{identity.name}: the kubeconfig is not as it should be ({type(error).__name__})") from None


async def access_from_file(path: str | None, context: str | None = None) -> Access:
    """The current context's of a kubeconfig file, by default of the files that kubectl would use; without any the
    service account's. Raises `NoAccess`.
    """
    return await access_of(await asyncio.to_thread(_found, path, context))


async def access_from_text(config: object, context: str | None = None) -> Access:
    """The same of the text of a kubeconfig, or of what such a text says. Raises `NoAccess`."""

    def read() -> Identity:
        return chosen({Path(): _parsed(config, "the kubeconfig") if isinstance(config, str) else config}, context)

    return await access_of(await asyncio.to_thread(read))


async def access_in_pod() -> Access:
    """The service account's. Raises `NoAccess` outside of a cluster."""
    return await access_of(in_pod())


def in_pod() -> Identity:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise NoAccess("this is no pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    cluster = {"server": server, "certificate-authority": str(SERVICE_ACCOUNT / "ca.crt")}
    return Identity(cluster, {"tokenFile": str(SERVICE_ACCOUNT / "token")}, "this pod's service account")


def _found(path: str | None, context: str | None) -> Identity:
    wanted = path or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    files = [Path(one).expanduser() for one in wanted.split(os.pathsep) if one]
    there = [one for one in files if one.exists()]
    if not there and path is None and os.environ.get("KUBERNETES_SERVICE_HOST"):
        return in_pod()
    if not there:
        raise NoAccess(f"there is no kubeconfig: {wanted}")
    found = chosen({one: _parsed(_text(one, "the kubeconfig"), str(one)) for one in there}, context)
    return replace(found, files=os.pathsep.join(map(str, there)))


def _parsed(text: str, where: str) -> Any:
    try:
        return from_yaml(text)
    except yaml.YAMLError:
        raise NoAccess(f"{where}: it is no YAML") from None  # its own text would quote what is there


def chosen(configs: Mapping[Path, Any], context: str | None = None) -> Identity:
    """The current context of one or more kubeconfigs, by file; what comes first wins, as for kubectl. A user that is
    not there is nobody, as for kubectl. Raises `NoAccess`.
    """
    try:
        return _chosen(configs, context)
    except MISFORMED as error:
        raise NoAccess(f"the kubeconfig is not as it should be ({type(error).__name__})") from None


def _chosen(configs: Mapping[Path, Any], context: str | None) -> Identity:
    current = next((one["current-context"] for one in configs.values() if one.get("current-context")), None)
    if not (wanted := context or current):
        raise NoAccess("the kubeconfig has no current context")
    found, _ = _named(configs, "contexts", wanted)
    if found is None:
        raise NoAccess(f"the kubeconfig has no context {wanted}")
    cluster, cluster_folder = _named(configs, "clusters", found.get("cluster"))
    if not (cluster or {}).get("server"):
        raise NoAccess(f"the kubeconfig has no cluster {found.get('cluster')} with a server")
    user, folder = _named(configs, "users", found.get("user"))
    return Identity(
        _absolute(cluster or {}, cluster_folder), _absolute(user or {}, folder),
        f"user {found.get('user')}" if user is not None else "nobody", folder, context=wanted,
    )  # fmt: skip


def _named(configs: Mapping[Path, Any], section: str, name: object) -> tuple[Json | None, Path]:
    for path, config in configs.items():
        for item in config.get(section) or ():
            if item.get("name") == name:
                return item.get(section.removesuffix("s")) or {}, path.parent
    return None, Path()


def _absolute(section: Json, folder: Path) -> Json:
    """Paths in a kubeconfig are relative to the file."""
    paths = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
    return {key: str(folder / value) if key in paths and value else value for key, value in section.items()}


def _stored(identity: Identity) -> Access:
    """What stands in the kubeconfig, and in the files that it names."""
    cluster, user, who = identity.cluster, identity.user, identity.name
    if unknown := [key for key in NOT_KNOWN if user.get(key)]:
        raise NoAccess(f"{who}: {', '.join(unknown)} of the kubeconfig is not known here")
    where = urlsplit(str(cluster["server"]))
    if where.scheme not in ("http", "https") or not where.hostname or where.port == 0:
        raise NoAccess(f"{who}: the cluster's server is no address")
    token = str(user.get("token") or "").strip()
    if not token and user.get("tokenFile"):
        token, who = _text(user["tokenFile"], who).strip(), f"{who} (token file {user['tokenFile']})"
    certificate, key = _pem(user, "client-certificate", who), _pem(user, "client-key", who)
    if bool(certificate) != bool(key):
        raise NoAccess(f"{who}: a client certificate needs its key, and the key its certificate")
    return Access(
        server=str(cluster["server"]).rstrip("/"), user=f"{who} (client certificate)" if certificate else who,
        authorization=_bearer(token, who) or _basic(user), certificate=certificate, key=key,
        authority=_pem(cluster, "certificate-authority", who),
        verify=not cluster.get("insecure-skip-tls-verify"), server_name=str(cluster.get("tls-server-name") or ""),
        proxy=str(cluster.get("proxy-url") or ""), impersonate=str(user.get("as") or ""),
        renew_at=clock.epoch() + AGAIN_SECONDS,
    )  # fmt: skip


async def _executed(stored: Access, plugin: Json, identity: Identity) -> Access:
    cluster = identity.cluster | {"certificate-authority-data": base64.b64encode(stored.authority.encode()).decode()}
    given = await exec_plugin.credentials(plugin, cluster, identity.folder, identity.name)
    now, who = clock.epoch(), f"{identity.name} (exec plugin {plugin['command']})"
    left = None if given.ends_at is None else max(0.0, given.ends_at - now)
    return replace(
        stored, user=who, authorization=_bearer(given.token, who) or stored.authorization,
        certificate=given.certificate or stored.certificate, key=given.key or stored.key,
        renew_at=math.inf if left is None else now + left - min(MARGIN_SECONDS, MARGIN * left),
        ends_at=math.inf if left is None else now + left,
    )  # fmt: skip


async def _provided(stored: Access, identity: Identity) -> Access:
    """What only the full client knows how to ask for (OpenID Connect); it keeps what it was given in the file."""
    from kubernetes_asyncio import client, config

    settings = client.Configuration()
    parts = {"contexts": ("context", {"cluster": "it", "user": "it"}), "clusters": ("cluster", identity.cluster)}
    inline = {k: [{"name": "it", kind: v}] for k, (kind, v) in (parts | {"users": ("user", identity.user)}).items()}
    try:
        if identity.files:
            await config.load_kube_config(identity.files, identity.context, client_configuration=settings)
        else:
            whole = inline | {"current-context": "it"}
            await config.load_kube_config_from_dict(whole, client_configuration=settings)
    except Exception as error:
        raise NoAccess(f"{identity.name}: its auth-provider gave nothing ({type(error).__name__})") from None
    return replace(stored, authorization=settings.api_key.get("BearerToken", stored.authorization))


def _pem(section: Json, kind: str, who: str) -> str:
    if data := section.get(f"{kind}-data"):
        try:
            return base64.b64decode("".join(str(data).split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise NoAccess(f"{who}: {kind}-data is no PEM in base64") from None
    return _text(section[kind], who) if section.get(kind) else ""


def _text(path: str | Path, who: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise NoAccess(f"{who}: {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _bearer(token: str, who: str) -> str:
    if not token:
        return ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise NoAccess(f"{who}: its token is none: it has spaces, or what no header may have")
    return f"Bearer {token}"


def _basic(user: Json) -> str:
    name, password = user.get("username"), user.get("password")
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}" if name and password else ""
