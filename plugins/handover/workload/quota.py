"""Whether the quotas of a namespace leave room for a colour. The decision is pure; `lacking` reads what it needs.

What is refused is refused for sure: a quota that cannot be read, or counts what is not known here, says nothing. The
cluster decides in the end, and its own words are told by `handover.kube.reasons`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from handover.coordination import size
from handover.models.quantity import quantity
from handover.ports.kube import KubeError

if TYPE_CHECKING:
    from handover.plan.model import Cluster
    from handover.ports.kube import Json, Kube

SCOPES = {"NotTerminating", "NotBestEffort"}
"""Of quotas that count the pods of a service; whoever has another one counts others, or it is not known."""
COUNTED = ("pods", "count/pods")


async def lacking(kube: Kube, deployment: Json) -> str:
    """What is in the way of a Deployment as it is to be; empty when nothing is known to be."""
    try:
        quotas = await kube.list("resourcequotas")
        pods = await kube.list("pods", deployment["spec"]["selector"]["matchLabels"]) if quotas else []
        return refusal(quotas, deployment, pods)
    except (KubeError, ValueError):  # or quantities of a kind that is not known
        return ""


async def fit(kube: Kube, cluster: Cluster, deployment: Json, serving: str) -> str:
    """Gives a Deployment as many pods as the colour that serves needs, and says what is in the way of them."""
    deployment["spec"]["replicas"] = max(size.declared(deployment), await size.needed(kube, cluster, serving))
    return await lacking(kube, deployment)


def refusal(quotas: Iterable[Json], deployment: Json, pods: Sequence[Json]) -> str:
    """Names every quota with too little room. ``pods``: what runs of this Deployment, which makes room."""
    problems = [problem for quota in quotas for problem in _problems(quota, deployment, pods)]
    return f"{'; '.join(problems)}: ask for more, or free some" if problems else ""


def _problems(quota: Json, deployment: Json, pods: Sequence[Json]) -> Iterator[str]:
    spec, status = quota.get("spec") or {}, quota.get("status") or {}
    pod, replicas = deployment["spec"]["template"]["spec"], deployment["spec"].get("replicas", 1)
    selects = (spec.get("scopeSelector") or {}).get("matchExpressions")
    if selects or not set(spec.get("scopes") or ()) <= SCOPES:
        return
    used = status.get("used") or {}
    for resource, hard in (status.get("hard") or spec.get("hard") or {}).items():
        asked = replicas * _asked(pod, resource)
        going = sum(_asked(one["spec"], resource) for one in pods if _counts(one))
        left = quantity(str(hard)) - quantity(str(used.get(resource, "0"))) + going
        if resource in used and asked > 0 and asked > left * (1 + 1e-9):
            yield (
                f"quota {quota['metadata']['name']} leaves {_said(resource, max(left, 0.0))} of {resource} {hard}, and "
                f"{deployment['metadata']['name']} asks for {_said(resource, asked)} ({replicas} pods)"
            )


def _counts(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")


def _asked(pod: Json, resource: str) -> float:
    """At least, by one pod: what an admission fills in is not known."""
    if resource in COUNTED:
        return 1.0
    kind = "limits" if resource.startswith("limits.") else "requests"
    name = resource.removeprefix(f"{kind}.")
    sidecars = [one for one in pod.get("initContainers") or () if one.get("restartPolicy") == "Always"]
    return sum(_of(one.get("resources") or {}, kind, name) for one in (*pod["containers"], *sidecars))


def _of(resources: Json, kind: str, name: str) -> float:
    """What a container does not request is what its limit is."""
    limits = resources.get("limits") or {}
    given = limits if kind == "limits" else limits | (resources.get("requests") or {})
    return quantity(str(given.get(name, "0")))


def _said(resource: str, value: float) -> str:
    return f"{value / 2**20:g}Mi" if resource.endswith(("memory", "storage")) else f"{value:g}"
