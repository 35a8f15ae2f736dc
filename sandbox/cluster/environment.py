"""The environment of a container's process, from the image, the Services and the pod's spec."""

from __future__ import annotations

import base64
import os
import re
import sys
from pathlib import Path
from typing import Any

from sandbox.cluster.images import Image
from sandbox.cluster.kinds import CONFIG_MAP, SECRET, SERVICE
from sandbox.cluster.registry import Registry
from sandbox.cluster.store import Object

_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_][-A-Za-z0-9_.]*)\)")


class ConfigError(Exception):
    """The container cannot be configured: what it refers to is missing."""


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


class Environments:
    def __init__(self, registry: Registry, api: tuple[str, int]) -> None:
        self._registry, self._api = registry, api

    def build(self, pod: Object, container: Object, image: Image, home: Path) -> dict[str, str]:
        interpreter = os.path.dirname(sys.executable)
        path = [*image.path, interpreter, os.environ.get("PATH", os.defpath)]
        values = {"PATH": os.pathsep.join(path), "HOME": str(home), "LANG": "C.UTF-8"}
        values |= {"HOSTNAME": pod["metadata"]["name"], **image.env, **self._services(pod)}
        for source in container.get("envFrom") or ():
            prefix = source.get("prefix", "")
            values |= {f"{prefix}{key}": text for key, text in self._all_of(pod, source).items()}
        for variable in container.get("env") or ():
            text = self._value(pod, container, variable)
            if text is not None:
                values[variable["name"]] = expand(text, values)
        return values

    def _services(self, pod: Object) -> dict[str, str]:
        host, port = self._api
        values = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
        if pod["spec"].get("enableServiceLinks") is False:
            return values
        for service in self._registry.store.objects(SERVICE, pod["metadata"]["namespace"]):
            address, ports = service["spec"].get("clusterIP"), service["spec"].get("ports")
            if address in (None, "None") or not ports:
                continue
            name = service["metadata"]["name"].upper().replace("-", "_")
            number = str(ports[0]["port"])
            values |= {f"{name}_SERVICE_HOST": address, f"{name}_SERVICE_PORT": number}
            values |= {f"{name}_PORT": f"tcp://{address}:{number}"}
        return values

    def _all_of(self, pod: Object, source: Object) -> dict[str, str]:
        if "secretRef" in source:
            return self._data(pod, SECRET, source["secretRef"])
        return self._data(pod, CONFIG_MAP, source.get("configMapRef") or {})

    def _data(self, pod: Object, kind: Any, reference: Object) -> dict[str, str]:
        found = self._registry.find(kind, pod["metadata"]["namespace"], reference.get("name", ""))
        if found is None:
            if reference.get("optional"):
                return {}
            raise ConfigError(f'{kind.name.lower()} "{reference.get("name")}" not found')
        data = found.get("data") or {}
        if kind is SECRET:
            return {key: base64.b64decode(text or "").decode(errors="replace") for key, text in data.items()}
        return dict(data)

    def _value(self, pod: Object, container: Object, variable: Object) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return str(variable.get("value") or "")
        if "fieldRef" in source:
            return _pod_field(pod, source["fieldRef"]["fieldPath"])
        if "resourceFieldRef" in source:
            limits = (container.get("resources") or {}).get("limits") or {}
            return str(limits.get(source["resourceFieldRef"].get("resource", "").removeprefix("limits."), "0"))
        kind, field = (SECRET, "secretKeyRef") if "secretKeyRef" in source else (CONFIG_MAP, "configMapKeyRef")
        reference = source.get(field) or {}
        data = self._data(pod, kind, reference)
        if reference.get("key") not in data:
            if reference.get("optional"):
                return None
            raise ConfigError(f"couldn't find key {reference.get('key')} in {kind.name} {reference.get('name')}")
        return data[reference["key"]]


def _pod_field(pod: Object, path: str) -> str:
    """A field by the downward API: `status.podIP`, `metadata.name`, `metadata.labels['x']`."""
    if match := re.match(r"^metadata\.(labels|annotations)\['([^']+)'\]$", path):
        return str((pod["metadata"].get(match[1]) or {}).get(match[2], ""))
    value: Any = pod
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if value is None and path not in ("spec.serviceAccountName", "status.hostIP"):
        raise ConfigError(f"field path not supported: {path}")
    return str(value or "")
