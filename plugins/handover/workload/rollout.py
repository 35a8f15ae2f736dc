"""How far a rollout is, as ``kubectl rollout status`` says it, and why its pods do not start.

The verdicts are pure functions of the objects' JSON; `look` reads these objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from handover.coordination.routing import DEPLOYMENTS
from handover.kube.reasons import Trouble, of_deployment, told
from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.ports.kube import KubeError
from handover.workload.commands import last_words

if TYPE_CHECKING:
    from handover.kube.events import Events
    from handover.ports.kube import Json, Kube


class RolloutPhase(StrEnum):
    DONE = "done"
    PROGRESSING = "progressing"
    FAILED = "failed"


@dataclass(frozen=True)
class Rollout:
    phase: RolloutPhase
    text: str


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


def line(status: Rollout, troubles: Sequence[Trouble]) -> str:
    """How far it is, and what keeps it."""
    return "; ".join(text for text in (status.text, told(troubles)) if text)


def conclusion(check: str, deployment: str, status: Rollout, troubles: Sequence[Trouble]) -> Evidence | None:
    """The verdict on a rollout, None while it goes on."""
    if status.phase is RolloutPhase.PROGRESSING:
        return None
    text = f"{deployment}: {line(status, troubles)}"
    if status.phase is RolloutPhase.FAILED:
        return failed(check, text)
    source = f"kubernetes deployment {deployment}"
    return passed(check, text, Measurement(what="rolled_out", value=1, source=source))


async def look(kube: Kube, name: str, labels: dict[str, str], events: Events) -> tuple[Rollout, list[Trouble]]:
    """One look at a Deployment, and at what keeps its pods from coming up. Raises `KubeError`."""
    deployment = await kube.get(DEPLOYMENTS, name)
    status = rollout_status(deployment)
    if status.phase is RolloutPhase.DONE:
        return status, []
    pods = await kube.list("pods", labels)
    found = of_deployment(deployment, pods)
    if said := await events.of(kube, (one.pod for one in found if one.pod)):
        found = of_deployment(deployment, pods, said)
    return status, found


async def explain(kube: Kube, trouble: Trouble) -> str:
    """The trouble with the last lines that the container printed."""
    if trouble.exit_code is None:
        return str(trouble)
    try:
        words = last_words(await kube.logs(trouble.pod, trouble.container))
    except KubeError:
        words = ""  # the log is gone, or nobody may read it
    return f"{trouble}; it printed: {words}" if words else str(trouble)
