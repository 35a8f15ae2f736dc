"""What the API says about itself: its version, groups and resources, and as much OpenAPI as kubectl needs."""

from __future__ import annotations

from typing import Any

from sandbox.cluster.kinds import KINDS, POD, Kind

VERSION = {"major": "1", "minor": "36", "gitVersion": "v1.36.0", "platform": "linux/amd64"}
# An OpenAPI v2 document in protobuf that says no more than `swagger: "2.0"`: kubectl then uses its built-in types,
# and leaves validation to us.
EMPTY_SWAGGER = b"\x0a\x032.0"
_VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
_GROUPS = sorted({kind.group for kind in KINDS if kind.group})


def _group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version}


def _resources(group: str) -> dict[str, Any]:
    entries = [entry for kind in KINDS if kind.group == group for entry in _entries(kind)]
    group_version = f"{group}/v1" if group else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries}


def _entries(kind: Kind) -> list[dict[str, Any]]:
    about = {"name": kind.plural, "singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
    found = [{**about, "verbs": _VERBS, "shortNames": list(kind.short)}]
    if kind.status:
        found.append({**about, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]})
    if kind.scale:
        scale = {"kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": ["get", "patch", "update"]}
        found.append({**about, "name": f"{kind.plural}/scale", **scale})
    if kind is POD:
        found.append({**about, "name": "pods/log", "verbs": ["get"]})
    return found


DOCUMENTS: dict[str, dict[str, Any]] = {
    "version": VERSION,
    "api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
    "api/v1": _resources(""),
    "apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name) for name in _GROUPS]},
    **{f"apis/{name}": _group(name) for name in _GROUPS},
    **{f"apis/{name}/v1": _resources(name) for name in _GROUPS},
}
"""What the API answers by path."""
