"""How far a rollout is, from the objects' JSON alone."""

from __future__ import annotations

import pytest

from handover.workload.rollout import MAX_RESTARTS, PATIENCE_SECONDS, rollout_status, troubles
from handover.workload.rollout import RolloutPhase as Phase
from handover.workload.triggers import Patience

IMAGE = "r/i@sha256:1"


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


def pod(state: dict, restarts: int = 0, image: str = IMAGE, last: dict | None = None, **metadata) -> dict:
    status = {"name": "pms", "state": state, "restartCount": restarts, "lastState": last or {}}
    return {
        "metadata": {"name": "pod-1", **metadata},
        "spec": {"containers": [{"name": "pms", "image": image}]},
        "status": {"containerStatuses": [status]},
    }


def waiting(reason: str, message: str = "") -> dict:
    return {"waiting": {"reason": reason, "message": message}}


ENDED = {"terminated": {"exitCode": 3, "reason": "Error"}}


@pytest.mark.parametrize(
    ("given", "reason", "final"),
    [
        (pod(waiting("InvalidImageName", "couldn't parse")), "InvalidImageName", True),
        (pod(waiting("ErrImageNeverPull")), "ErrImageNeverPull", True),
        (pod(waiting("ErrImagePull")), "ErrImagePull", False),
        (pod(waiting("ImagePullBackOff")), "ImagePullBackOff", False),
        (pod(waiting("CreateContainerConfigError", 'secret "x" not found')), "CreateContainerConfigError", False),
        (pod(waiting("CrashLoopBackOff"), 1, last=ENDED), "CrashLoopBackOff", False),
        (pod(waiting("CrashLoopBackOff"), MAX_RESTARTS, last=ENDED), "CrashLoopBackOff", True),
        (pod(waiting("CrashLoopBackOff"), MAX_RESTARTS), "CrashLoopBackOff", True),
        (pod(ENDED, 0), "Error", False),
        (pod(ENDED, MAX_RESTARTS), "Error", True),
        (pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, 5), "OOMKilled", True),
    ],
)
def test_containers_in_trouble(given, reason, final):
    (found,) = troubles([given], IMAGE)
    assert (found.reason, found.final) == (reason, final)
    assert reason in str(found)


@pytest.mark.parametrize(
    "given",
    [
        pod({"running": {}}),
        pod({"running": {}}, 1, last=ENDED),
        pod(waiting("ContainerCreating")),
        pod(waiting("PodInitializing")),
        pod({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        pod({}),
        pod(waiting("InvalidImageName"), image="another"),
        pod(waiting("InvalidImageName"), deletionTimestamp="2026-01-01T00:00:00Z"),
        {"metadata": {"name": "new"}, "spec": {"containers": [{"image": IMAGE}]}},
    ],
)
def test_containers_that_are_fine_or_not_ours(given):
    assert troubles([given], IMAGE) == []


def test_what_is_said_names_pod_restarts_exit_code_and_message():
    (found,) = troubles([pod(waiting("CrashLoopBackOff", "back-off 10s"), 2, last=ENDED)], IMAGE)
    assert str(found) == (
        "container pms of pod pod-1 is in CrashLoopBackOff after 2 restarts, exit code 3: back-off 10s"
    )


def test_hopeless_ones_come_first_and_init_containers_count():
    slow = pod(waiting("ImagePullBackOff"))
    hopeless = pod({})
    hopeless["status"]["initContainerStatuses"] = [{"name": "init", "state": waiting("InvalidImageName")}]
    assert [found.container for found in troubles([slow, hopeless], IMAGE)] == ["init", "pms"]


def test_patience_with_what_may_pass():
    patience, pulling = Patience(), troubles([pod(waiting("ImagePullBackOff"))], IMAGE)
    assert patience.exhausted(pulling, 100.0) is None
    assert patience.exhausted(pulling, 100.0 + PATIENCE_SECONDS - 0.1) is None
    assert patience.exhausted(pulling, 100.0 + PATIENCE_SECONDS) is pulling[0]


def test_patience_begins_anew_when_it_has_passed():
    patience, pulling = Patience(), troubles([pod(waiting("ImagePullBackOff"))], IMAGE)
    patience.exhausted(pulling, 100.0)
    patience.exhausted([], 110.0)
    assert patience.exhausted(pulling, 100.0 + PATIENCE_SECONDS) is None


def test_no_patience_with_what_is_final():
    found = troubles([pod(waiting("InvalidImageName"))], IMAGE)
    assert Patience().exhausted(found, 0.0) is found[0]
