"""The container of the service among those of a pod. Pure."""

from __future__ import annotations

from typing import Any


class NoContainer(LookupError):
    """A pod has no container of this name; the text says what it has instead."""


def find_container(pod_spec: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The container of this name, never another one: what a mesh or an agent has put there is not the service."""
    return next((one for one in pod_spec.get("containers") or () if one.get("name") == name), None)


def container_of(pod_spec: dict[str, Any], name: str) -> dict[str, Any]:
    """The same. Raises `NoContainer`."""
    found = find_container(pod_spec, name)
    if found is None:
        there = ", ".join(str(one.get("name")) for one in pod_spec.get("containers") or ()) or "none"
        raise NoContainer(f"it has no container {name} (there: {there}); name the service's in cluster.container")
    return found
