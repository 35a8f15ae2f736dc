"""kubectl, unmodified, against the stand-in cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [
    pytest.mark.sandbox,
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="there is no kubectl on PATH"),
]


@pytest.fixture
def kubectl(cluster: Any, namespace: str) -> Callable[..., str]:
    def run(*arguments: str, **options: Any) -> str:
        return cluster.kubectl("--namespace", namespace, *arguments, **options)

    return run


@pytest.fixture
def manifest(workload: Callable[..., Any]) -> Callable[..., str]:
    """A Deployment and its Service, as text."""

    def build(**settings: Any) -> str:
        ports = [{"port": 80, "targetPort": "http"}]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "app"},
            "spec": {"selector": {"app": "test"}, "ports": ports},
        }
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": [workload(**settings), service]})

    return build


def test_a_deployment_is_applied_rolled_out_changed_and_rolled_back(
    kubectl: Callable[..., str], manifest: Callable[..., str]
) -> None:
    assert "app created" in kubectl("apply", "-f", "-", stdin=manifest())
    assert "successfully rolled out" in kubectl("rollout", "status", "deploy/app", "--timeout=30s")
    assert "deployment.apps/app unchanged" in kubectl("apply", "-f", "-", stdin=manifest())
    assert "configured (server dry run)" in kubectl(
        "apply", "--dry-run=server", "-f", "-", stdin=manifest(version="v2")
    )
    assert "deployment.apps/app configured" in kubectl("apply", "-f", "-", stdin=manifest(version="v2"))
    kubectl("rollout", "status", "deploy/app", "--timeout=30s")
    assert "image: test/app:v2" in kubectl("get", "deploy", "app", "-o", "yaml")
    kubectl("rollout", "undo", "deploy/app")
    kubectl("rollout", "status", "deploy/app", "--timeout=30s")
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert kubectl("get", "deploy", "app", "-o", image) == "test/app:v1"
    kubectl("set", "image", "deploy/app", "app=test/app:v2")
    kubectl("scale", "deploy/app", "--replicas=2")
    kubectl("rollout", "restart", "deploy/app")
    kubectl("rollout", "status", "deploy/app", "--timeout=30s")
    kubectl("wait", "--for=condition=Available", "deploy/app", "--timeout=10s")
    rows = kubectl("get", "pods,deploy,rs,svc,endpointslices,events").splitlines()
    assert any(row.startswith("deployment.apps/app ") for row in rows)
    described = kubectl("describe", "deploy/app") + kubectl("describe", "pods") + kubectl("describe", "svc/app")
    assert "NewReplicaSetAvailable" in described
    assert "Started container app" in described


def test_a_rollout_that_is_stuck_is_reported(kubectl: Callable[..., str], workload: Callable[..., Any]) -> None:
    body = workload(version="v9")
    body["spec"]["progressDeadlineSeconds"] = 1
    kubectl("apply", "-f", "-", stdin=json.dumps(body))
    assert "exceeded its progress deadline" in kubectl("rollout", "status", "deploy/app", check=False)


def test_server_side_apply_knows_conflicts(kubectl: Callable[..., str], workload: Callable[..., Any]) -> None:
    first, second = json.dumps(workload(replicas=0)), json.dumps(workload(replicas=1))
    kubectl("apply", "--server-side", "--field-manager=one", "-f", "-", stdin=first)
    refused = kubectl("apply", "--server-side", "--field-manager=two", "-f", "-", stdin=second, check=False)
    assert 'conflict with "one": .spec.replicas' in refused
    kubectl("apply", "--server-side", "--field-manager=two", "--force-conflicts", "-f", "-", stdin=second)
    kubectl("rollout", "status", "deploy/app", "--timeout=30s")


def test_patches_labels_and_waits(kubectl: Callable[..., str]) -> None:
    kubectl("apply", "-f", "-", stdin='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1"}}')
    for kind, change in (
        ("strategic", '{"data":{"b":"2"}}'),
        ("merge", '{"data":{"a":null}}'),
        ("json", '[{"op":"add","path":"/data/c","value":"3"}]'),
    ):
        kubectl("patch", "cm/x", f"--type={kind}", "-p", change)
    kubectl("label", "cm/x", "colour=blue")
    assert (
        kubectl("get", "cm", "-l", "colour in (blue,green)", "-o", "jsonpath={.items[*].data}") == '{"b":"2","c":"3"}'
    )
    kubectl("delete", "cm/x")
    assert "NotFound" in kubectl("get", "cm/x", check=False)


def test_a_job_is_run_read_and_deleted(kubectl: Callable[..., str]) -> None:
    container = {"name": "hello", "image": "test/tool:v1", "command": ["python", "-c", "print('hello')"]}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "hello"}, "spec": {"template": template}}
    kubectl("apply", "-f", "-", stdin=json.dumps(job))
    kubectl("wait", "--for=condition=complete", "job/hello", "--timeout=20s")
    assert kubectl("logs", "job/hello") == "hello\n"
    assert "hello" in kubectl("get", "jobs")
    kubectl("delete", "job/hello", "--wait")


def test_logs_are_followed_and_watches_shown(cluster: Any, namespace: str, kubectl: Callable[..., str]) -> None:
    script = "import time; [print(i, flush=True) or time.sleep(0.1) for i in range(5)]"
    container = {"name": "main", "image": "test/tool:v1", "command": ["python", "-c", script]}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talk"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    watching = subprocess.Popen(
        ["kubectl", "--kubeconfig", str(cluster.kubeconfig), "-n", namespace, "get", "pods", "--watch"],
        stdout=subprocess.PIPE, text=True, env={"HOME": str(cluster.home), "PATH": "/usr/bin:/usr/local/bin:/bin"},
    )  # fmt: skip
    time.sleep(0.5)
    kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    kubectl("wait", "--for=jsonpath={.status.phase}=Running", "pod/talk", "--timeout=10s")
    assert kubectl("logs", "-f", "talk") == "0\n1\n2\n3\n4\n"
    kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/talk", "--timeout=10s")
    watching.terminate()
    seen, _ = watching.communicate(timeout=10)
    assert len([row for row in seen.splitlines() if row.startswith("talk ")]) > 1


def test_raw_calls_reach_pods_through_the_api(
    kubectl: Callable[..., str], manifest: Callable[..., str], namespace: str
) -> None:
    kubectl("apply", "-f", "-", stdin=manifest())
    kubectl("rollout", "status", "deploy/app", "--timeout=30s")
    found = json.loads(kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/services/app:80/proxy/hello"))
    assert (found["path"], found["version"]) == ("/hello", "v1")
