"""Asks an image registry for the digest behind a tag (plan 2.2, OCI distribution specification)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from handover.adapters.http import base_url, is_loopback
from handover.adapters.refusals import spoken
from handover.models.image_reference import HUB, ImageReference
from handover.models.json_text import decoded

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from requests import Response

    from handover.adapters.straight import Straight
    from handover.plan.model import Plan

TIMEOUT_SECONDS = 10.0
MAX_MANIFEST_BYTES = 2**22
"""What registries have to take at least, and what none of ours exceeds."""
HUB_LOGIN = f"auth.{HUB}"
"""Where the hub, and no other registry, has its tokens from."""
MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
CHALLENGE_PARTS = re.compile(r'([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))|([A-Za-z][\w-]*)')
"""Of a WWW-Authenticate header: a parameter with its value, quoted or not, or else a scheme."""


class ImageMissing(LookupError):
    """The registry has no such image, or another one than the digest says."""


class RegistryRefused(RuntimeError):
    """The registry did not answer the question: wrong credentials, or out of order."""


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme (lower case) and parameters of a WWW-Authenticate header: of several challenges in it that of a token,
    else of basic auth, else the first.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for name, quoted, bare, scheme in CHALLENGE_PARTS.findall(header):
        if scheme:
            found.append((scheme.lower(), {}))
        elif found:
            found[-1][1][name] = quoted or bare
    tokens = [one for one in found if one[0] == "bearer" and one[1].get("realm")]
    return next(iter([*tokens, *(one for one in found if one[0] == "basic"), *found]), ("", {}))


def pinned(plan: Plan, image: str) -> str:
    """The image by digest, as the registry has it now. Raises what `resolve` raises, and `BadImage`."""
    named = ImageReference.parse(image)
    return str(named.at(resolve(plan.image.connection, named.repository, named.wanted)))


def resolve(connection: str, repository: str, reference: str) -> str:
    """The digest of a tag; for a digest, that it exists. The connection says where to ask, not the repository's host:
    behind it may be a mirror.

    Raises `ImageMissing`, `RegistryRefused`, or `requests.RequestException` when there is no answer.
    """
    from airflow.sdk import BaseHook

    where, named = BaseHook.get_connection(connection), ImageReference.parse(repository)
    for name in _names(named, where):
        if digest := _digest(where, name, repository, reference):
            return digest
    raise ImageMissing(f"the registry has no {repository} {reference}: push it, or correct the release")


def _names(named: ImageReference, where: Connection) -> list[str]:
    """What the registry may call it. On the hub and its mirrors a name of one part lies in a folder."""
    host = urlsplit(base_url(where)).hostname or ""
    on_hub = host == HUB or host.endswith(f".{HUB}")
    return list(dict.fromkeys([named.official] if on_hub else [named.path, named.official]))


def _digest(where: Connection, name: str, repository: str, reference: str) -> str | None:
    """None when there is no such manifest."""
    path = f"/v2/{name}/manifests/{reference}"
    response = _ask(where, "HEAD", path)
    digest = response.headers.get("Docker-Content-Digest", "")
    if response.status_code == 405 or (response.ok and not DIGEST.fullmatch(digest)):
        response = _ask(where, "GET", path)
        if response.ok and not _is_manifest(response):
            kind = response.headers.get("Content-Type", "of no type").partition(";")[0][:60]
            raise RegistryRefused(
                f"the answer for {repository} {reference} is no manifest of an image ({kind}): does the connection "
                "lead to the registry, and past a login page?"
            )
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    if response.status_code == 404:
        return None
    if not response.ok:
        said = _words(_ask(where, "GET", path), where.login, where.password)  # an answer to HEAD has none
        raise RegistryRefused(f"the registry answered {response.status_code} for {repository} {reference}{said}")
    if DIGEST.fullmatch(reference) and digest != reference:
        raise ImageMissing(f"the registry answered {digest} for {repository}@{reference}")
    return digest


def _is_manifest(response: Response) -> bool:
    """Whether it is what a digest is made of: a login page, a list of errors and an empty body are answers as well."""
    try:
        body = decoded(response.content)
    except ValueError:
        return False
    if not isinstance(body, dict) or type(body.get("schemaVersion")) is not int or body["schemaVersion"] != 2:
        return False
    kinds = (response.headers.get("Content-Type", "").partition(";")[0].strip().lower(), body.get("mediaType"))
    return any(kind in MANIFEST_TYPES for kind in kinds)


def _words(response: Response, login: str | None, password: str | None) -> str:
    said = spoken(response.content, login or "", password or "")
    return f": {said}" if said else ""


def _ask(where: Connection, method: str, path: str) -> Response:
    """One request; a 401 is answered once, with basic auth or a token as the registry's challenge says."""
    from handover.adapters.straight import Straight

    url = f"{base_url(where)}{path}"
    headers = {"Accept": ", ".join(MANIFEST_TYPES)}
    basic = (where.login, where.password or "") if where.login else None
    with Straight(MAX_MANIFEST_BYTES) as http:
        first = http.request(method, url, headers=headers, timeout=TIMEOUT_SECONDS)
        if first.status_code != 401:
            return first
        scheme, parameters = challenge(first.headers.get("WWW-Authenticate", ""))
        if scheme == "bearer" and parameters.get("realm"):
            headers["Authorization"] = f"Bearer {_token(http, where, parameters, basic)}"
            basic = None
        elif basic is None:
            return first
        return http.request(method, url, headers=headers, auth=basic, timeout=TIMEOUT_SECONDS)


def _token(http: Straight, where: Connection, parameters: dict[str, str], basic: tuple[str, str] | None) -> str:
    """Without the login where the registry names somebody who shall not have it: images that all may have need none."""
    realm = parameters["realm"]
    asked = {key: parameters[key] for key in ("service", "scope") if key in parameters}
    withheld = "" if basic is None else stranger(where, realm)
    response = http.get(realm, params=asked, auth=None if withheld else basic, timeout=TIMEOUT_SECONDS)
    if response.status_code != 200:
        said = _words(response, *(basic or ("", "")))
        raise RegistryRefused(f"the registry's token service answered {response.status_code}{said}{withheld}")
    try:
        body = decoded(response.content)
        return str(body.get("token") or body["access_token"])
    except (ValueError, LookupError, TypeError, AttributeError):
        raise RegistryRefused(f"the registry's token service gave no token{withheld}") from None


def stranger(where: Connection, realm: str) -> str:
    """Why the login does not go where the registry wants it, empty where it may: to the registry's own host, to the
    hub's, and to the ``realm_host`` of the connection's extra; in plain text only as the registry itself is asked.
    """
    from requests import Request

    to = urlsplit(Request("GET", realm).prepare().url)  # as the client reads it, who may read it otherwise than we do
    home = urlsplit(base_url(where))
    host, own = str(to.hostname or ""), home.hostname or ""
    if to.scheme != "https" and not (to.scheme == home.scheme == "http" and host == own) and not is_loopback(host):
        return f"; the login was not sent to {host} in plain text"
    of_hub = {HUB_LOGIN} if own == HUB or own.endswith(f".{HUB}") else set()
    if host in {own, where.extra_dejson.get("realm_host")} | of_hub:
        return ""
    return f"; the login was not sent to {host}: if that is right, it is the connection's extra realm_host"
