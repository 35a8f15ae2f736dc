"""The Deployment of one colour, and what a Service says about who serves. Pure."""

from __future__ import annotations

from string import Template
from typing import Any

import yaml

from pms.plan.model import INCLUDE, Cluster, Plan

DEPLOYMENTS = "apps/v1/deployments"
SERVICES = "services"


def deployment(plan: Plan, colour: str, version: str, image: str) -> dict[str, Any]:
    """The Deployment object of a release, from the plan's ``cluster.manifest`` template (plan 2.2 step 3)."""
    cluster = plan.cluster
    template = Template((INCLUDE / "k8s" / cluster.manifest).read_text(encoding="utf-8"))
    text = template.substitute(
        name=cluster.deployment_of(colour),
        app=cluster.app,
        colour_key=cluster.colour_key,
        colour=colour,
        version=version,
        image=image,
        replicas=cluster.replicas,
        deadline=max(2, int(cluster.rollout_timeout_seconds)),
        container=cluster.container,
        port=cluster.port,
        secret=cluster.settings_secret,
        cpu_limit=cluster.cpu_limit,
        memory_limit=cluster.memory_limit,
        health_path=plan.health.path,
    )
    body = yaml.safe_load(text)
    if plan.image.pull_secret:
        body["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": plan.image.pull_secret}]
    return body


def selects(cluster: Cluster, service: dict[str, Any], colour: str) -> bool:
    """Whether the Service sends to this colour; without a colour in its selector it sends to both."""
    selector = service["spec"].get("selector") or {}
    return selector.get(cluster.colour_key) in (None, colour)
