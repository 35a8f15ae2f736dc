"""The Deployment of one colour. Pure."""

from __future__ import annotations

from typing import Any

from handover.models.annotations import as_annotations
from handover.plan import manifest
from handover.plan.model import Plan
from handover.plan.parts import included


def deployment(plan: Plan, colour: str, version: str, image: str, generation: int) -> dict[str, Any]:
    """The Deployment object of a release, from the plan's ``cluster.manifest`` template (plan 2.2 step 3)."""
    cluster = plan.cluster
    text = included("k8s", cluster.manifest).read_text(encoding="utf-8")
    values: manifest.Values = {
        "name": cluster.deployment_of(colour),
        "app": cluster.app,
        "colour_key": cluster.colour_key,
        "colour": colour,
        "version": version,
        "image": image,
        "replicas": cluster.replicas,
        "deadline": max(2, int(cluster.rollout_timeout_seconds)),
        "container": cluster.container,
        "port": cluster.port,
        "secret": cluster.settings_secret or "",
        "cpu_limit": cluster.cpu_limit,
        "memory_limit": cluster.memory_limit,
        "health_path": plan.health.path,
    }
    body = manifest.filled(text, values)
    body["metadata"].setdefault("annotations", {}).update(as_annotations(generation=str(generation), image=image))
    if plan.image.pull_secret:
        body["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": plan.image.pull_secret}]
    return body
