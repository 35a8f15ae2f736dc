"""How far a rollout is, as ``kubectl rollout status`` says it, and why its pods do not start.

The verdicts are pure functions of the objects' JSON; `look` reads these objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from handover.coordination.routing import DEPLOYMENTS

if TYPE_CHECKING:
    from handover.ports.kube import Json, Kube

MAX_RESTARTS = 2
"""A container that ended this often after its first start does not start: three times is no accident."""
PATIENCE_SECONDS = 15.0
"""How long a pod may fail to get its image or its settings; the kubelet tries again after 10 s."""
LOG_LINES = 5

_HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
_MAY_RECOVER = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


class RolloutPhase(StrEnum):
    DONE = "done"
    PROGRESSING = "progressing"
    FAILED = "failed"


@dataclass(frozen=True)
class Rollout:
    phase: RolloutPhase
    text: str


@dataclass(frozen=True)
class ContainerTrouble:
    """A container that does not start. ``final``: waiting longer would not help."""

    pod: str
    container: str
    reason: str
    message: str
    restarts: int
    final: bool
    exit_code: int | None = None
    """Of a container that ran and ended; None for one that never ran."""

    def __str__(self) -> str:
        restarts = f" after {self.restarts} restarts" if self.restarts else ""
        code = f", exit code {self.exit_code}" if self.exit_code is not None else ""
        message = f": {self.message}" if self.message else ""
        return f"container {self.container} of pod {self.pod} is in {self.reason}{restarts}{code}{message}"


def rollout_status(deployment: Json) -> Rollout:
    """Done, progressing or failed, by the rules of ``kubectl rollout status`` (plan 2.2 step 4).

    One difference: a Deployment scaled to 0 is never done, for then there is nothing to send traffic to.
    """
    wanted = deployment["spec"].get("replicas", 1)
    status = deployment.get("status") or {}
    if wanted == 0:
        return Rollout(RolloutPhase.FAILED, "the Deployment is scaled to 0")
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return Rollout(RolloutPhase.PROGRESSING, "the new template has not been noticed yet")
    for condition in status.get("conditions") or ():
        if condition["type"] == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded":
            return Rollout(
                RolloutPhase.FAILED, f"ProgressDeadlineExceeded: {condition.get('message') or 'no progress'}"
            )
    updated = status.get("updatedReplicas") or 0
    old = (status.get("replicas") or 0) - updated
    available = status.get("availableReplicas") or 0
    if updated < wanted:
        return Rollout(RolloutPhase.PROGRESSING, f"{updated} of {wanted} new replicas have been made")
    if old > 0:
        return Rollout(RolloutPhase.PROGRESSING, f"{old} old replicas are still ending")
    if available < updated:
        return Rollout(RolloutPhase.PROGRESSING, f"{available} of {updated} new replicas are available")
    return Rollout(RolloutPhase.DONE, f"{available} of {wanted} replicas are available")


def troubles(pods: list[Json], image: str) -> list[ContainerTrouble]:
    """The containers of this image's pods that do not start, hopeless ones first."""
    found = [
        trouble
        for pod in pods
        if not pod["metadata"].get("deletionTimestamp")
        and image in [container.get("image") for container in pod["spec"]["containers"]]
        for status in _statuses(pod)
        if (trouble := _trouble(pod["metadata"]["name"], status))
    ]
    return sorted(found, key=lambda trouble: not trouble.final)


def _statuses(pod: Json) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _trouble(pod: str, status: dict[str, Any]) -> ContainerTrouble | None:
    state = status.get("state") or {}
    restarts = status.get("restartCount") or 0
    waiting, ended = state.get("waiting"), state.get("terminated")
    last = ended or (status.get("lastState") or {}).get("terminated") or {}
    crashed = ended is not None and ended.get("exitCode", 0) != 0
    if waiting and waiting.get("reason") in _HOPELESS | _MAY_RECOVER:
        final = waiting["reason"] in _HOPELESS
        return ContainerTrouble(pod, status["name"], waiting["reason"], waiting.get("message") or "", restarts, final)
    if crashed or (waiting and waiting.get("reason") == "CrashLoopBackOff"):
        reason = waiting["reason"] if waiting else last.get("reason") or "Error"
        message = (waiting or {}).get("message") or last.get("message") or ""
        final, code = restarts >= MAX_RESTARTS, last.get("exitCode")
        return ContainerTrouble(pod, status["name"], reason, message, restarts, final, code)
    return None


async def look(kube: Kube, name: str, labels: dict[str, str]) -> tuple[Rollout, list[ContainerTrouble]]:
    """One look at a Deployment and at those of its pods that do not start. Raises `KubeError`."""
    deployment = await kube.get(DEPLOYMENTS, name)
    status = rollout_status(deployment)
    if status.phase is RolloutPhase.DONE:
        return status, []
    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    return status, troubles(await kube.list("pods", labels), image)


async def explain(kube: Kube, trouble: ContainerTrouble) -> str:
    """The trouble with the last lines that the container printed."""
    from handover.ports.kube import KubeError

    try:
        lines = (await kube.logs(trouble.pod, trouble.container)).strip().splitlines()[-LOG_LINES:]
    except KubeError:
        lines = []  # a container that never started has no log
    return f"{trouble}; it printed: {' | '.join(lines)}"[:1500] if lines else str(trouble)
