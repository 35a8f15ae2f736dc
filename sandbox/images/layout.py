"""An OCI image layout: a folder with the blobs of images and an index of them."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.images.layers import Layer

TYPE = "application/vnd.oci.image"
MANIFEST = f"{TYPE}.manifest.v1+json"
_NAME = "org.opencontainers.image.ref.name"


@dataclass(frozen=True)
class Image:
    """An image in a layout on this machine."""

    repository: str
    """With the registry's name, such as ``ghcr.io/ai-hotel/pms``."""
    tag: str
    digest: str
    """Of its manifest: `repository@digest` is what a pod names."""
    layout: str
    """Path of the OCI image layout."""

    @property
    def name(self) -> str:
        """Repository and digest, as a pod names it."""
        return f"{self.repository}@{self.digest}"

    def blob(self, digest: str) -> Path:
        return Path(self.layout) / "blobs" / digest.replace(":", "/")


@dataclass(frozen=True)
class Recipe:
    """What an image is made of."""

    repository: str
    tag: str
    layers: tuple[Layer, ...]
    command: tuple[str, ...]
    env: dict[str, str]
    user: str
    workdir: str
    annotations: dict[str, str] = field(default_factory=dict)


def write(folder: Path, recipes: list[Recipe]) -> None:
    """Fill an empty folder with a layout of these images; blobs of layers are hard links."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    manifests = []
    for recipe in recipes:
        for layer in recipe.layers:
            target = blobs / layer.digest.partition(":")[2]
            if not target.exists():
                os.link(layer.blob, target)
        config = _put(blobs, _config(recipe), f"{TYPE}.config.v1+json")
        manifest = _put(blobs, _manifest(recipe, config), MANIFEST)
        manifests.append({**manifest, "annotations": {_NAME: f"{recipe.repository}:{recipe.tag}"}})
    index = {"schemaVersion": 2, "mediaType": f"{TYPE}.index.v1+json", "manifests": manifests}
    (folder / "index.json").write_bytes(_canonical(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def read(folder: Path) -> list[Image]:
    """The images of a layout, in the order in which they were written."""
    index = json.loads((folder / "index.json").read_text())
    images = []
    for entry in index["manifests"]:
        repository, _, tag = entry["annotations"][_NAME].rpartition(":")
        images.append(Image(repository, tag, entry["digest"], str(folder)))
    return images


def _config(recipe: Recipe) -> dict[str, Any]:
    return {
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": recipe.user,
            "Env": [f"{key}={value}" for key, value in sorted(recipe.env.items())],
            "Cmd": list(recipe.command),
            "WorkingDir": recipe.workdir,
            "Labels": {"org.opencontainers.image.version": recipe.tag},
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in recipe.layers]},
    }


def _manifest(recipe: Recipe, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config,
        "layers": [
            {"mediaType": f"{TYPE}.layer.v1.tar+gzip", "digest": layer.digest, "size": layer.size}
            for layer in recipe.layers
        ],
        "annotations": {"org.opencontainers.image.version": recipe.tag, **recipe.annotations},
    }


def _put(blobs: Path, value: dict[str, Any], media_type: str) -> dict[str, Any]:
    """Write a JSON blob; gives its descriptor."""
    content = _canonical(value)
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
