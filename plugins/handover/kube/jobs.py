"""Runs one command of a release as a Kubernetes Job, in the release's own image, and gives its output."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from string import Template
from typing import TYPE_CHECKING

import yaml

from handover.plan.model import INCLUDE
from handover.ports.kube import Conflict, Json, Kube, KubeError, NotFound

if TYPE_CHECKING:
    from handover.plan.model import Cluster

JOBS = "batch/v1/jobs"
POLL_SECONDS = 0.5
LOGIN = "/run/registry"
"""Where a foreign program finds the registry's login."""


@dataclass(frozen=True)
class Command:
    """What to run. ``key`` makes the Job's name: the same key finds the same Job again instead of a second one."""

    name: str
    key: str
    image: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)
    pull_secret: str | None = None
    """The dockerconfigjson Secret with which the pod gets its image."""
    foreign: bool = False
    """Not the release's own program: it gets none of the application's settings and no token of the cluster, but the
    registry's login, where programs look for it (``$DOCKER_CONFIG/config.json``)."""
    env_secret: str | None = None
    """Of a foreign program: the Secret whose keys are its environment."""

    @property
    def job_name(self) -> str:
        """A DNS label of at most 63 characters, unique to name and key."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:45]
        return f"{slug}-{hashlib.sha256(self.key.encode()).hexdigest()[:10]}".lstrip("-")


@dataclass(frozen=True)
class JobResult:
    succeeded: bool
    output: str
    """What the container printed (stdout and stderr)."""


@dataclass(frozen=True)
class ContainerEnd:
    """How the container of a Job's newest pod ended; ``exit_code`` None when nobody knows."""

    exit_code: int | None
    output: str


def manifest(cluster: Cluster, command: Command) -> Json:
    """The Job object, from the plan's ``job_manifest`` template."""
    text = Template((INCLUDE / "k8s" / cluster.job_manifest).read_text(encoding="utf-8")).substitute(
        name=command.job_name,
        app=cluster.app,
        container=cluster.container,
        image=command.image,
        secret=cluster.settings_secret,
        deadline=int(cluster.job_timeout_seconds),
    )
    job = yaml.safe_load(text)
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    container["command"] = list(command.argv)
    container.setdefault("env", []).extend({"name": k, "value": v} for k, v in command.env.items())
    if command.pull_secret:
        pod["imagePullSecrets"] = [{"name": command.pull_secret}]
    if command.foreign:
        _make_foreign(pod, container, command)
    return job


def _make_foreign(pod: Json, container: Json, command: Command) -> None:
    pod["automountServiceAccountToken"] = False
    container["envFrom"] = [{"secretRef": {"name": command.env_secret}}] if command.env_secret else []
    if command.pull_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        pod["volumes"] = [{"name": "login", "secret": {"secretName": command.pull_secret, "items": items}}]
        container["volumeMounts"] = [{"name": "login", "mountPath": LOGIN, "readOnly": True}]
        container["env"].append({"name": "DOCKER_CONFIG", "value": LOGIN})


async def submit(kube: Kube, cluster: Cluster, command: Command) -> str:
    """Starts the Job unless it exists already; gives its name."""
    with suppress(Conflict):  # a killed try of the same step started it
        await kube.create(JOBS, manifest(cluster, command))
    return command.job_name


async def outcome(kube: Kube, name: str) -> bool | None:
    """True when the Job succeeded, False when it failed or is gone, None while it runs."""
    try:
        conditions = (await kube.get(JOBS, name)).get("status", {}).get("conditions", [])
    except NotFound:
        return False
    states = {c["type"]: c["status"] == "True" for c in conditions}
    if states.get("Complete"):
        return True
    return False if states.get("Failed") else None


async def output(kube: Kube, name: str, container: str) -> str:
    """The log of the Job's newest pod; empty when it never had one."""
    pod = await _newest_pod(kube, name)
    return await kube.logs(pod["metadata"]["name"], container) if pod else ""


async def ended(kube: Kube, name: str, container: str) -> ContainerEnd:
    """Exit code and log of the Job's newest pod. A log that cannot be read says so instead."""
    pod = await _newest_pod(kube, name)
    if pod is None:
        return ContainerEnd(None, "")
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    states = [(s.get("state") or {}).get("terminated") or {} for s in statuses if s["name"] == container]
    try:
        said = await kube.logs(pod["metadata"]["name"], container)
    except KubeError as error:
        said = f"the log of Job {name} cannot be read: {error}"
    return ContainerEnd(states[0].get("exitCode") if states else None, said)


async def _newest_pod(kube: Kube, name: str) -> Json | None:
    pods = await kube.list("pods", {"job-name": name})
    return max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"]) if pods else None


async def run(kube: Kube, cluster: Cluster, command: Command) -> JobResult:
    """Submits, waits and reads the output. Raises `TimeoutError` after the plan's job_timeout_seconds."""
    name = await submit(kube, cluster, command)
    async with asyncio.timeout(cluster.job_timeout_seconds):
        while (done := await outcome(kube, name)) is None:
            await asyncio.sleep(POLL_SECONDS)
    return JobResult(done, await output(kube, name, cluster.container))
