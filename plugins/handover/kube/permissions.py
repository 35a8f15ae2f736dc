"""What the deployer may do in the cluster. The one list of it is ``include/k8s/rbac.yaml``."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from itertools import product
from string import Template
from typing import TYPE_CHECKING

from handover.models.annotations import notes
from handover.plan.model import INCLUDE
from handover.plan.text import documents
from handover.ports.kube import APPLY, Permission

if TYPE_CHECKING:
    from pathlib import Path

    from handover.plan.model import Plan
    from handover.ports.kube import Kube

RBAC = INCLUDE / "k8s" / "rbac.yaml"
RBAC_NODES = INCLUDE / "k8s" / "rbac-nodes.yaml"
RBAC_WATCH = INCLUDE / "k8s" / "rbac-watch.yaml"
OPTIONAL = "optional"
"""Our annotation of a Role that nobody misses, and without which less is told."""


def rendered(plan: Plan, source: Path = RBAC) -> str:
    """The manifest for a plan: a ServiceAccount, and a Role with its binding in each namespace.

    With `RBAC_NODES`: the ClusterRole of the readiness check that lists nodes, which no deployment needs. With
    `RBAC_WATCH`: the ServiceAccount and Role of the watch beside Airflow.
    """
    cluster = plan.cluster
    return Template(source.read_text(encoding="utf-8")).substitute(
        app=cluster.prefix,
        namespace=cluster.namespace,
        staging_namespace=cluster.staging_namespace,
        service=cluster.service,
        preview_service=cluster.preview_service,
        deployments=", ".join(map(cluster.deployment_of, cluster.colours)),
        lock=plan.lock_name,
        readiness=plan.readiness_name,
    )


@lru_cache(maxsize=16)
def granted(manifest: str, *, optional: bool = False) -> tuple[Permission, ...]:
    """Everything that the Roles in a manifest allow, one by one: what is needed, or what is `OPTIONAL`."""
    found: dict[Permission, None] = {}
    for role in documents(manifest):
        if (notes(role).get(OPTIONAL) == "true") is not optional:
            continue
        for rule in role.get("rules") or () if role["kind"] in ("Role", "ClusterRole") else ():
            names = rule.get("resourceNames") or [""]
            for group, kind, verb, name in product(rule["apiGroups"], rule["resources"], rule["verbs"], names):
                resource, _, sub = kind.partition("/")
                found[Permission(role["metadata"].get("namespace", ""), group, resource, verb, sub, name)] = None
    return tuple(found)


async def missing(kube: Kube, plan: Plan) -> list[Permission]:
    """What is needed and the API server does not allow. Raises `KubeError`.

    Asks for one permission at a time, all at once in parallel: a list of rules (SelfSubjectRulesReview) would be one
    question, but with an authorizer behind a webhook its answer is incomplete.
    """
    wanted = granted(rendered(plan))
    allowed = await asyncio.gather(*map(kube.may, wanted))
    return [permission for permission, yes in zip(wanted, allowed, strict=True) if not yes]


async def refusal(kube: Kube, plan: Plan) -> str:
    """Names every missing permission and what to do; empty when nothing is missing. Raises `KubeError`."""
    lacking = await missing(kube, plan)
    if not lacking:
        return ""
    command = f"python -m handover rbac --plan {plan.name} | kubectl apply -f -"
    return f"the deployer may not {', '.join(map(str, lacking))}: {APPLY} ({command})"
