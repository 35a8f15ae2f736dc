"""As whom a cluster is asked: what a kubeconfig says of its user, and the service account of the pod we run in.

Everything is read anew whenever credentials are renewed, so what is rotated on disk is seen.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

from handover import clock
from handover.adapters import exec_plugin, kube_files
from handover.adapters.kube_access import Access, NoAccess
from handover.adapters.kube_files import Identity
from handover.adapters.kube_proxy import proxy_for
from handover.ports.kube import Json

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
AGAIN_SECONDS = 60.0
"""So old is what was read from a file at most."""
MARGIN_SECONDS, MARGIN = 60.0, 0.25
"""How long before its end a plugin's credential is renewed, and at most this share of what it had left when it came."""
MISFORMED = (AttributeError, KeyError, TypeError, ValueError)
PROVIDERS = ("oidc", "gcp")
"""What the full client can ask for; kubectl itself knows no others any more."""
PROXIES = ("http", "https")


async def access_of(identity: Identity) -> Access:
    """Raises `NoAccess`."""
    try:
        stored = await asyncio.to_thread(_stored, identity)
        if plugin := identity.user.get("exec"):
            return await _executed(stored, plugin, identity)
        return await _provided(stored, identity) if identity.user.get("auth-provider") else stored
    except MISFORMED as error:
        raise identity.of_user(f"it is not as it should be ({type(error).__name__})") from None


async def access_from_file(path: str | None, context: str | None = None) -> Access:
    """The current context's of a kubeconfig file, by default of the files that kubectl would use; without any, or with
    nothing in them, the service account's. Raises `NoAccess`.
    """
    return await access_of(await asyncio.to_thread(_found, path, context))


async def access_from_text(config: object, context: str | None = None) -> Access:
    """The same of the text of a kubeconfig, or of what such a text says. Raises `NoAccess`."""
    return await access_of(await asyncio.to_thread(lambda: kube_files.chosen([kube_files.parsed(config)], context)))


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
    may_be_pod = path is None and bool(os.environ.get("KUBERNETES_SERVICE_HOST"))
    try:
        configs = kube_files.found(path)
    except kube_files.NoFile:
        if may_be_pod:
            return in_pod()
        raise
    return in_pod() if may_be_pod and all(one.empty for one in configs) else kube_files.chosen(configs, context)


def _stored(identity: Identity) -> Access:
    """What stands in the kubeconfig, and in the files that it names."""
    cluster, user, who = identity.cluster, identity.user, identity.name
    for key in ("exec", "auth-provider", "as-user-extra"):
        if not isinstance(user.get(key) or {}, dict):
            raise identity.of_user(f"its {key} is not as it should be")
    verify = not cluster.get("insecure-skip-tls-verify")
    authority = _pem(cluster, "certificate-authority", identity.of_cluster)
    certificate, key = (_pem(user, kind, identity.of_user) for kind in ("client-certificate", "client-key"))
    if bool(certificate) != bool(key):
        raise identity.of_user("a client certificate needs its key, and the key its certificate")
    token, file = str(user.get("token") or "").strip(), user.get("tokenFile")
    if file:
        token, who = _token(file, token, identity), f"{who} (token file {file})"
    server = _server(identity, tls=bool(authority or certificate or not verify))
    return Access(
        server=server,
        user=f"{who} (client certificate)" if certificate else who,
        authorization=_bearer(token, identity) or _basic(user), certificate=certificate, key=key,
        authority=authority if verify else "", verify=verify, server_name=str(cluster.get("tls-server-name") or ""),
        proxy=_proxy(identity, server), impersonated=tuple(_impersonated(identity)), files=identity.files,
        renew_at=clock.epoch() + AGAIN_SECONDS,
    )  # fmt: skip


def _server(identity: Identity, tls: bool) -> str:
    """An address without a scheme is host and port, and of HTTPS where anything else of TLS is said: as for kubectl."""
    written = str(identity.cluster["server"]).strip().rstrip("/")
    address = written if "://" in written else f"{'https' if tls else 'http'}://{written}"
    try:
        where = urlsplit(address)
        good = where.scheme in ("http", "https") and bool(where.hostname) and where.port != 0
    except ValueError:
        good = False
    if not good or not address.isprintable() or " " in address or (address != written and where.path):
        raise identity.of_cluster("its server is no address")
    return address


def _proxy(identity: Identity, server: str) -> str:
    """That of the cluster, else of the environment."""
    written = str(identity.cluster.get("proxy-url") or "") or proxy_for(server)
    try:
        where = urlsplit(written)
        good = not written or bool(where.hostname and where.port != 0)
    except ValueError:
        good = False
    if not good:
        raise identity.of_cluster("its proxy is no address")
    if written and where.scheme not in PROXIES:
        raise identity.of_cluster(
            f"its proxy is of the kind {where.scheme}, and only {', '.join(PROXIES)} are known: name a proxy of these "
            "in proxy-url or HTTPS_PROXY, or forward a port of this machine through it (ssh -L) and make that the "
            "server, with tls-server-name"
        )
    return written


def _impersonated(identity: Identity) -> Iterator[tuple[str, str]]:
    """As headers, which may come several times."""
    user, extra = identity.user, identity.user.get("as-user-extra") or {}
    if user.get("as"):
        yield "Impersonate-User", _header(user["as"], "as", identity)
    elif user.get("as-uid") or user.get("as-groups") or extra:
        raise identity.of_user("as-uid, as-groups and as-user-extra need as, a user")
    if user.get("as-uid"):
        yield "Impersonate-Uid", _header(user["as-uid"], "as-uid", identity)
    for group in user.get("as-groups") or ():
        yield "Impersonate-Group", _header(group, "as-groups", identity)
    for key, values in extra.items():
        for value in values:
            yield f"Impersonate-Extra-{quote(str(key), safe='')}", _header(value, "as-user-extra", identity)


def _header(value: object, what: str, identity: Identity) -> str:
    text = str(value)
    if not text.isascii() or not text.isprintable():
        raise identity.of_user(f"{what} has what no header may have")
    return text


def _token(file: str, token: str, identity: Identity) -> str:
    """What lies in the file, for it is renewed; else what stands beside it."""
    try:
        return _text(file, identity.of_user).strip() or token
    except NoAccess:
        if token:
            return token
        raise


async def _executed(stored: Access, plugin: Json, identity: Identity) -> Access:
    cluster = identity.cluster | {"certificate-authority-data": base64.b64encode(stored.authority.encode()).decode()}
    whose = ": ".join(part for part in (identity.user_file, identity.name) if part)
    given = await exec_plugin.credentials(plugin, cluster, identity.folder, whose)
    now, who = clock.epoch(), f"{identity.name} (exec plugin {plugin['command']})"
    left = None if given.ends_at is None else max(0.0, given.ends_at - now)
    return replace(
        stored, user=who, authorization=_bearer(given.token, identity) or stored.authorization,
        certificate=given.certificate or stored.certificate, key=given.key or stored.key,
        renew_at=math.inf if left is None else now + left - min(MARGIN_SECONDS, MARGIN * left),
        ends_at=math.inf if left is None else now + left,
    )  # fmt: skip


async def _provided(stored: Access, identity: Identity) -> Access:
    """What only the full client knows how to ask for (OpenID Connect); it keeps what it was given in the file."""
    from kubernetes_asyncio import client, config

    name = identity.user["auth-provider"].get("name")
    if name not in PROVIDERS:
        raise identity.of_user(f"nobody knows its auth-provider {name} any more; have an exec plugin give credentials")
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
        raise identity.of_user(f"its auth-provider {name} gave nothing ({type(error).__name__})") from None
    return replace(stored, authorization=settings.api_key.get("BearerToken", stored.authorization))


Wrong = Callable[[str], NoAccess]
"""Says whose it is, and in which file that stands."""


def _pem(section: Json, kind: str, wrong: Wrong) -> str:
    if data := section.get(f"{kind}-data"):
        try:
            return base64.b64decode("".join(str(data).split()), validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise wrong(f"{kind}-data is no PEM in base64") from None
    return _text(section[kind], wrong) if section.get(kind) else ""


def _text(path: str | Path, wrong: Wrong) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise wrong(f"{path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _bearer(token: str, identity: Identity) -> str:
    if not token:
        return ""
    if not token.isascii() or not token.isprintable() or " " in token:
        raise identity.of_user("its token is none: it has spaces, or what no header may have")
    return f"Bearer {token}"


def _basic(user: Json) -> str:
    name, password = user.get("username"), user.get("password")
    return f"Basic {base64.b64encode(f'{name}:{password}'.encode()).decode()}" if name and password else ""
