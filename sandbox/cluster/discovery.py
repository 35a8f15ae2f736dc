"""What the API says about itself: groups, resources, version and as much OpenAPI as kubectl needs."""

from __future__ import annotations

from typing import Any

from sandbox.cluster.kinds import KINDS, Kind

VERSION = {
    "major": "1",
    "minor": "36",
    "gitVersion": "v1.36.0",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-04-01T00:00:00Z",
    "goVersion": "none",
    "compiler": "none",
    "platform": "linux/amd64",
}
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_GROUPS = sorted({kind.group for kind in KINDS if kind.group} | {"authorization.k8s.io"})
# An OpenAPI v2 document in protobuf that says no more than `swagger: "2.0"`: kubectl then uses its built-in types.
EMPTY_SWAGGER = b"\x0a\x032.0"


def api_versions() -> dict[str, Any]:
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list() -> dict[str, Any]:
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name) for name in _GROUPS]}


def group(name: str) -> dict[str, Any]:
    version = {"groupVersion": f"{name}/v1", "version": "v1"}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": [version], "preferredVersion": version}


def resource_list(name: str) -> dict[str, Any]:
    resources = [entry for kind in KINDS if kind.group == name for entry in _entries(kind)]
    if name == "authorization.k8s.io":
        review = {"name": "selfsubjectaccessreviews", "singularName": "selfsubjectaccessreview", "namespaced": False}
        resources.append({**review, "kind": "SelfSubjectAccessReview", "verbs": ["create"]})
    group_version = f"{name}/v1" if name else "v1"
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _entries(kind: Kind) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {
        "name": kind.plural,
        "singularName": kind.name.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.name,
        "verbs": _VERBS,
        "shortNames": list(kind.short),
        "categories": ["all"] if kind.everything else [],
    }
    found = [entry]

    def subresource(name: str, *verbs: str, **other: str) -> None:
        about = {"name": f"{kind.plural}/{name}", "singularName": "", "namespaced": kind.namespaced}
        found.append({**about, "kind": kind.name, "verbs": list(verbs), **other})

    if kind.status:
        subresource("status", "get", "patch", "update")
    if kind.scale:
        subresource("scale", "get", "patch", "update", kind="Scale", group="autoscaling", version="v1")
    if kind.name == "Pod":
        subresource("log", "get")
    if kind.name in ("Pod", "Service"):
        subresource("proxy", "create", "delete", "get", "patch", "update")
    return found


def openapi_v3_paths() -> dict[str, Any]:
    roots = {("api" if not kind.group else f"apis/{kind.group}") + "/v1" for kind in KINDS}
    return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}?hash=1"} for root in sorted(roots)}}


def openapi_v3(root: str) -> dict[str, Any] | None:
    """Enough for a client to see that every kind takes `dryRun` and `fieldValidation`: validation is the server's."""
    group = {"api/v1": ""}.get(root, root.removeprefix("apis/").removesuffix("/v1"))
    kinds = [kind for kind in KINDS if kind.group == group]
    if not kinds:
        return None
    query = [
        {"name": name, "in": "query", "schema": {"type": "string"}}
        for name in ("dryRun", "fieldManager", "fieldValidation", "force")
    ]
    paths: dict[str, Any] = {}
    for kind in kinds:
        gvk = {"x-kubernetes-group-version-kind": {"group": group, "version": "v1", "kind": kind.name}}
        operation = {**gvk, "parameters": query, "responses": {}}
        middle = "/namespaces/{namespace}/" if kind.namespaced else "/"
        collection = f"/{root}{middle}{kind.plural}"
        paths[collection] = {"post": {**operation, "x-kubernetes-action": "post"}}
        paths[collection + "/{name}"] = {
            "put": {**operation, "x-kubernetes-action": "put"},
            "patch": {**operation, "x-kubernetes-action": "patch"},
        }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": paths}


def document(path: str) -> dict[str, Any] | None:
    """What the API answers to a path that is about itself; None if there is nothing there."""
    fixed: dict[str, Any] = {
        "version": VERSION,
        "api": api_versions(),
        "apis": group_list(),
        "openapi/v2": {"swagger": "2.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": {}},
        "openapi/v3": openapi_v3_paths(),
        "api/v1": resource_list(""),
        "": {"paths": ["/api", "/api/v1", "/apis", *(f"/apis/{name}" for name in _GROUPS), "/version"]},
    }
    if path in fixed:
        return dict(fixed[path])
    if path.startswith("openapi/v3/"):
        return openapi_v3(path.removeprefix("openapi/v3/"))
    name = path.removeprefix("apis/").removesuffix("/v1")
    if path.startswith("apis/") and name in _GROUPS:
        return resource_list(name) if path.endswith("/v1") else group(name)
    return None
