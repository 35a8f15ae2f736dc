"""Why containers do not start, from the pods' JSON alone, and how long that is put up with."""

from __future__ import annotations

import pytest

from handover.kube.pods import MAX_RESTARTS, PATIENCE_SECONDS, Patience, troubles

IMAGE = "r/i@sha256:1"


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
