"""Why pods do not come up, from the objects' JSON as an API server gives it, and how long that is put up with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.kube.reasons import (
    MAX_RESTARTS,
    MAX_TOLD,
    PATIENCE_SECONDS,
    SETTLE_SECONDS,
    Patience,
    Trouble,
    of_deployment,
    of_job,
    of_pods,
    told,
)

IMAGE = "r/i@sha256:1"
QUOTA = 'pods "pms-green-5d4-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4'
PROBE = {"httpGet": {"path": "/readyz", "port": 9898}}


def pod(state: dict, restarts: int = 0, last: dict | None = None, *, name="pod-1", ended="", probes=(), **more) -> dict:
    status = {"name": "pms", "state": state, "restartCount": restarts, "lastState": last or {}} | more
    container = {"name": "pms", "image": IMAGE, "resources": {"limits": {"memory": "256Mi"}}} | dict(probes)
    return {
        "metadata": {"name": name} | ({"deletionTimestamp": ended} if ended else {}),
        "spec": {"containers": [container]},
        "status": {"phase": "Running", "containerStatuses": [status]},
    }


def pending(name="pod-1", **condition) -> dict:
    conditions = [{"type": "PodScheduled", "status": "False"} | condition] if condition else []
    return {
        "metadata": {"name": name}, "spec": {"containers": [{"name": "pms", "image": IMAGE}]},
        "status": {"phase": "Pending", "conditions": conditions},
    }  # fmt: skip


def waiting(reason: str, message: str = "") -> dict:
    return {"waiting": {"reason": reason, "message": message}}


def ended(code: int = 3, reason: str = "Error", **more) -> dict:
    return {"terminated": {"exitCode": code, "reason": reason} | more}


def event(reason: str, message: str, at: str = "2026-01-01T00:00:00Z", kind: str = "Warning") -> dict:
    return {"reason": reason, "message": message, "lastTimestamp": at, "type": kind}


# --- containers


@pytest.mark.parametrize(
    ("given", "reason", "patience"),
    [
        (pod(waiting("InvalidImageName", "couldn't parse")), "InvalidImageName", 0),
        (pod(waiting("ErrImageNeverPull")), "ErrImageNeverPull", 0),
        (pod(waiting("ErrImagePull")), "ErrImagePull", PATIENCE_SECONDS),
        (pod(waiting("ImagePullBackOff")), "ImagePullBackOff", PATIENCE_SECONDS),
        (pod(waiting("CreateContainerConfigError", 'secret "x" not found')), "CreateContainerConfigError",
         SETTLE_SECONDS),
        (pod(waiting("CreateContainerConfigError", "couldn't find key A in Secret a/b")), "CreateContainerConfigError",
         SETTLE_SECONDS),
        (pod(waiting("CreateContainerConfigError", "failed to sync secret cache: timed out")),
         "CreateContainerConfigError", PATIENCE_SECONDS),
        (pod(waiting("CrashLoopBackOff"), 1, ended()), "CrashLoopBackOff", PATIENCE_SECONDS),
        (pod(waiting("CrashLoopBackOff"), MAX_RESTARTS, ended()), "CrashLoopBackOff", 0),
        (pod(waiting("CrashLoopBackOff"), MAX_RESTARTS), "CrashLoopBackOff", 0),
        (pod(ended(), 0), "Error", PATIENCE_SECONDS),
        (pod(ended(), MAX_RESTARTS), "Error", 0),
        (pod(ended(137, "OOMKilled"), 5), "OOMKilled", 0),
        (pod(waiting("ContainerCreating")), "ContainerCreating", math.inf),
        (pod(waiting("WhateverComesNext", "who knows")), "WhateverComesNext", math.inf),
    ],
)  # fmt: skip
def test_a_container_that_does_not_start_is_put_up_with_as_long_as_it_may_help(given, reason, patience):
    (found,) = of_pods([given])
    assert (found.reason, found.patience) == (reason, patience)
    assert f"container pms of pod pod-1 is in {reason}" in str(found)


@pytest.mark.parametrize(
    "given",
    [
        pod({"running": {}}),
        pod({"running": {}}, 1, ended()),
        pod({"running": {}}, ready=False),
        pod({"running": {}}, ready=True, started=True, probes={"readinessProbe": PROBE}),
        pod(waiting("PodInitializing")),
        pod(ended(0, "Completed")),
        pod({}),
        pod(waiting("InvalidImageName"), ended="2026-01-01T00:00:00Z"),
        {"metadata": {"name": "new"}, "spec": {"containers": [{"image": IMAGE}]}},
    ],
)
def test_pods_that_are_fine_or_going_away(given):
    assert of_pods([given]) == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            pod(waiting("CrashLoopBackOff", "back-off 10s"), 2, ended()),
            "container pms of pod pod-1 is in CrashLoopBackOff after 2 restarts, exit code 3: back-off 10s",
        ),
        (
            pod(waiting("CrashLoopBackOff", "back-off 20s"), 2, ended(137, "OOMKilled")),
            "container pms of pod pod-1 is in CrashLoopBackOff after 2 restarts, ended by OOMKilled "
            "(memory limit 256Mi), exit code 137: back-off 20s",
        ),
        (
            pod(waiting("CrashLoopBackOff", "back-off 10s"), 1, ended(1, message="no DATABASE_URL")),
            "container pms of pod pod-1 is in CrashLoopBackOff after 1 restarts, exit code 1: back-off 10s; "
            "no DATABASE_URL",
        ),
        (
            pod({"running": {}}, ready=False, probes={"readinessProbe": PROBE}),
            "container pms of pod pod-1 is not ready: its readiness probe (GET /readyz on port 9898) does not pass",
        ),
        (
            pod({"running": {}}, 2, ended(137, "OOMKilled"), ready=False, probes={"readinessProbe": PROBE}),
            "container pms of pod pod-1 is not ready: its readiness probe (GET /readyz on port 9898) does not pass "
            "after 2 restarts, ended by OOMKilled (memory limit 256Mi), exit code 137",
        ),
        (
            pod({"running": {}}, ready=False, started=False, probes={"readinessProbe": PROBE, "startupProbe":
                {"exec": {"command": ["pg_isready", "-p", "secret"]}}}),
            "container pms of pod pod-1 is not ready: its startup probe (the command pg_isready) does not pass",
        ),
        (
            pod({"running": {}}, ready=False, probes={"readinessProbe": {"periodSeconds": 1, "grpc": {"port": 1}}}),
            "container pms of pod pod-1 is not ready: its readiness probe (grpc on port 1) does not pass",
        ),
        (
            pending(reason="Unschedulable", message="0/3 nodes are available: 3 Insufficient cpu."),
            "pod pod-1 is Unschedulable: 0/3 nodes are available: 3 Insufficient cpu.",
        ),
        (pending(reason="SchedulingGated"), "pod pod-1 is SchedulingGated"),
        (pending(), "pod pod-1 is not scheduled yet"),
        (
            pending() | {"spec": {"containers": [], "nodeName": "n1"}},
            "pod pod-1 is not started yet by node n1",
        ),
        (
            pending() | {"status": {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}},
            "pod pod-1 is Evicted: low on memory",
        ),
        (
            pod({"running": {}}, ready=True) | {"status": {"conditions": [
                {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady", "message": "gate x"}]}},
            "pod pod-1 is not ready: gate x",
        ),
    ],
)  # fmt: skip
def test_what_is_said_is_the_clusters_own_reason(given, says):
    assert told(of_pods([given])) == says


def test_hopeless_ones_come_first_and_init_containers_count():
    slow = pod(waiting("ImagePullBackOff"))
    hopeless = pod({}, name="pod-2")
    hopeless["status"]["initContainerStatuses"] = [{"name": "migrate", "state": waiting("InvalidImageName")}]
    assert [found.container for found in of_pods([slow, hopeless])] == ["migrate", "pms"]


def test_an_init_container_that_never_ends_is_named_and_a_sidecar_is_not():
    given = pod(waiting("PodInitializing"))
    given["spec"]["initContainers"] = [{"name": "proxy", "restartPolicy": "Always"}, {"name": "migrate"}]
    given["status"]["initContainerStatuses"] = [
        {"name": one, "state": {"running": {}}, "restartCount": 0} for one in ("proxy", "migrate")
    ]
    assert told(of_pods([given])) == "init container migrate of pod pod-1 is still running"


# --- events


def test_a_volume_that_cannot_be_mounted_is_told_when_events_may_be_read():
    given, words = pod(waiting("ContainerCreating")), "Unable to attach or mount volumes: unmounted volumes=[data]"
    said = {"pod-1": [event("Scheduled", "", kind="Normal"), event("FailedMount", words, "2026-01-01T00:00:09Z")]}
    (found,) = of_pods([given], said)
    assert str(found) == f"container pms of pod pod-1 is in ContainerCreating: FailedMount: {words}"
    assert found.patience == math.inf


def test_a_volume_of_a_secret_that_is_not_there_ends_the_wait():
    said = {"pod-1": [event("FailedMount", 'MountVolume.SetUp failed for volume "a" : secret "tls" not found')]}
    (found,) = of_pods([pod(waiting("ContainerCreating"))], said)
    assert found.patience == SETTLE_SECONDS


def test_a_warning_that_something_newer_has_overtaken_is_no_reason():
    said = {"pod-1": [event("FailedMount", 'secret "tls" not found'),
                      event("Pulling", "Pulling image", "2026-01-01T00:01:00Z", "Normal")]}  # fmt: skip
    assert told(of_pods([pod(waiting("ContainerCreating"))], said)) == (
        "container pms of pod pod-1 is in ContainerCreating"
    )


def test_a_probe_is_told_with_its_last_answer():
    said = {"pod-1": [
        event("Unhealthy", "Readiness probe failed: connection refused"),
        {"reason": "Unhealthy", "message": "Readiness probe failed: HTTP probe failed with statuscode: 503",
         "series": {"lastObservedTime": "2026-01-01T00:00:05.123456Z"}, "lastTimestamp": None},
    ]}  # fmt: skip
    found = told(of_pods([pod({"running": {}}, ready=False, probes={"readinessProbe": PROBE})], said))
    assert found.endswith("does not pass: Readiness probe failed: HTTP probe failed with statuscode: 503")


# --- a Deployment


def deployment(*conditions: tuple[str, str, str, str], updated: int = 0, seen: int = 2, **spec) -> dict:
    fields = ("type", "status", "reason", "message")
    return {
        "metadata": {"name": "pms-green", "generation": 2},
        "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "pms", "image": IMAGE}]}}} | spec,
        "status": {"observedGeneration": seen, "updatedReplicas": updated,
                   "conditions": [dict(zip(fields, one, strict=True)) for one in conditions]},
    }  # fmt: skip


def failure(message: str, reason: str = "FailedCreate") -> tuple[str, str, str, str]:
    return "ReplicaFailure", "True", reason, message


@pytest.mark.parametrize(
    "message",
    [
        QUOTA,
        'pods "x" is forbidden: failed quota: compute: must specify limits.cpu for: pms',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false',
        'admission webhook "validate.kyverno.svc-fail" denied the request: blocked: a timeout must be set',
        'pods "x" is forbidden: [minimum cpu usage per Container is 100m, but request is 10m]',
        'pods "x" is forbidden: no PriorityClass with name urgent was found',
        'Pod "x" is invalid: spec.containers[0].image: Required value',
    ],
)
@pytest.mark.parametrize("reason", ["FailedCreate", "ReplicaSetCreateError"])
def test_pods_that_are_refused_end_the_wait_within_seconds_in_the_clusters_words(message, reason):
    given = failure(message) if reason == "FailedCreate" else ("Progressing", "False", reason, message)
    (found,) = of_deployment(deployment(given), [])
    assert str(found) == f"Deployment pms-green gets no pods: {reason}: {message}"
    assert found.patience == SETTLE_SECONDS


@pytest.mark.parametrize(
    "message",
    [
        'Internal error occurred: failed calling webhook "a.b": failed to call webhook: Post "https://a": EOF',
        "etcdserver: leader changed",
        'pods "x" is forbidden: status unknown for quota: compute, resources: pods',
        'pods "x" is forbidden: error looking up service account a/b: serviceaccount "b" not found',
        'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
        "something that nobody has heard of",
    ],
)
def test_what_may_pass_or_is_not_known_is_waited_for_and_told(message):
    (found,) = of_deployment(deployment(failure(message)), [])
    assert found.patience == math.inf and message in str(found)


def test_a_quota_that_pods_on_their_way_out_still_use_may_be_free_in_a_moment():
    going = pod({"running": {}}, ended="2026-01-01T00:00:00Z")
    (found,) = of_deployment(deployment(failure(QUOTA)), [going])
    assert found.patience == math.inf


@pytest.mark.parametrize(
    "given",
    [
        deployment(failure(QUOTA), seen=1),
        deployment(failure(QUOTA), updated=2),
        deployment(("ReplicaFailure", "False", "FailedCreate", QUOTA)),
        deployment(("Progressing", "True", "ReplicaSetUpdated", "")),
        deployment(),
    ],
)
def test_what_a_deployment_says_of_another_template_is_no_reason(given):
    assert of_deployment(given, []) == []


def test_a_paused_deployment_is_told_and_not_waited_for():
    (found,) = of_deployment(deployment(paused=True), [])
    assert str(found) == "Deployment pms-green is paused and rolls nothing out"
    assert found.patience == SETTLE_SECONDS


def test_pods_of_the_template_before_are_nobodys_reason_unless_an_admission_gives_them_other_images():
    old = pod(waiting("InvalidImageName"), name="old")
    old["spec"]["containers"][0]["image"] = "mirror/i@sha256:1"
    new = pod(waiting("ContainerCreating"), name="new")
    assert [one.pod for one in of_deployment(deployment(updated=2), [old, new])] == ["new"]
    assert [one.pod for one in of_deployment(deployment(updated=2), [old])] == ["old"]


# --- a Job


def job(**spec) -> dict:
    return {"metadata": {"name": "smoke-1"}, "spec": spec, "status": {}}


def test_a_job_without_a_pod_says_why_when_events_may_be_read():
    assert told(of_job(job(), [])) == "Job smoke-1 has no pod yet"
    said = {"smoke-1": [event("FailedCreate", f"Error creating: {QUOTA}")]}
    (found,) = of_job(job(), [], said)
    assert str(found) == f"Job smoke-1 gets no pod: FailedCreate: Error creating: {QUOTA}"
    assert found.patience == SETTLE_SECONDS
    assert told(of_job(job(suspend=True), [])) == "Job smoke-1 is suspended"


# --- patience, and what is told


def test_patience_with_what_may_pass_ends_and_begins_anew_when_it_has_passed():
    patience, pulling = Patience(), of_pods([pod(waiting("ImagePullBackOff"))])
    assert patience.exhausted(pulling, 100.0) is None
    assert patience.exhausted(pulling, 100.0 + PATIENCE_SECONDS - 0.1) is None
    assert patience.exhausted(pulling, 100.0 + PATIENCE_SECONDS) is pulling[0]
    patience.exhausted([], 200.0)
    assert patience.exhausted(pulling, 201.0) is None


def test_the_time_that_a_container_is_being_made_is_not_counted_against_its_image():
    patience = Patience()
    patience.exhausted(of_pods([pod(waiting("ContainerCreating"))]), 0.0)
    assert patience.exhausted(of_pods([pod(waiting("ErrImagePull"))]), 60.0) is None


def test_no_patience_with_what_is_final():
    found = of_pods([pod(waiting("InvalidImageName"))])
    assert Patience().exhausted(found, 0.0) is found[0]


@given(st.lists(st.tuples(st.text(max_size=5), st.floats(0, 20) | st.just(math.inf)), max_size=8), st.floats(0, 100))
def test_whatever_may_pass_is_never_the_end(some, seconds):
    troubles = [Trouble(f"pod {number} is", reason, patience=p) for number, (reason, p) in enumerate(some)]
    patience = Patience()
    patience.exhausted(troubles, 0.0)
    found = patience.exhausted(troubles, seconds)
    assert (found is None) == all(one.patience > seconds for one in troubles)


def test_pods_that_fare_alike_are_counted_and_the_rest_is_cut():
    many = [pending(f"pod-{n}", reason="Unschedulable", message="0/3 nodes") for n in range(10)]
    assert told(of_pods(many)) == "pod pod-0 is Unschedulable: 0/3 nodes (and 9 more)"
    odd = [pending(f"pod-{n}", reason=f"Odd{n}", message="x" * 9000) for n in range(10)]
    line = told(of_pods(odd))
    assert line.endswith("; and 6 other troubles") and line.count("pod-") == MAX_TOLD and len(line) < 2500
