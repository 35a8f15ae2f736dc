"""Deployments, pods and jobs: what is started, watched, restarted, replaced and ended."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from tests.sandbox.cluster.space import Space

pytestmark = pytest.mark.sandbox

MERGE = "application/merge-patch+json"


@pytest.fixture
def space(cluster: Any, namespace: str, eventually: Callable[..., Any]) -> Space:
    return Space(cluster, namespace, eventually)


# --- deployments


def test_a_rollout_replaces_every_pod_and_never_drops_below_what_it_promises(
    space: Space, workload: Callable[..., Any]
) -> None:
    body = workload(replicas=2)
    body["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    space.deploy(body)
    first = space.rolled_out()
    assert first["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    before = {pod["metadata"]["name"] for pod in space.pods()}
    space.patch("app", template={"spec": {"containers": [{"name": "app", "image": "test/app:v2"}]}})
    lowest = 2

    def done() -> Any:
        nonlocal lowest
        found = space.cluster.get(f"{space.deployments}/app")["status"]
        lowest = min(lowest, found.get("availableReplicas", 0))
        return found.get("updatedReplicas") == found.get("availableReplicas") == found.get("replicas") == 2

    space.eventually(done)
    last = space.rolled_out()
    assert last["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert lowest == 2
    space.eventually(lambda: len(space.pods()) == 2)
    after = space.pods()
    assert before.isdisjoint(pod["metadata"]["name"] for pod in after)
    assert {pod["status"]["containerStatuses"][0]["image"] for pod in after} == {"test/app:v2"}
    assert space.condition("app", "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_going_back_to_an_earlier_template_uses_its_replica_set_again(
    space: Space, workload: Callable[..., Any]
) -> None:
    space.deploy(workload())
    space.rolled_out()
    space.patch("app", template={"spec": {"containers": [{"name": "app", "image": "test/app:v2"}]}})
    space.rolled_out()
    space.patch("app", template={"spec": {"containers": [{"name": "app", "image": "test/app:v1"}]}})
    found = space.rolled_out()
    sets = space.cluster.get(f"/apis/apps/v1/namespaces/{space.name}/replicasets")["items"]
    assert len(sets) == 2
    assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "3"


def test_an_image_that_is_not_there_stops_the_rollout_and_the_old_pods_stay(
    space: Space, workload: Callable[..., Any]
) -> None:
    space.deploy({**(body := workload(replicas=2)), "spec": {**body["spec"], "progressDeadlineSeconds": 2}})
    space.rolled_out()
    space.patch("app", template={"spec": {"containers": [{"name": "app", "image": "test/app:v9"}]}})

    def reasons() -> set[str]:
        statuses = [one for pod in space.pods() for one in pod["status"].get("containerStatuses") or ()]
        return {one["state"]["waiting"]["reason"] for one in statuses if "waiting" in one["state"]}

    space.eventually(lambda: "ErrImagePull" in reasons() or "ImagePullBackOff" in reasons())
    space.eventually(lambda: "ImagePullBackOff" in reasons())
    space.eventually(lambda: space.condition("app", "Progressing")["reason"] == "ProgressDeadlineExceeded")
    assert space.condition("app", "Progressing")["status"] == "False"
    assert space.cluster.get(f"{space.deployments}/app")["status"]["availableReplicas"] == 2


def test_pods_that_never_get_ready_stop_the_rollout_too(space: Space, workload: Callable[..., Any]) -> None:
    body = workload(env=[{"name": "READY", "value": "no"}])
    body["spec"]["progressDeadlineSeconds"] = 2
    space.deploy(body)
    space.eventually(lambda: (space.condition("app", "Progressing") or {}).get("status") == "False")
    assert space.condition("app", "Available")["status"] == "False"
    (pod,) = space.pods()
    assert pod["status"]["phase"] == "Running"
    assert not pod["status"]["containerStatuses"][0]["ready"]
    event = space.events(pod["metadata"]["name"])["Unhealthy"]
    assert "503" in event["message"] or event["count"] >= 1


def test_min_ready_seconds_delay_availability(space: Space, workload: Callable[..., Any]) -> None:
    body = workload()
    body["spec"]["minReadySeconds"] = 2
    space.deploy(body)
    status = space.eventually(
        lambda: (found := space.cluster.get(f"{space.deployments}/app")["status"]).get("readyReplicas") and found
    )
    assert not status.get("availableReplicas")
    space.rolled_out()


def test_deleting_a_deployment_ends_its_pods(space: Space, workload: Callable[..., Any]) -> None:
    space.deploy(workload())
    space.rolled_out()
    space.cluster.call("DELETE", f"{space.deployments}/app")
    space.eventually(lambda: not space.pods())


# --- pods


def test_a_pod_sees_its_own_environment_and_nothing_of_its_parents(space: Space) -> None:
    maps, secrets = f"/api/v1/namespaces/{space.name}/configmaps", f"/api/v1/namespaces/{space.name}/secrets"
    space.cluster.call("POST", maps, {"metadata": {"name": "settings"}, "data": {"COLOUR": "blue"}})
    space.cluster.call("POST", secrets, {"metadata": {"name": "keys"}, "stringData": {"token": "t0ken"}})
    env = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "GREETING", "value": "I am $(NAME) in $(COLOUR), not $$(NAME), $(UNKNOWN)"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "AGAIN", "value": "$(NAME)"},
        {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "ABSENT", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
    ]
    script = "import os,json; print(json.dumps(dict(os.environ)))"
    space.run_pod("envy", script, container={"env": env, "envFrom": [{"configMapRef": {"name": "settings"}}]})
    space.in_phase("envy", "Succeeded")
    found = space.cluster.call("GET", f"{space.pods_path}/envy/log")[1]
    assert (found["TOKEN"], found["COLOUR"], found["AGAIN"], found["HOSTNAME"]) == ("t0ken", "blue", "envy", "envy")
    assert found["GREETING"] == "I am $(NAME) in blue, not $(NAME), $(UNKNOWN)"
    assert found["ADDRESS"].startswith(f"{space.cluster.subnet}.1.")
    assert found["VERSION"] == "v1"
    assert "KUBERNETES_SERVICE_HOST" in found
    assert not {"LEAKED", "ABSENT", "PYTHONPATH", "USER"} & found.keys()
    assert found["HOME"] != os.environ.get("HOME")


def test_a_missing_secret_holds_the_container_back_until_it_is_there(space: Space) -> None:
    env = [{"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "late", "key": "token"}}}]
    space.run_pod("waiting", "import os; print(os.environ['TOKEN'])", container={"env": env})

    def reason() -> Any:
        statuses = space.pod("waiting")["status"].get("containerStatuses") or [{}]
        return statuses[0].get("state", {}).get("waiting", {}).get("reason")

    space.eventually(lambda: reason() == "CreateContainerConfigError")
    secrets = f"/api/v1/namespaces/{space.name}/secrets"
    space.cluster.call("POST", secrets, {"metadata": {"name": "late"}, "stringData": {"token": "at last"}})
    space.in_phase("waiting", "Succeeded")
    assert space.log("waiting") == "at last\n"


def test_a_failed_pod_tells_its_exit_code_and_is_not_started_again(space: Space) -> None:
    space.run_pod("failing", "raise SystemExit(3)")
    (status,) = space.in_phase("failing", "Failed")["status"]["containerStatuses"]
    assert (status["state"]["terminated"]["exitCode"], status["state"]["terminated"]["reason"]) == (3, "Error")
    assert status["restartCount"] == 0


def test_a_container_that_keeps_failing_is_restarted_more_and_more_slowly(space: Space) -> None:
    space.run_pod("crashing", "print('once more'); raise SystemExit(1)", restartPolicy="OnFailure")
    status = space.eventually(
        lambda: (found := space.pod("crashing")["status"]["containerStatuses"][0])["restartCount"] >= 1
        and "waiting" in found["state"] and found
    )  # fmt: skip
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    assert status["lastState"]["terminated"]["exitCode"] == 1
    assert "BackOff" in space.events("crashing")


def test_a_pod_has_its_grace_period_and_not_more(space: Space) -> None:
    patient = "import signal,time; signal.signal(15, lambda *_: print('asked', flush=True)); print('up', flush=True)\nwhile 1: time.sleep(9)"  # noqa: E501
    space.run_pod("stubborn", patient, terminationGracePeriodSeconds=2)
    space.eventually(lambda: "running" in space.pod("stubborn")["status"]["containerStatuses"][0]["state"])
    space.eventually(lambda: "up" in space.log("stubborn"))
    began = time.monotonic()
    status, marked = space.cluster.call("DELETE", f"{space.pods_path}/stubborn")
    assert (status, marked["metadata"]["deletionGracePeriodSeconds"]) == (200, 2)
    space.eventually(lambda: "asked" in space.log("stubborn"))
    space.eventually(lambda: space.cluster.call("GET", f"{space.pods_path}/stubborn")[0] == 404)
    assert 1.5 < time.monotonic() - began < 8


def test_a_pod_deleted_without_grace_is_gone_at_once(space: Space) -> None:
    space.run_pod("doomed", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(99)")
    space.in_phase("doomed", "Running")
    pid = int(re.findall(r"process://(\d+)", str(space.pod("doomed")))[0])
    space.cluster.call("DELETE", f"{space.pods_path}/doomed?gracePeriodSeconds=0")
    assert space.cluster.call("GET", f"{space.pods_path}/doomed")[0] == 404
    space.eventually(lambda: not is_alive(pid))


def test_the_pre_stop_hook_runs_before_the_signal(space: Space) -> None:
    script = "import signal,sys,time\nsignal.signal(15, lambda *_: (print('signal', time.time(), flush=True), sys.exit()))\nprint('up', flush=True); time.sleep(60)"  # noqa: E501
    hook = {"preStop": {"exec": {"command": ["sleep", "1"]}}}
    space.run_pod("hooked", script, container={"lifecycle": hook}, terminationGracePeriodSeconds=10)
    space.in_phase("hooked", "Running")
    space.eventually(lambda: "up" in space.log("hooked"))
    began = time.time()
    with urllib.request.urlopen(request(space, "hooked/log?follow=true"), timeout=20) as log:
        space.cluster.call("DELETE", f"{space.pods_path}/hooked")
        text = log.read().decode()
    assert float(re.findall(r"signal (\S+)", text)[0]) - began > 0.9


def request(space: Space, path: str) -> urllib.request.Request:
    headers = {"Authorization": f"Bearer {space.cluster.token}"}
    return urllib.request.Request(f"{space.cluster.url}{space.pods_path}/{path}", headers=headers)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- logs


def test_logs_can_be_cut_dated_and_followed_to_the_end(space: Space) -> None:
    script = (
        "import time\nfor i in range(6): print('line', i, flush=True); time.sleep(0.1)\nprint('no newline', end='')"
    )
    space.run_pod("talking", script)
    space.in_phase("talking", "Running")
    with urllib.request.urlopen(request(space, "talking/log?follow=true"), timeout=20) as answer:
        followed = answer.read().decode()
    assert followed == "".join(f"line {i}\n" for i in range(6)) + "no newline\n"
    space.in_phase("talking", "Succeeded")
    assert space.log("talking", "tailLines=2") == "line 5\nno newline\n"
    _, _, text = space.log("talking", "timestamps=true").splitlines()[3].partition(" ")
    assert text == "line 3"
    assert space.log("talking", "sinceSeconds=3600") == followed
    status, answer = space.cluster.call("GET", f"{space.pods_path}/talking/log?container=none")
    assert (status, answer["reason"]) == (400, "BadRequest")


# --- jobs


def test_a_job_completes_and_its_pods_go_with_it(space: Space) -> None:
    space.run_job("good", "print('done')")
    kind, reason, status = space.job_ends("good")
    assert (kind, reason, status["succeeded"]) == ("Complete", "CompletionsReached", 1)
    assert "completionTime" in status
    pods = space.pods("batch.kubernetes.io/job-name%3Dgood")
    assert [space.log(pod["metadata"]["name"]) for pod in pods] == ["done\n"]
    space.cluster.call("DELETE", f"{space.jobs}/good?propagationPolicy=Foreground")
    space.eventually(lambda: not space.pods("job-name%3Dgood"))


def test_a_job_gives_up_after_its_backoff_limit(space: Space) -> None:
    space.run_job("bad", "raise SystemExit(1)", backoffLimit=1)
    kind, reason, status = space.job_ends("bad")
    assert (kind, reason, status["failed"]) == ("Failed", "BackoffLimitExceeded", 2)
    assert {one["type"] for one in status["conditions"]} == {"FailureTarget", "Failed"}


def test_a_job_that_takes_too_long_is_stopped(space: Space) -> None:
    space.run_job("slow", "import time; time.sleep(60)", activeDeadlineSeconds=1)
    kind, reason, _ = space.job_ends("slow")
    assert (kind, reason) == ("Failed", "DeadlineExceeded")


def test_a_finished_job_disappears_when_its_time_is_over(space: Space) -> None:
    space.run_job("brief", "pass", ttlSecondsAfterFinished=0)
    space.eventually(lambda: space.cluster.call("GET", f"{space.jobs}/brief")[0] == 404)
    space.eventually(lambda: not space.pods())
