"""Asks an image registry for the digest behind a tag (plan 2.2, OCI distribution specification)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from handover.adapters.http import base_url
from handover.adapters.refusals import spoken
from handover.models.image_reference import HUB, ImageReference

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from requests import Response

    from handover.plan.model import Plan

TIMEOUT_SECONDS = 10.0
MANIFEST_TYPES = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")


class ImageMissing(LookupError):
    """The registry has no such image, or another one than the digest says."""


class RegistryRefused(RuntimeError):
    """The registry did not answer the question: wrong credentials, or out of order."""


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme (lower case) and parameters of a WWW-Authenticate header."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


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
    if response.status_code == 405 or (response.ok and not DIGEST.match(digest)):
        response = _ask(where, "GET", path)
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    if response.status_code == 404:
        return None
    if not response.ok:
        said = _words(_ask(where, "GET", path), where.login, where.password)  # an answer to HEAD has none
        raise RegistryRefused(f"the registry answered {response.status_code} for {repository} {reference}{said}")
    if DIGEST.match(reference) and digest != reference:
        raise ImageMissing(f"the registry answered {digest} for {repository}@{reference}")
    return digest


def _words(response: Response, login: str | None, password: str | None) -> str:
    said = spoken(response.content, login or "", password or "")
    return f": {said}" if said else ""


def _ask(where: Connection, method: str, path: str) -> Response:
    """One request; a 401 is answered once, with basic auth or a token as the registry's challenge says."""
    import requests

    url = f"{base_url(where)}{path}"
    headers = {"Accept": MANIFEST_TYPES}
    basic = (where.login, where.password or "") if where.login else None
    first = requests.request(method, url, headers=headers, timeout=TIMEOUT_SECONDS)
    if first.status_code != 401:
        return first
    scheme, parameters = challenge(first.headers.get("WWW-Authenticate", ""))
    if scheme == "bearer" and parameters.get("realm"):
        headers["Authorization"] = f"Bearer {_token(parameters, basic)}"
        basic = None
    elif basic is None:
        return first
    return requests.request(method, url, headers=headers, auth=basic, timeout=TIMEOUT_SECONDS)


def _token(parameters: dict[str, str], basic: tuple[str, str] | None) -> str:
    import requests

    asked = {key: parameters[key] for key in ("service", "scope") if key in parameters}
    response = requests.get(parameters["realm"], params=asked, auth=basic, timeout=TIMEOUT_SECONDS)
    if not response.ok:
        said = _words(response, *(basic or ("", "")))
        raise RegistryRefused(f"the registry's token service answered {response.status_code}{said}")
    body = response.json()
    return str(body.get("token") or body.get("access_token") or "")
