"""The twin of the cluster: objects with compare and swap in memory, and what controllers make of them.

It has no tasks and no time of its own: what a Deployment's pods are at a moment, and a Job, follows from when it was
changed, by the running loop's time. ``tests/contracts`` holds it to the same promises as the stand-in and a real
Kubernetes.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from handover import clock
from handover.models.annotations import AGENT
from handover.ports.kube import (
    MAX_LOG_LINES,
    MAX_POD_BYTES,
    REQUEST_TIMEOUT,
    Conflict,
    Json,
    KubeError,
    NotFound,
    Permission,
    PodAnswer,
)
from sandbox.cluster.apply import apply
from sandbox.cluster.patch import merge_patch

DEPLOYMENTS, PODS, SERVICES, JOBS = "apps/v1/deployments", "pods", "services", "batch/v1/jobs"
SLICES = "discovery.k8s.io/v1/endpointslices"
KINDS = {
    DEPLOYMENTS: ("apps/v1", "Deployment"), SERVICES: ("v1", "Service"), JOBS: ("batch/v1", "Job"),
    "configmaps": ("v1", "ConfigMap"), "coordination.k8s.io/v1/leases": ("coordination.k8s.io/v1", "Lease"),
}  # fmt: skip
Key = tuple[str, str, str]
Program = Callable[[str, list[str]], tuple[int, str]]
"""Image and command to exit code and output."""
PodApp = Callable[[str, str, str, dict[str, str]], str]
"""Pod, method, path and headers to the body; raises `KubeError` for a bad status."""


def copied(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


@dataclass
class Pod:
    """One pod of a Deployment. ``ready_at``: by the loop's time; infinity for one that never gets ready."""

    name: str
    labels: dict[str, str]
    template: Json
    ready_at: float


@dataclass
class JobRun:
    """What the program of one Job did, by the loop's time. ``ends``: infinity for one that never begins."""

    began: float
    ends: float
    code: int
    output: str


@dataclass
class TwinCluster:
    """What all clients share. ``start_seconds``: how long a pod takes until it is ready; ``job_seconds``: how long a
    Job's program takes; ``missing_images``: those that nobody can pull.
    """

    start_seconds: float = 0.0
    job_seconds: float = 0.0
    program: Program = lambda _image, _argv: (0, "")
    app: PodApp = lambda _pod, _method, _path, _headers: ""
    headers: Callable[[str], dict[str, str]] = lambda _pod: {}
    """Of every answer of a pod, by lower-case name."""
    missing_images: set[str] = field(default_factory=set)
    said: dict[str, list[Json]] = field(default_factory=dict)
    """Events, by the name of the object that they are about."""
    denied: set[str] = field(default_factory=set)
    """Resources that the deployer may not touch."""
    on_write: Callable[[Key, Json | None, Json], None] = lambda _key, _old, _new: None
    """Hears of everything that is kept."""
    others_go_on: bool = True
    """Whether others get a turn at every call; False for who schedules the calls himself."""

    def __post_init__(self) -> None:
        self.objects: dict[Key, Json] = {}
        self.pods: dict[tuple[str, str], list[Pod]] = {}
        self.runs: dict[Key, JobRun] = {}
        self.before: dict[Key, Json] = {}
        """What stood there before the last change, for stale reads."""
        self._versions = itertools.count(1)
        self._names = itertools.count(1)

    def client(self, namespace: str = "production") -> TwinKube:
        return TwinKube(self, namespace)

    # --- objects

    def read(self, key: Key) -> Json:
        if key not in self.objects:
            raise NotFound(404, f'{key[0].rpartition("/")[2]} "{key[2]}" not found')
        if key[0] == DEPLOYMENTS:
            self._report(key)
        if key[0] == JOBS:
            self._report_job(key)
        return copied(self.objects[key])

    def write(self, key: Key, body: Json, *, keep: bool = True) -> Json:
        """Stores the object as it is to be, with what the API server adds; ``keep`` False only tries."""
        old = self.objects.get(key)
        new: Json = copied(body)
        meta = new.setdefault("metadata", {})
        meta.update(name=key[2], namespace=key[1])
        new["apiVersion"], new["kind"] = KINDS.get(key[0], ("v1", key[0].capitalize()))
        if key[0] in (DEPLOYMENTS, JOBS):
            new["status"] = old["status"] if old else {}
            changed = old is None or old["spec"] != new["spec"]
            meta["generation"] = (old["metadata"]["generation"] if old else 0) + changed
        meta["resourceVersion"] = old["metadata"]["resourceVersion"] if old else "0"
        if old is not None and old == new:
            return new
        meta["resourceVersion"] = str(next(self._versions))
        if keep:
            if old is not None:
                self.before[key] = old
            self.objects[key] = new
            self.on_write(key, old, new)
            if key[0] == DEPLOYMENTS and meta["generation"] != (old or {"metadata": {}})["metadata"].get("generation"):
                self._roll(key, new)
        return copied(new)

    def check_version(self, key: Key, body: Json) -> None:
        """Raises `Conflict` when ``body`` was read before somebody else's change."""
        wanted = body.get("metadata", {}).get("resourceVersion")
        if wanted and wanted != self.read(key)["metadata"]["resourceVersion"]:
            raise Conflict(409, f"the object {key[2]} has been modified; please apply your changes to the latest one")

    @contextmanager
    def as_before(self) -> Iterator[None]:
        """Reads see what stood there before the last change of each object."""
        now, self.objects = self.objects, {**self.objects, **self.before}
        try:
            yield
        finally:
            self.objects = now

    # --- what controllers make of them

    def _roll(self, key: Key, deployment: Json) -> None:
        """New pods for a new template, and as many as there are to be; the youngest go first."""
        spec, now = deployment["spec"], clock.monotonic()
        template, wanted = spec["template"], spec.get("replicas", 1)
        pods = [pod for pod in self.pods.get(key[1:], []) if pod.template == template][:wanted]
        image = template["spec"]["containers"][0]["image"]
        ready_at = float("inf") if image in self.missing_images else now + self.start_seconds
        while len(pods) < wanted:
            name = f"{key[2]}-{next(self._names)}"
            pods.append(Pod(name, template["metadata"]["labels"], copied(template), ready_at))
        self.pods[key[1:]] = pods

    def _report(self, key: Key) -> None:
        deployment, now = self.objects[key], clock.monotonic()
        pods = self.pods.get(key[1:], [])
        ready = sum(pod.ready_at <= now for pod in pods)
        status = {
            "observedGeneration": deployment["metadata"]["generation"], "replicas": len(pods),
            "updatedReplicas": len(pods), "readyReplicas": ready, "availableReplicas": ready,
        }  # fmt: skip
        if status != deployment["status"]:
            deployment["status"] = status
            deployment["metadata"]["resourceVersion"] = str(next(self._versions))

    def ready_pods(self, namespace: str, selector: dict[str, str]) -> list[Pod]:
        """Ready pods with these labels."""
        now = clock.monotonic()
        return [
            pod
            for (where, _), pods in self.pods.items()
            for pod in pods
            if where == namespace and pod.ready_at <= now and selector.items() <= pod.labels.items()
        ]

    def behind(self, namespace: str, service: str) -> list[Pod]:
        """Who gets new connections of a Service."""
        found = self.objects[SERVICES, namespace, service]
        selector = found["spec"].get("selector") or {}
        return self.ready_pods(namespace, selector) if selector else []

    def all_of(self, resource: str, namespace: str) -> list[Json]:
        if resource == PODS:
            deployed = [_pod(pod) for (where, _), pods in self.pods.items() if where == namespace for pod in pods]
            jobs = [key for key in self.objects if key[:2] == (JOBS, namespace)]
            return deployed + [pod for key in jobs for pod in self._job_pods(key)]
        if resource == SLICES:
            services = [key for key in self.objects if key[:2] == (SERVICES, namespace)]
            return [_slice(name, self.behind(namespace, name)) for _, _, name in services]
        return [self.read(key) for key in self.objects if key[:2] == (resource, namespace)]

    def run_job(self, key: Key) -> None:
        """Its program is over at once, but told of after `job_seconds`. That of a missing image never begins."""
        container = _container(self.objects[key])
        now = clock.monotonic()
        if container["image"] in self.missing_images:
            self.runs[key] = JobRun(now, float("inf"), 0, "")
            return
        self.runs[key] = JobRun(now, now + self.job_seconds, *self.program(container["image"], container["command"]))

    def _report_job(self, key: Key) -> None:
        job, run, now = self.objects[key], self.runs[key], clock.monotonic()
        if job["status"]:
            return
        stops = run.began + job["spec"].get("activeDeadlineSeconds", float("inf"))
        if now < min(run.ends, stops):
            return
        kind, reason, message = "Complete", "CompletionsReached", "Reached expected number of succeeded pods"
        if stops < run.ends:
            kind, reason, message = "Failed", "DeadlineExceeded", "Job was active longer than specified deadline"
        elif run.code:
            kind, reason, message = "Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit"
        job["status"] = {"conditions": [{"type": kind, "status": "True", "reason": reason, "message": message}]}
        job["metadata"]["resourceVersion"] = str(next(self._versions))

    def _job_pods(self, key: Key) -> list[Json]:
        """The pod of a Job; one that its deadline stopped is gone."""
        job, run = self.read(key), self.runs[key]
        ended = [one["reason"] for one in job["status"].get("conditions", ())]
        if "DeadlineExceeded" in ended:
            return []
        container = _container(job)
        state = {"terminated": {"exitCode": run.code}} if ended else {"running": {}}
        if run.ends == float("inf"):
            state = _not_pulled(container["image"])
        return [{
            "metadata": {"name": f"{key[2]}-pod", "labels": {"job-name": key[2]}, "creationTimestamp": "2026-01-01"},
            "spec": copied(job["spec"]["template"]["spec"]),
            "status": {"containerStatuses": [{"name": container["name"], "state": state}]},
        }]  # fmt: skip

    def job_log(self, namespace: str, pod: str) -> str:
        """What a Job's pod has printed. Raises `NotFound`."""
        key = (JOBS, namespace, pod.removesuffix("-pod"))
        if key not in self.objects or not self._job_pods(key):
            raise NotFound(404, f'pods "{pod}" not found')
        return self.runs[key].output


@dataclass(frozen=True)
class TwinKube:
    """A client of one namespace, as `handover.ports.kube.Kube` has it."""

    cluster: TwinCluster
    namespace: str
    dry_run: bool = False

    def rehearsing(self) -> TwinKube:
        return TwinKube(self.cluster, self.namespace, dry_run=True)

    async def get(self, resource: str, name: str) -> Json:
        await self._travel()
        return self.cluster.read(self._key(resource, name))

    async def find(self, resource: str, name: str) -> Json | None:
        try:
            return await self.get(resource, name)
        except NotFound:
            return None

    async def events(self, about: str) -> list[Json]:
        await self._travel()
        self._key("events", about)
        return copied(self.cluster.said.get(about, []))

    async def list(self, resource: str, labels: dict[str, str] | None = None) -> list[Json]:
        await self._travel()
        found, wanted = self.cluster.all_of(resource, self.namespace), (labels or {}).items()
        return [one for one in found if wanted <= (one["metadata"].get("labels") or {}).items()]

    async def nodes(self) -> list[Json]:
        return [{"metadata": {"name": "twin"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}]

    async def create(self, resource: str, body: Json) -> Json:
        await self._travel()
        key = self._key(resource, body["metadata"]["name"])
        if key in self.cluster.objects:
            raise Conflict(409, f'{key[0]} "{key[2]}" already exists')
        return self._write(key, body)

    async def replace(self, resource: str, name: str, body: Json) -> Json:
        await self._travel()
        key = self._key(resource, name)
        self.cluster.read(key)
        self.cluster.check_version(key, body)
        return self._write(key, body)

    async def merge(self, resource: str, name: str, body: Json) -> Json:
        await self._travel()
        key = self._key(resource, name)
        current = self.cluster.read(key)
        self.cluster.check_version(key, body)
        return self._write(key, merge_patch(current, body))

    async def apply(self, resource: str, body: Json) -> Json:
        await self._travel()
        key = self._key(resource, body["metadata"]["name"])
        if key in self.cluster.objects:
            self.cluster.check_version(key, body)
        wanted = {**body, "metadata": {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}}
        return self._write(key, apply(self.cluster.objects.get(key), wanted, AGENT, force=True))

    async def delete(self, resource: str, name: str) -> None:
        await self._travel()
        key = self._key(resource, name)
        if not self.dry_run:
            self.cluster.objects.pop(key, None)
            if resource == DEPLOYMENTS:
                self.cluster.pods.pop(key[1:], None)

    async def proxy(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> str:  # fmt: skip
        return (await self.proxied(pod, port, path, method, headers, timeout)).body

    async def proxied(
        self, pod: str, port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None,
        timeout: float = REQUEST_TIMEOUT,
    ) -> PodAnswer:  # fmt: skip
        if self.dry_run and method != "GET":
            raise ValueError(f"{method} {path}: a pod knows no dry run")
        await self._travel()
        if not any(one.name == pod for pods in self.cluster.pods.values() for one in pods):
            raise NotFound(404, f'pods "{pod}" not found')
        return PodAnswer(self.cluster.app(pod, method, path, headers or {}), self.cluster.headers(pod))

    async def logs(self, pod: str, container: str) -> str:
        await self._travel()
        end = self.cluster.job_log(self.namespace, pod).splitlines(keepends=True)[-MAX_LOG_LINES:]
        return "".join(end).encode()[:MAX_POD_BYTES].decode("utf-8", "replace")

    async def may(self, permission: Permission) -> bool:
        return permission.resource not in self.cluster.denied

    def _key(self, resource: str, name: str) -> Key:
        if resource.rpartition("/")[2] in self.cluster.denied:
            raise KubeError(403, f"{resource} is forbidden")
        return resource, self.namespace, name

    def _write(self, key: Key, body: Json) -> Json:
        written = self.cluster.write(key, body, keep=not self.dry_run)
        if key[0] == JOBS and not self.dry_run and key not in self.cluster.runs:
            self.cluster.run_job(key)
        return written

    async def _travel(self) -> None:
        if self.cluster.others_go_on:
            await asyncio.sleep(0)


def _container(job: Json) -> Json:
    found: Json = job["spec"]["template"]["spec"]["containers"][0]
    return found


def _not_pulled(image: str) -> Json:
    return {"waiting": {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "{image}"'}}


def _pod(pod: Pod) -> Json:
    ready = pod.ready_at <= clock.monotonic()
    return {
        "metadata": {"name": pod.name, "labels": dict(pod.labels), "creationTimestamp": "2026-01-01"},
        "spec": copied(pod.template["spec"]),
        "status": {
            "phase": "Pending" if pod.ready_at == float("inf") else "Running",
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [
                {"name": one["name"], "state": _state(pod, one), "restartCount": 0}
                for one in pod.template["spec"]["containers"]
            ],
        },
    }


def _state(pod: Pod, container: Json) -> Json:
    return _not_pulled(container["image"]) if pod.ready_at == float("inf") else {"running": {}}


def _slice(service: str, pods: list[Pod]) -> Json:
    endpoints = [{"targetRef": {"kind": "Pod", "name": pod.name}, "conditions": {"ready": True}} for pod in pods]
    labels = {"kubernetes.io/service-name": service}
    return {"metadata": {"name": f"{service}-1", "labels": labels}, "endpoints": endpoints}
