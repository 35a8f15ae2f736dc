"""Deployments, pods and jobs: what is started, watched, restarted, replaced and ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.sandbox

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"


class Space:
    """One namespace, in the words of these tests."""

    def __init__(self, cluster: Any, name: str, eventually: Callable[..., Any]) -> None:
        self.cluster, self.name, self.eventually = cluster, name, eventually
        self.deployments = f"/apis/apps/v1/namespaces/{name}/deployments"
        self.jobs = f"/apis/batch/v1/namespaces/{name}/jobs"
        self.pods_path = f"/api/v1/namespaces/{name}/pods"

    def deploy(self, body: dict[str, Any]) -> None:
        status, answer = self.cluster.call("POST", self.deployments, body)
        assert status == 201, answer

    def patch(self, name: str, **spec: Any) -> None:
        status, answer = self.cluster.call("PATCH", f"{self.deployments}/{name}", {"spec": spec}, STRATEGIC)
        assert status == 200, answer

    def rolled_out(self, name: str = "app") -> Any:
        def complete() -> Any:
            found = self.cluster.get(f"{self.deployments}/{name}")
            status, wanted = found["status"], found["spec"]["replicas"]
            done = status.get("observedGeneration") == found["metadata"]["generation"]
            fields = ("replicas", "updatedReplicas", "availableReplicas")
            return found if done and all(status.get(field, 0) == wanted for field in fields) else None

        return self.eventually(complete)

    def condition(self, name: str, kind: str) -> Any:
        conditions = self.cluster.get(f"{self.deployments}/{name}")["status"].get("conditions") or []
        return next((one for one in conditions if one["type"] == kind), None)

    def pods(self, selector: str = "") -> list[Any]:
        return self.cluster.get(f"{self.pods_path}?labelSelector={selector}")["items"]

    def run_pod(self, name: str, script: str, **spec: Any) -> None:
        container = {"name": "main", "image": "test/tool:v1", "command": ["python", "-c", script]}
        container |= spec.pop("container", {})
        body = {"metadata": {"name": name}, "spec": {"restartPolicy": "Never", "containers": [container], **spec}}
        status, answer = self.cluster.call("POST", self.pods_path, body)
        assert status == 201, answer

    def pod(self, name: str) -> Any:
        return self.cluster.get(f"{self.pods_path}/{name}")

    def in_phase(self, name: str, phase: str) -> Any:
        return self.eventually(lambda: (found := self.pod(name))["status"]["phase"] == phase and found)

    def log(self, name: str, query: str = "") -> str:
        status, text = self.cluster.call("GET", f"{self.pods_path}/{name}/log?{query}")
        assert status == 200, text
        return str(text)

    def run_job(self, name: str, script: str, **spec: Any) -> None:
        container = {"name": "main", "image": "test/tool:v1", "command": ["python", "-c", script]}
        template = {"spec": {"restartPolicy": spec.pop("restartPolicy", "Never"), "containers": [container]}}
        status, answer = self.cluster.call(
            "POST", self.jobs, {"metadata": {"name": name}, "spec": {"template": template, **spec}}
        )
        assert status == 201, answer

    def job_ends(self, name: str) -> tuple[str, str, Any]:
        def ended() -> Any:
            status = self.cluster.get(f"{self.jobs}/{name}")["status"]
            kinds = {one["type"]: one["reason"] for one in status.get("conditions") or ()}
            return next(((kind, kinds[kind], status) for kind in ("Complete", "Failed") if kind in kinds), None)

        return self.eventually(ended)

    def events(self, name: str) -> dict[str, Any]:
        found = self.cluster.get(f"/api/v1/namespaces/{self.name}/events?fieldSelector=involvedObject.name%3D{name}")[
            "items"
        ]
        return {one["reason"]: one for one in found}


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


# --- the end


STRAY = "import subprocess,time; subprocess.Popen(['sleep', '300']); time.sleep(300)"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_cluster(
    start_cluster: Callable[..., Any], eventually: Callable[..., Any], number: int
) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_pod("stray", STRAY)
    space.in_phase("stray", "Running")
    group = int(re.findall(r"process://(\d+)", str(space.pod("stray")))[0])

    def members() -> list[int]:
        listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, of, state in rows if int(of) == group and not state.startswith("Z")]

    eventually(lambda: len(members()) == 2)
    cluster.process.send_signal(number)
    cluster.process.wait(timeout=20)
    eventually(lambda: not members())


def test_a_cluster_that_stops_starts_nothing_more(start_cluster: Callable[..., Any], eventually: Any) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_job("long", "import signal,time; signal.signal(15, signal.SIG_IGN); time.sleep(60)", backoffLimit=9)
    eventually(lambda: any(pod["status"]["phase"] == "Running" for pod in space.pods()))
    cluster.process.terminate()
    assert cluster.process.wait(timeout=10) == 0


def test_a_second_cluster_on_the_same_address_fails_and_leaves_the_first_alone(
    start_cluster: Callable[..., Any], eventually: Any
) -> None:
    cluster = start_cluster()
    space = Space(cluster, "default", eventually)
    space.run_pod("talking", "print('still here')")
    space.in_phase("talking", "Succeeded")
    second = [sys.executable, "-m", "sandbox.cluster", "--config", str(cluster.home / "config.json")]
    done = subprocess.run(
        second, capture_output=True, text=True, timeout=30, check=False, cwd=Path(__file__).parents[3]
    )
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
    assert space.log("talking") == "still here\n"


def test_open_watches_do_not_keep_a_cluster_from_stopping(start_cluster: Callable[..., Any]) -> None:
    cluster = start_cluster()
    headers = {"Authorization": f"Bearer {cluster.token}"}
    watch = urllib.request.Request(f"{cluster.url}/api/v1/namespaces?watch=true", headers=headers)
    with urllib.request.urlopen(watch, timeout=10) as events:
        assert events.readline()
        cluster.process.terminate()
        assert cluster.process.wait(timeout=10) == 0
    assert (cluster.home / "cluster.log").read_text() == ""


def test_the_cluster_is_ready_within_a_second_or_so(start_cluster: Callable[..., Any]) -> None:
    began = time.monotonic()
    start_cluster()
    assert time.monotonic() - began < 5
