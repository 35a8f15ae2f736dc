"""How far a rollout is, from the objects' JSON alone."""

from __future__ import annotations

import pytest

from handover.workload.rollout import RolloutPhase as Phase
from handover.workload.rollout import rollout_status


def deployment(replicas: int | None = 2, generation: int = 3, seen: int | None = 3, conditions=(), **status) -> dict:
    spec = {} if replicas is None else {"replicas": replicas}
    full = {"conditions": list(conditions), **status}
    if seen is not None:
        full["observedGeneration"] = seen
    return {"metadata": {"name": "pms-green", "generation": generation}, "spec": spec, "status": full}


def progressing(reason: str, message: str = "") -> dict:
    return {"type": "Progressing", "status": "False", "reason": reason, "message": message}


@pytest.mark.parametrize(
    ("given", "phase", "text"),
    [
        (deployment(seen=None), Phase.PROGRESSING, "not been noticed"),
        (deployment(seen=2, replicas=2, updatedReplicas=2, availableReplicas=2), Phase.PROGRESSING, "not been noticed"),
        (deployment(), Phase.PROGRESSING, "0 of 2 new"),
        (deployment(updatedReplicas=1, availableReplicas=1), Phase.PROGRESSING, "1 of 2 new replicas have been made"),
        (deployment(**{"updatedReplicas": 2, "availableReplicas": 0}), Phase.PROGRESSING, "0 of 2 new replicas are"),
        (deployment(updatedReplicas=2, availableReplicas=1), Phase.PROGRESSING, "1 of 2 new replicas are available"),
        (deployment(updatedReplicas=2, availableReplicas=2), Phase.DONE, "2 of 2"),
        (deployment(seen=4, updatedReplicas=2, availableReplicas=2), Phase.DONE, "2 of 2"),
        (deployment(None, updatedReplicas=1, availableReplicas=1), Phase.DONE, "1 of 1"),
        (deployment(0, updatedReplicas=0), Phase.FAILED, "scaled to 0"),
        (deployment(conditions=[progressing("ProgressDeadlineExceeded", "stuck")]), Phase.FAILED, "stuck"),
        (deployment(conditions=[progressing("ProgressDeadlineExceeded")]), Phase.FAILED, "no progress"),
        (deployment(seen=2, conditions=[progressing("ProgressDeadlineExceeded")]), Phase.PROGRESSING, "noticed"),
        (deployment(conditions=[progressing("ReplicaSetUpdated")]), Phase.PROGRESSING, "0 of 2"),
        (
            deployment(
                updatedReplicas=2, availableReplicas=2, conditions=[{"type": "Available", "status": "True"}]
            ),
            Phase.DONE,
            "2 of 2",
        ),
        ({"metadata": {"generation": 1}, "spec": {"replicas": 1}}, Phase.PROGRESSING, "not been noticed"),
        ({"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": None}, Phase.PROGRESSING, "noticed"),
    ],
)  # fmt: skip
def test_status(given, phase, text):
    found = rollout_status(given)
    assert found.phase is phase
    assert text in found.text


def test_old_replicas_that_still_end_are_waited_for():
    status = {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2}
    found = rollout_status({"metadata": {"generation": 1}, "spec": {"replicas": 2},
                            "status": {"observedGeneration": 1, **status}})  # fmt: skip
    assert (found.phase, found.text) == (Phase.PROGRESSING, "1 old replicas are still ending")
