"""Puts images of a layout into a registry, by the OCI distribution specification.

Its push is three kinds of request. The clients that exist would each be more than that: `oras` of PyPI builds manifests
of its own instead of pushing a layout, crane and skopeo would be another program to build.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx

from sandbox.images.layout import MANIFEST, Image
from sandbox.services.cache import Tell
from sandbox.settings import SandboxError

TIMEOUT_SECONDS = 60
_CHUNK = 1 << 20


def push(images: list[Image], registry_url: str, user: str, password: str, tell: Tell = lambda _: None) -> int:
    """Push what the registry does not have yet; gives the number of blobs and manifests sent.

    Raises SandboxError when the registry refuses or does not answer.
    """
    try:
        with httpx.Client(
            base_url=registry_url, auth=(user, password), timeout=TIMEOUT_SECONDS, trust_env=False
        ) as client:
            return sum(_push(client, image, tell) for image in images)
    except httpx.HTTPStatusError as error:
        said = error.response.text.strip()[:300]
        raise SandboxError(f"{error.request.method} {error.request.url}: {error.response.status_code} {said}") from None
    except httpx.TransportError as error:
        raise SandboxError(f"the registry {registry_url} does not answer: {error}") from None


def _push(client: httpx.Client, image: Image, tell: Tell) -> int:
    path = f"/v2/{image.repository.partition('/')[2]}"
    content = image.blob(image.digest).read_bytes()
    if _digest_of(client, f"{path}/manifests/{image.tag}") == image.digest:
        return 0
    manifest = json.loads(content)
    digests = [part["digest"] for part in (*manifest["layers"], manifest["config"])]
    sent = [digest for digest in digests if _send(client, path, digest, image.blob(digest))]
    answer = client.put(f"{path}/manifests/{image.tag}", content=content, headers={"content-type": MANIFEST})
    answer.raise_for_status()
    tell(f"{image.repository}:{image.tag} pushed, {len(sent)} of {len(digests)} blobs were new")
    return len(sent) + 1


def _digest_of(client: httpx.Client, path: str) -> str:
    """What the registry has under this name; empty for nothing."""
    answer = client.head(path, headers={"accept": MANIFEST})
    if answer.status_code == 404:
        return ""
    return str(answer.raise_for_status().headers.get("docker-content-digest", ""))


def _send(client: httpx.Client, path: str, digest: str, blob: Path) -> bool:
    """Upload a blob in one request unless it is there; whether it was sent."""
    if client.head(f"{path}/blobs/{digest}").status_code == 200:
        return False
    begun = client.post(f"{path}/blobs/uploads/").raise_for_status()
    target = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
    headers = {"content-type": "application/octet-stream", "content-length": str(blob.stat().st_size)}
    client.put(target, content=_chunks(blob), headers=headers).raise_for_status()
    return True


def _chunks(blob: Path) -> Iterator[bytes]:
    with blob.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk
