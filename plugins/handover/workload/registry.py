"""Asks an image registry for the digest behind a tag (plan 2.2, OCI distribution specification)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from handover.adapters.http import base_url

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


def split(image: str) -> tuple[str, str]:
    """Repository and tag or digest of an image; a digest wins over a tag, and no tag means ``latest``."""
    name, _, digest = image.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    return f"{head}{slash}{last}", digest or tag or "latest"


def challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme (lower case) and parameters of a WWW-Authenticate header."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), dict(re.findall(r'(\w+)="([^"]*)"', rest))


def pinned(plan: Plan, image: str) -> str:
    """The image by digest, as the registry has it now. Raises what `resolve` raises."""
    repository, reference = split(image)
    return f"{repository}@{resolve(plan.image.connection, repository, reference)}"


def resolve(connection: str, repository: str, reference: str) -> str:
    """The digest of a tag; for a digest, that it exists.

    Raises `ImageMissing`, `RegistryRefused`, or `requests.RequestException` when there is no answer.
    """
    from airflow.sdk import BaseHook

    where = BaseHook.get_connection(connection)
    name = repository.partition("/")[2] if "." in repository.partition("/")[0] else repository
    path = f"/v2/{name}/manifests/{reference}"
    response = _ask(where, "HEAD", path)
    digest = response.headers.get("Docker-Content-Digest", "")
    if response.status_code == 405 or (response.ok and not DIGEST.match(digest)):
        response = _ask(where, "GET", path)
        digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    if response.status_code == 404:
        raise ImageMissing(f"the registry has no {repository} {reference}: push it, or correct the release")
    if not response.ok:
        raise RegistryRefused(f"the registry answered {response.status_code} for {repository} {reference}")
    if DIGEST.match(reference) and digest != reference:
        raise ImageMissing(f"the registry answered {digest} for {repository}@{reference}")
    return digest


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
        raise RegistryRefused(f"the registry's token service answered {response.status_code}")
    body = response.json()
    return str(body.get("token") or body.get("access_token") or "")
