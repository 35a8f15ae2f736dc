"""Why containers do not start: of a Deployment's pods, or of a Job's. Pure functions of the objects' JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handover.ports.kube import Json

MAX_RESTARTS = 2
"""A container that ended this often after its first start does not start: three times is no accident."""
PATIENCE_SECONDS = 15.0
"""How long a pod may fail to get its image or its settings; the kubelet tries again after 10 s."""

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


class Patience:
    """Remembers since when each container is in trouble, for troubles that may pass by themselves."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def exhausted(self, troubles: list[ContainerTrouble], now: float) -> ContainerTrouble | None:
        """The first trouble that is final, or older than `PATIENCE_SECONDS`; others may pass."""
        present = {(t.pod, t.container) for t in troubles}
        self._since = {key: since for key, since in self._since.items() if key in present}
        for trouble in troubles:
            since = self._since.setdefault((trouble.pod, trouble.container), now)
            if trouble.final or now - since >= PATIENCE_SECONDS:
                return trouble
        return None


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
