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

from pms.kube.client import Conflict, Json, Kube, NotFound
from pms.plan.model import INCLUDE

if TYPE_CHECKING:
    from pms.plan.model import Cluster

JOBS = "batch/v1/jobs"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Command:
    """What to run. ``key`` makes the Job's name: the same key finds the same Job again instead of a second one."""

    name: str
    key: str
    image: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(default_factory=dict)

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
    container = job["spec"]["template"]["spec"]["containers"][0]
    container["command"] = list(command.argv)
    container.setdefault("env", []).extend({"name": k, "value": v} for k, v in command.env.items())
    return job


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
    pods = await kube.list("pods", {"job-name": name})
    if not pods:
        return ""
    newest = max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"])
    return await kube.logs(newest["metadata"]["name"], container)


async def run(kube: Kube, cluster: Cluster, command: Command) -> JobResult:
    """Submits, waits and reads the output. Raises `TimeoutError` after the plan's job_timeout_seconds."""
    name = await submit(kube, cluster, command)
    async with asyncio.timeout(cluster.job_timeout_seconds):
        while (done := await outcome(kube, name)) is None:
            await asyncio.sleep(POLL_SECONDS)
    return JobResult(done, await output(kube, name, cluster.container))
