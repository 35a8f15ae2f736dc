"""What a container's process is: an image of the catalogue, a command line, an environment from image and spec."""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sandbox.cluster.kinds import CONFIG_MAP, SECRET, Kind
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Object

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][-A-Za-z0-9_.]*)\)")


class ConfigError(Exception):
    """The container cannot be configured: what it refers to is missing."""


@dataclass(frozen=True)
class Image:
    repository: str
    tag: str
    digest: str
    argv: list[str]
    workdir: str = ""
    env: dict[str, str] = field(default_factory=dict)
    path: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"{self.repository}@{self.digest}"


class Catalogue:
    """Reads the file again when it has changed; while it cannot be read, what was read last holds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._images: list[Image] = []

    def find(self, reference: str) -> Image | None:
        """`repository:tag`, `repository@digest` or `repository:tag@digest`."""
        self._refresh()
        name, _, digest = reference.partition("@")
        repository, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            repository, tag = name, ""
        for image in self._images:
            if image.repository == repository and (image.digest == digest if digest else image.tag == tag):
                return image
        return None

    def _refresh(self) -> None:
        try:
            about = self._path.stat()
            if (about.st_mtime_ns, about.st_size) == self._seen:
                return
            entries = json.loads(self._path.read_text())["images"]
            self._images = [
                Image(**{key: entry[key] for key in entry if key in Image.__annotations__}) for entry in entries
            ]
            self._seen = (about.st_mtime_ns, about.st_size)
        except (OSError, ValueError, KeyError, TypeError):
            return


def expand(text: str, values: dict[str, str]) -> str:
    """Replace `$(NAME)` by its value; an unknown name stays as it is and `$$` means a dollar."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else values.get(match[1], match[0])

    return _REFERENCE.sub(value, text)


def command(container: Object, image: Image, values: dict[str, str]) -> list[str]:
    """`command` replaces the image's program, and with it its arguments; `args` replaces only the arguments."""
    start, rest = container.get("command"), container.get("args")
    argv = [*start, *(rest or ())] if start else [image.argv[0], *rest] if rest else image.argv
    return [expand(part, values) for part in argv]


def environment(registry: Registry, pod: Object, image: Image, home: Path) -> dict[str, str]:
    """Nothing of our own environment but the PATH, so that a pod behaves the same wherever the cluster runs."""
    container, namespace = pod["spec"]["containers"][0], pod["metadata"]["namespace"]
    path = [*image.path, os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
    values = {"PATH": os.pathsep.join(path), "HOME": str(home), "LANG": "C.UTF-8"}
    values |= {"HOSTNAME": pod["metadata"]["name"], "KUBERNETES_SERVICE_HOST": f"{registry.subnet}.0.1", **image.env}
    for source in container.get("envFrom") or ():
        kind, where = (SECRET, "secretRef") if "secretRef" in source else (CONFIG_MAP, "configMapRef")
        values |= _data(registry, namespace, kind, source.get(where) or {})
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if "fieldRef" in source:
            text: str | None = _pod_field(pod, source["fieldRef"]["fieldPath"])
        elif source:
            kind, where = (SECRET, "secretKeyRef") if "secretKeyRef" in source else (CONFIG_MAP, "configMapKeyRef")
            text = _one(registry, namespace, kind, source.get(where) or {})
        else:
            text = expand(variable.get("value", ""), values)
        if text is not None:
            values[variable["name"]] = text
    return values


def _data(registry: Registry, namespace: str, kind: Kind, reference: Object) -> dict[str, str]:
    found = registry.find(kind, namespace, reference.get("name", ""))
    if found is None and not reference.get("optional"):
        raise ConfigError(f'{kind.name.lower()} "{reference.get("name")}" not found')
    data = (found or {}).get("data") or {}
    if kind is SECRET:
        return {key: base64.b64decode(text).decode(errors="replace") for key, text in data.items()}
    return dict(data)


def _one(registry: Registry, namespace: str, kind: Kind, reference: Object) -> str | None:
    text = _data(registry, namespace, kind, reference).get(reference.get("key", ""))
    if text is None and not reference.get("optional"):
        raise ConfigError(f"couldn't find key {reference.get('key')} in {kind.name} {reference.get('name')}")
    return text


def _pod_field(pod: Object, path: str) -> str:
    """A field by the downward API: `status.podIP`, `metadata.name`, `metadata.labels['x']`."""
    if match := re.match(r"^metadata\.(labels|annotations)\['([^']+)'\]$", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        raise ConfigError(f"field path not supported: {path}")
    return str(value)
