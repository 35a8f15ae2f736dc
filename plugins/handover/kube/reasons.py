"""Why pods do not come up, in the cluster's own words: a Deployment's, or a Job's. Pure functions of the objects' JSON.

A trouble says how long it may last. What a person has to change ends a wait within seconds; what may pass, or what
nobody here has heard of, is waited for, and told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from handover.models.redaction import by_shape

if TYPE_CHECKING:
    from handover.ports.kube import Json

MAX_RESTARTS = 2
"""A container that ended this often after its first start does not start: three times is no accident."""
PATIENCE_SECONDS = 15.0
"""How long a pod may fail to get its image; the kubelet tries again after 10 s."""
SETTLE_SECONDS = 3.0
"""How long what only a person can change has to be seen: what was so before the last change is told for a moment."""
MAX_MESSAGE = 400
MAX_TOLD = 4
"""Troubles of different kinds that are told at once."""

NO_REPLICA_SET = "ReplicaSetCreateError"
"""Said of a Deployment whose newest template is not even counted as noticed."""

Said = Mapping[str, Sequence["Json"]]
"""Events by the name of the object that they are about; without those of an object nothing is known of it."""

NOTHING: Said = MappingProxyType({})
_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_MAY_RECOVER = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ImageInspectError", "CreateContainerError", "RunContainerError"}
)
_USUAL_ENDS = frozenset({"Error", "Completed", ""})
_REFUSED = re.compile(r"exceeded quota|denied the request|violates PodSecurity|is invalid:", re.IGNORECASE)
_PASSING = re.compile(
    r"time[ds]?[ -]?out|deadline exceeded|connection re|calling webhook|call webhook|no endpoints|too many requests"
    r"|has been modified|internal error|leader changed|unavailable|not yet ready|status unknown|service account",
    re.IGNORECASE,
)
_FORBIDDEN = re.compile(r"\bis forbidden\b", re.IGNORECASE)
_LACKING = re.compile(r'(secret|configmap)s? "[^"]*" not found|find key ', re.IGNORECASE)


@dataclass(frozen=True)
class Trouble:
    """What keeps pods from coming up. ``patience``: seconds that it may last; infinity for what may pass."""

    about: str
    reason: str
    message: str = ""
    detail: str = ""
    patience: float = math.inf
    pod: str = ""
    container: str = ""
    exit_code: int | None = None
    """Of a container that ran and ended; None for one that never ran."""

    def __str__(self) -> str:
        message = f": {by_shape(self.message)[:MAX_MESSAGE]}" if self.message else ""
        return f"{self.about} {self.reason}{self.detail}{message}"

    @property
    def kind(self) -> str:
        """The same for pods that fare alike."""
        return str(self).replace(self.pod, "") if self.pod else str(self)


class Patience:
    """Remembers since when there is each trouble that does not pass by itself."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}

    def exhausted(self, troubles: Iterable[Trouble], now: float) -> Trouble | None:
        """The first trouble that has lasted for longer than it may."""
        counted = [one for one in troubles if one.patience < math.inf]
        self._since = {one.about: self._since.get(one.about, now) for one in counted}
        return next((one for one in counted if now - self._since[one.about] >= one.patience), None)


def told(troubles: Sequence[Trouble]) -> str:
    """All of them on one line; of pods that fare alike one is named, the others are counted."""
    alike: dict[str, list[Trouble]] = {}
    for one in troubles:
        alike.setdefault(one.kind, []).append(one)
    lines = [f"{some[0]}{f' (and {len(some) - 1} more)' if some[1:] else ''}" for some in alike.values()]
    more = [f"and {len(lines) - MAX_TOLD} other troubles"] if len(lines) > MAX_TOLD else []
    return "; ".join(lines[:MAX_TOLD] + more)


def of_deployment(deployment: Json, pods: Sequence[Json], said: Said = NOTHING) -> list[Trouble]:
    """Of a Deployment that is not rolled out, what can be waited for least first. ``pods``: those with its labels."""
    containers = deployment["spec"]["template"]["spec"]["containers"]
    found = [*_of_conditions(deployment, pods), *of_pods(_of_template(pods, containers), said)]
    return sorted(found, key=lambda one: one.patience)


def of_job(job: Json, pods: Sequence[Json], said: Said = NOTHING) -> list[Trouble]:
    """Of a Job that has not ended, likewise."""
    name = job["metadata"]["name"]
    if job["spec"].get("suspend"):
        return [Trouble(f"Job {name}", "is suspended")]
    if pods:
        return of_pods(pods, said)
    if refusal := _newest(said.get(name, ()), "FailedCreate"):
        return [_refused(f"Job {name} gets no pod:", refusal["reason"], refusal.get("message") or "", pods)]
    return [Trouble(f"Job {name}", "has no pod yet")]


def of_pods(pods: Iterable[Json], said: Said = NOTHING) -> list[Trouble]:
    """Of pods that are to stay, what can be waited for least first."""
    staying = (pod for pod in pods if not pod["metadata"].get("deletionTimestamp"))
    found = [one for pod in staying for one in _of_pod(pod, said.get(pod["metadata"]["name"], ()))]
    return sorted(found, key=lambda one: one.patience)


def unusual_ends(pod: Json) -> Iterator[str]:
    """What ended a pod, or a container of it, beside its own program: an eviction, its memory limit."""
    status = pod.get("status") or {}
    if status.get("reason"):
        yield f"pod {pod['metadata']['name']} was ended by {status['reason']}: {status.get('message') or ''}"
    known = {one.get("name"): one for one in pod["spec"]["containers"]}
    for one in status.get("containerStatuses") or ():
        ended = (one.get("state") or {}).get("terminated") or {}
        if (ended.get("reason") or "") not in _USUAL_ENDS:
            yield f"container {one['name']} was{_by(ended, known.get(one['name'], {}))}"


# --- of a Deployment


def _of_conditions(deployment: Json, pods: Sequence[Json]) -> Iterator[Trouble]:
    """Only what is said of the newest template, and only while pods of it are missing: a Deployment repeats what the
    ReplicaSets before had to say.
    """
    meta, spec, status = deployment["metadata"], deployment["spec"], deployment.get("status") or {}
    if spec.get("paused"):
        yield Trouble(f"Deployment {meta['name']}", "is paused and rolls nothing out", patience=SETTLE_SECONDS)
    missing = (status.get("updatedReplicas") or 0) < spec.get("replicas", 1)
    noticed = status.get("observedGeneration", 0) >= meta.get("generation", 0)
    for one in status.get("conditions") or ():
        reason = one.get("reason") or ""
        failure = noticed and one["type"] == "ReplicaFailure" and one.get("status") == "True"
        if missing and (failure or reason == NO_REPLICA_SET):
            yield _refused(f"Deployment {meta['name']} gets no pods:", reason, one.get("message") or "", pods)


def _refused(about: str, reason: str, message: str, pods: Sequence[Json]) -> Trouble:
    """Pods that the API server does not take. A quota may be free again once pods that are ending have ended."""
    ending = "exceeded quota" in message and any(pod["metadata"].get("deletionTimestamp") for pod in pods)
    sure = _REFUSED.search(message) or (_FORBIDDEN.search(message) and not _PASSING.search(message))
    return Trouble(about, reason, message, patience=SETTLE_SECONDS if sure and not ending else math.inf)


def _of_template(pods: Sequence[Json], containers: Sequence[Json]) -> Sequence[Json]:
    """Those with the images of the template: beside them there may be some of the one before. None is left out where an
    admission gives pods other images than the template has.
    """
    images = {one.get("image") for one in containers}
    ours = [pod for pod in pods if images <= {one.get("image") for one in pod["spec"]["containers"]}]
    return ours or pods


# --- of a pod


def _of_pod(pod: Json, said: Sequence[Json]) -> list[Trouble]:
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    about = f"pod {name} is"
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if status.get("phase") == "Failed" and status.get("reason"):
        return [Trouble(about, status["reason"], status.get("message") or "", pod=name)]
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        reason = scheduled.get("reason") or "not scheduled"
        return [Trouble(about, reason, scheduled.get("message") or "", pod=name)]
    if status.get("phase") == "Pending" and not status.get("containerStatuses"):
        node = pod["spec"].get("nodeName")
        return [Trouble(about, f"not started yet by node {node}" if node else "not scheduled yet", pod=name)]
    if found := list(_of_containers(pod, said)):
        return found
    ready = conditions.get("Ready", {})
    if ready.get("status") == "False" and ready.get("reason") == "ReadinessGatesNotReady":
        return [Trouble(about, "not ready", ready.get("message") or "", pod=name)]
    return []


def _of_containers(pod: Json, said: Sequence[Json]) -> Iterator[Trouble]:
    spec, status = pod["spec"], pod.get("status") or {}
    name = pod["metadata"]["name"]
    for initial, containers, statuses in (
        (True, spec.get("initContainers"), status.get("initContainerStatuses")),
        (False, spec["containers"], status.get("containerStatuses")),
    ):
        known = {one.get("name"): one for one in containers or ()}
        for one in statuses or ():
            container = known.get(one["name"], {})
            if trouble := _of_container(container, one, said, initial=initial):
                what = "init container" if initial else "container"
                about = f"{what} {one['name']} of pod {name} {trouble.about}"
                yield replace(trouble, about=about, pod=name, container=one["name"])


def _of_container(container: Json, status: Json, said: Sequence[Json], *, initial: bool) -> Trouble | None:
    """``about`` of it is only the verb."""
    state = status.get("state") or {}
    waiting, ended, restarts = state.get("waiting"), state.get("terminated"), status.get("restartCount") or 0
    last = ended or (status.get("lastState") or {}).get("terminated") or {}
    if waiting and waiting.get("reason") not in (None, "", "PodInitializing", "CrashLoopBackOff"):
        return _waiting(waiting, restarts, said)
    if (ended and ended.get("exitCode", 0)) or (waiting and waiting.get("reason") == "CrashLoopBackOff"):
        reason = waiting["reason"] if waiting else last.get("reason") or "Error"
        words = ((waiting or {}).get("message"), last.get("message"), _unhealthy(said))
        patience = 0.0 if restarts >= MAX_RESTARTS else PATIENCE_SECONDS
        return Trouble(
            "is in", reason, "; ".join(word for word in words if word), f"{_restarts(restarts)}{_how(last, container)}",
            patience, exit_code=last.get("exitCode"),
        )  # fmt: skip
    if "running" in state:
        return _running(container, status, said, last, initial=initial)
    return None


def _waiting(waiting: Json, restarts: int, said: Sequence[Json]) -> Trouble:
    reason, message = waiting["reason"], waiting.get("message") or ""
    patience = math.inf
    if reason in _HOPELESS:
        patience = 0.0
    elif reason in _MAY_RECOVER:
        patience = PATIENCE_SECONDS
    elif reason == "CreateContainerConfigError":
        patience = PATIENCE_SECONDS if _PASSING.search(message) else SETTLE_SECONDS
    elif reason == "ContainerCreating" and (newest := _newest(said)) and newest.get("type") == "Warning":
        message = f"{newest.get('reason')}: {newest.get('message') or ''}"
        patience = SETTLE_SECONDS if _LACKING.search(message) else math.inf
    return Trouble("is in", reason, message, _restarts(restarts), patience)


def _running(container: Json, status: Json, said: Sequence[Json], last: Json, *, initial: bool) -> Trouble | None:
    """A container that runs, and yet keeps its pod from being ready."""
    restarts = status.get("restartCount") or 0
    after = f"{_restarts(restarts)}{_how(last, container)}" if restarts and last else ""
    for kind, waits in (("startup", status.get("started") is False), ("readiness", status.get("ready") is False)):
        if waits and (probe := container.get(f"{kind}Probe")):
            reason = f"not ready: its {kind} probe ({_asks(probe)}) does not pass"
            return Trouble("is", reason, _unhealthy(said), after)
    if initial and container.get("restartPolicy") != "Always":
        return Trouble("is", "still running", detail=after)
    return None


def _restarts(number: int) -> str:
    return f" after {number} restarts" if number else ""


def _how(last: Json, container: Json) -> str:
    """How it ended last, in more than an exit code where there is more."""
    by = "" if (last.get("reason") or "") in _USUAL_ENDS else f",{_by(last, container)}"
    return by + (f", exit code {last['exitCode']}" if "exitCode" in last else "")


def _by(last: Json, container: Json) -> str:
    memory = ((container.get("resources") or {}).get("limits") or {}).get("memory")
    limit = f" (memory limit {memory})" if memory and last["reason"] == "OOMKilled" else ""
    return f" ended by {last['reason']}{limit}"


def _asks(probe: Json) -> str:
    """What a probe asks. Of a command no more than its program: its arguments may hold anything."""
    for kind, how in probe.items():
        if kind == "httpGet":
            return f"GET {how.get('path', '/')} on port {how.get('port')}"
        if kind == "exec":
            return f"the command {(how.get('command') or ['?'])[0]}"
        if kind in ("tcpSocket", "grpc"):
            return f"{kind} on port {how.get('port')}"
    return "of an unknown kind"


# --- of events


def _newest(events: Iterable[Json], reason: str = "") -> Json | None:
    return max((one for one in events if reason in ("", one.get("reason"))), key=_at, default=None)


def _at(event: Json) -> str:
    series = event.get("series") or {}
    moments = (series.get("lastObservedTime"), event.get("lastTimestamp"), event.get("eventTime"))
    return next((one for one in moments if one), None) or event.get("firstTimestamp") or ""


def _unhealthy(events: Iterable[Json]) -> str:
    """What a probe was answered last."""
    return (_newest(events, "Unhealthy") or {}).get("message") or ""
