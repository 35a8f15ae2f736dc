"""RBAC in front of the stand-in cluster: what a role does not allow is refused in the words of Kubernetes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from handover.ports.kube import Permission
from tests.support.cluster import Cluster
from tests.support.web import Answer, Asked, Web, serving

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


@contextmanager
def guarded(
    cluster: Cluster, allowed: Callable[[], list[Permission]], is_ready: Callable[[], bool] = lambda: True
) -> Iterator[Web]:
    """In front of the cluster for as long as the block runs; asked whether it is ready after each refusal."""

    def answer(asked: Asked) -> Answer:
        if asked.path == REVIEWS:
            wanted = Permission(**_without_nothing(asked.body["spec"]["resourceAttributes"]))
            return Answer(201, asked.body | {"status": {"allowed": allows(allowed(), wanted)}})
        if asked.path == "/readyz":
            return Answer(200 if is_ready() else 500)
        wanted = _of(asked)
        if not allows(allowed(), wanted):
            return Answer(403, {"kind": "Status", "status": "Failure", "code": 403, "message": said(wanted)})
        return _passed_on(cluster, asked)

    with serving(answer) as web:
        yield web


def allows(permissions: list[Permission], wanted: Permission) -> bool:
    """A permission without a name allows every name."""
    return any(_key(one) == _key(wanted) and one.name in ("", wanted.name) for one in permissions)


def _key(one: Permission) -> tuple[str, ...]:
    return one.namespace, one.group, one.resource, one.subresource, one.verb


def said(wanted: Permission) -> str:
    """As in k8s.io/apiserver, endpoints/handlers/responsewriters."""
    kind = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    name = f' "{wanted.name}"' if wanted.name else ""
    resource = f"{wanted.resource}/{wanted.subresource}" if wanted.subresource else wanted.resource
    return (
        f'{kind}{name} is forbidden: User "system:serviceaccount:a:b" cannot {wanted.verb} resource "{resource}" '
        f'in API group "{wanted.group}" in the namespace "{wanted.namespace}"'
    )


def _without_nothing(attributes: dict[str, str]) -> dict[str, str]:
    return {"group": ""} | attributes


def _of(asked: Asked) -> Permission:
    steps = asked.path.partition("?")[0].strip("/").split("/")
    group = "" if steps[0] == "api" else steps[1]
    namespace, resource, name, sub, *_ = [*steps[steps.index("namespaces") + 1 :], "", ""]
    return Permission(namespace, group, resource, VERBS.get(asked.method, "get" if name else "list"), sub, name)


def _passed_on(cluster: Cluster, asked: Asked) -> Answer:
    kept = {key: value for key, value in asked.headers.items() if key in ("content-type", "accept", "user-agent")}
    body: Any = None if asked.body is None else json.dumps(asked.body)
    answer = requests.request(
        asked.method, f"{cluster.url}{asked.path}", data=body, timeout=60,
        headers=kept | {"Authorization": f"Bearer {cluster.token}"},
    )  # fmt: skip
    return Answer(answer.status_code, answer.content, {"Content-Type": answer.headers.get("Content-Type", "")})


def kubeconfig(folder: Path, url: str) -> Path:
    """For a client whose token nobody looks at."""
    path = folder / "guarded.kubeconfig"
    named = {
        "clusters": [{"name": "guarded", "cluster": {"server": url}}],
        "users": [{"name": "deployer", "user": {"token": "nobody-looks"}}],
        "contexts": [{"name": "guarded", "context": {"cluster": "guarded", "user": "deployer"}}],
    }
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "guarded", **named}))
    return path
