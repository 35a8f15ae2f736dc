"""Runs one command as a Kubernetes Job, usually in a release's own image, and tells how it ended.

A step may be killed half-way and run again; then the Job that it started goes on and is found again, instead of the
command running twice. A step that is run again after its answer was read (somebody cleared the task) asks anew.
"""

from __future__ import annotations

import hashlib
import logging
import re
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.kube.events import Events
from handover.kube.reasons import Patience, Trouble, of_job, told, unusual_ends
from handover.kube.waiting import Overdue, until
from handover.models.annotations import as_annotations, notes
from handover.models.containers import container_of, find_container
from handover.models.redaction import redacted
from handover.plan.manifest import Values, filled
from handover.plan.parts import included
from handover.ports.kube import MAX_POD_BYTES, Conflict, KubeError, NotFound

if TYPE_CHECKING:
    from handover.plan.model import Cluster
    from handover.ports.kube import Json, Kube

log = logging.getLogger(__name__)
JOBS = "batch/v1/jobs"
ANSWERED = "answered"
"""Our annotation of a Job whose answer was read."""
LOGIN = "/run/registry"
"""Where a foreign program finds the registry's login."""


@dataclass(frozen=True)
class Command:
    """What to run. ``key`` names who asks: the same key finds the same Job again, until its answer was read."""

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
    """The Secret whose keys are its environment, instead of the application's settings."""
    settings: bool = True
    """Whether it gets the application's settings, and with them its passwords."""
    builds: bool = False
    """It unpacks and writes images, for which a container's usual user and capabilities are needed."""

    def job_name(self, attempt: int = 1) -> str:
        """A DNS label of at most 63 characters, unique to name, key and attempt."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")[:45]
        return f"{slug}-{hashlib.sha256(f'{self.key}/{attempt}'.encode()).hexdigest()[:10]}".lstrip("-")


def manifest(cluster: Cluster, command: Command, attempt: int = 1) -> Json:
    """The Job object, from the plan's ``job_manifest`` template."""
    text = included("k8s", cluster.job_manifest).read_text(encoding="utf-8")
    values: Values = {
        "name": command.job_name(attempt),
        "app": cluster.app,
        "container": cluster.container,
        "image": command.image,
        "secret": cluster.settings_secret or "none",
        "deadline": int(cluster.job_timeout_seconds),
    }
    job = filled(text, values)
    pod = job["spec"]["template"]["spec"]
    container = container_of(pod, cluster.container)
    container["command"] = list(command.argv)
    container.setdefault("env", []).extend({"name": k, "value": v} for k, v in command.env.items())
    if cluster.settings_secret is None or not command.settings:
        container.pop("envFrom", None)
    if command.env_secret:
        container["envFrom"] = [{"secretRef": {"name": command.env_secret}}]
    if command.builds:
        container.pop("securityContext", None)
        pod.get("securityContext", {}).pop("runAsNonRoot", None)
    if command.pull_secret:
        pod["imagePullSecrets"] = [{"name": command.pull_secret}]
    if command.foreign:
        _make_foreign(pod, container, command)
    return job


def _make_foreign(pod: Json, container: Json, command: Command) -> None:
    pod["automountServiceAccountToken"] = False
    if not command.env_secret:
        container["envFrom"] = []
    if command.pull_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        pod["volumes"] = [{"name": "login", "secret": {"secretName": command.pull_secret, "items": items}}]
        container["volumeMounts"] = [{"name": "login", "mountPath": LOGIN, "readOnly": True}]
        container["env"].append({"name": "DOCKER_CONFIG", "value": LOGIN})


@dataclass(frozen=True)
class JobEnd:
    """How a Job ended, with the cluster's own reason, which is empty when it succeeded."""

    job: str
    succeeded: bool | None
    """None: the command gave no answer. It never started, was stopped by its deadline, or its Job is gone."""
    reason: str = ""


@dataclass(frozen=True)
class JobResult(JobEnd):
    """The end of a Job with what its newest pod has left; ``exit_code`` None when nobody knows."""

    exit_code: int | None = None
    output: str = ""
    """What the container printed (stdout and stderr), for people: without what looks like a secret."""
    printed: str = field(default="", repr=False)
    """The same to the letter, for who reads an answer in it."""


async def submit(kube: Kube, cluster: Cluster, command: Command) -> str:
    """Starts the command, or finds the Job of a killed try; gives the Job's name.

    Attempts are counted in the cluster, not by Airflow, whose try number also grows when a worker is killed: an attempt
    is the first number whose Job nobody has `answered`. A Job that bears its name and runs something else is nobody's.
    """
    for attempt in count(1):
        wanted = manifest(cluster, command, attempt)
        name = wanted["metadata"]["name"]
        found = await kube.find(JOBS, name)
        if found is None:
            try:
                await kube.create(JOBS, wanted)
                return name
            except Conflict:  # somebody was quicker, perhaps with the same one
                found = await kube.get(JOBS, name)
        if _runs(found, cluster.container) != _runs(wanted, cluster.container):
            log.warning("Job %s was made by somebody else, and does something else: it is left alone", name)
        elif ANSWERED not in notes(found):
            return name
    raise AssertionError("unreachable")


def _runs(job: Json, container: str) -> tuple[Any, ...] | None:
    """What a Job's container runs, of which image: by digest where it has one, else without its registry and folder,
    instead of which an admission may have put a mirror.
    """
    own = find_container(job["spec"]["template"]["spec"], container)
    if own is None:
        return None
    image, _, digest = str(own.get("image")).partition("@")
    return digest or image.rpartition("/")[2], own.get("command"), own.get("args")


async def answered(kube: Kube, end: JobEnd) -> None:
    """Marks the Job, so that the same command is a new Job from now on. One that gave no answer is stopped by it: what
    nobody waits for must not run later. One that is gone is fine.
    """
    change: Json = {"metadata": {"annotations": as_annotations(**{ANSWERED: "true"})}}
    if end.succeeded is None:
        change["spec"] = {"activeDeadlineSeconds": 1}
    with suppress(NotFound):
        await kube.merge(JOBS, end.job, change)


def ending(job: Json) -> JobEnd | None:
    """How a Job has ended, by its conditions; None while it goes on."""
    name = job["metadata"]["name"]
    for condition in (job.get("status") or {}).get("conditions") or ():
        if condition["status"] != "True":
            continue
        if condition["type"] == "Complete":
            return JobEnd(name, True)
        if condition["type"] == "Failed":
            why = condition.get("reason") or ""
            return JobEnd(name, None if why == "DeadlineExceeded" else False, condition.get("message") or why)
    return None


async def keeping(kube: Kube, job: Json, events: Events) -> list[Trouble]:
    """What keeps a Job's program from starting, least to be waited for first; a container that ran and failed fails its
    Job by itself.
    """
    pods = await _pods(kube, job["metadata"]["name"])
    found = of_job(job, pods)
    asked = [one.pod or job["metadata"]["name"] for one in found]
    if asked and (said := await events.of(kube, asked)):
        found = of_job(job, pods, said)
    return [one for one in found if one.exit_code is None]


class _Wait:
    """For one Job; remembers what kept it, for a Job that its deadline stops leaves no pod to ask."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube, self.name, self.kept_by, self._ran = kube, name, "", False
        self._patience, self._events = Patience(), Events()

    async def look(self) -> JobEnd | None:
        job = await self.kube.find(JOBS, self.name)
        if job is None:
            return JobEnd(self.name, None, "the Job is gone")
        if end := ending(job):
            never = end.succeeded is None and self.kept_by and not self._ran
            return replace(end, reason=f"{end.reason}; it never ran: {self.kept_by}") if never else end
        found = await keeping(self.kube, job, self._events)
        if (line := told(found)) != self.kept_by and line:
            log.info("Job %s: %s", self.name, line)
        self.kept_by, self._ran = line, self._ran or not found
        hopeless = self._patience.exhausted(found, clock.epoch())
        return JobEnd(self.name, None, str(hopeless)) if hopeless else None


async def wait(kube: Kube, name: str, deadline: float) -> JobEnd:
    """Waits until a Job has ended, cannot start or is overdue; ``deadline`` in seconds since the epoch.

    Raises a `KubeError` that does not pass by itself.
    """
    waiting = _Wait(kube, name)
    try:
        return await until(waiting.look, deadline)
    except Overdue as late:
        why = "; ".join(text for text in (str(late), waiting.kept_by) if text)
        return JobEnd(name, None, f"no answer in time{f': {why}' if why else ''}")


async def result(kube: Kube, end: JobEnd, container: str) -> JobResult:
    """The end with exit code and log. A log that cannot be read says so instead."""
    pods = await _pods(kube, end.job)
    if not pods:
        return JobResult(**asdict(end))
    pod = max(pods, key=lambda one: one["metadata"]["creationTimestamp"])
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    state = next((one.get("state") or {} for one in statuses if one["name"] == container), {})
    said = await _log(kube, pod["metadata"]["name"], container) if "waiting" not in state else ""
    end = end if end.succeeded else replace(end, reason=_with_reason_of(pod, end.reason))
    code = (state.get("terminated") or {}).get("exitCode")
    return JobResult(**asdict(end), exit_code=code, output=redacted(said), printed=said)


def _with_reason_of(pod: Json, reason: str) -> str:
    """An exit code alone does not say that a program was ended for its memory, or that its node was."""
    return "; ".join(text for text in (reason, *unusual_ends(pod)) if text)


async def run(kube: Kube, cluster: Cluster, command: Command) -> JobResult:
    """Submits, waits and reads, within a task; for no longer than the plan's job_timeout_seconds."""
    return await finished(kube, cluster, await submit(kube, cluster, command))


async def finished(kube: Kube, cluster: Cluster, name: str) -> JobResult:
    """Waits for a Job that was submitted, and reads it."""
    end = await wait(kube, name, clock.epoch() + cluster.job_timeout_seconds)
    return await result(kube, end, cluster.container)


async def _pods(kube: Kube, name: str) -> list[Json]:
    return await kube.list("pods", {"job-name": name})


async def _log(kube: Kube, pod: str, container: str) -> str:
    try:
        said = await kube.logs(pod, container)
    except KubeError as error:
        return f"the log of pod {pod} cannot be read: {error}"
    return said if len(said) < MAX_POD_BYTES else f"{said}\nthe log of pod {pod} goes on; no more of it is read"
