"""The real Kubernetes: pods from our own registry, reached from everywhere, and what it survives and leaves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import urllib3
from kubernetes import client, config

from sandbox.kubernetes import Cluster, Kubernetes, description, is_up, requirements
from sandbox.kubernetes.addresses import Addresses
from sandbox.kubernetes.network import Claim
from sandbox.kubernetes.processes import COMPONENTS
from sandbox.settings import REPOSITORY, SandboxError
from tests.sandbox.kubernetes import traces
from tests.sandbox.kubernetes.image import build_hello, push

MISSING = requirements()
pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(MISSING), reason=" ".join(MISSING))]
REPOSITORY_NAME = "ai-hotel/hello"
NODE_PORT = 30080


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Kubernetes(tmp_path_factory.mktemp("cluster") / "home", tell=print) as running:
        yield running


@pytest.fixture(scope="module")
def api(cluster):
    with config.new_client_from_config(cluster.kubeconfig) as connection:
        yield client.CoreV1Api(connection)


@pytest.fixture(scope="module")
def hello(cluster, api, tmp_path_factory):
    """A pod, Ready behind a NodePort, from an image that was pushed by digest."""
    digest = push(cluster, REPOSITORY_NAME, build_hello(tmp_path_factory.mktemp("hello")))
    api.create_namespaced_pod("default", pod("hello", f"ghcr.io/{REPOSITORY_NAME}@{digest}"))
    ports = [{"port": 80, "targetPort": 8080, "nodePort": NODE_PORT}]
    spec = {"type": "NodePort", "selector": {"app": "hello"}, "ports": ports}
    api.create_namespaced_service("default", {"metadata": {"name": "hello"}, "spec": spec})
    until(lambda: is_ready(api, "hello"))
    return api.read_namespaced_pod("hello", "default")


def pod(name: str, image: str) -> dict:
    probe = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1}
    container = {"name": "main", "image": image, "readinessProbe": probe}
    container["resources"] = {"limits": {"memory": "64Mi", "cpu": "500m"}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


def is_ready(api, name: str) -> bool:
    conditions = api.read_namespaced_pod(name, "default").status.conditions or []
    return any(one.type == "Ready" and one.status == "True" for one in conditions)


def until(holds, seconds: float = 60):
    """What it gives as soon as that is true; errors of the connection count as not yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(client.ApiException, httpx.HTTPError, urllib3.exceptions.HTTPError, OSError):
            if value := holds():
                return value
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def get(url: str) -> str:
    return httpx.get(url, timeout=5, trust_env=False).raise_for_status().text


def cli(command: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "sandbox.kubernetes", command, "--home", str(home), *arguments]
    return subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, timeout=300, check=False)


def test_the_pod_answers_at_node_port_service_and_its_own_address(cluster, api, hello):
    until(lambda: get(f"http://{cluster.node}:{NODE_PORT}") == "hello")
    service = api.read_namespaced_service("hello", "default").spec.cluster_ip
    assert get(f"http://{service}") == "hello"
    assert get(f"http://{hello.status.pod_ip}:8080") == "hello"


def test_the_node_port_answers_on_loopback_inside_of_the_node(cluster, hello):
    script = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{NODE_PORT}', timeout=5).read().decode())"
    enter = ["nsenter", f"--net=/proc/{cluster.init_pid}/ns/net", sys.executable, "-c", script]
    assert until(lambda: subprocess.run(enter, capture_output=True, text=True, check=False).stdout) == "hello\n"


def test_the_pod_reaches_servers_of_the_machine_with_its_own_address(cluster, hello):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.client_address[0].encode())

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer((f"{cluster.host_prefix}.9", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{cluster.host_prefix}.9:{server.server_port}/"
        assert get(f"http://{hello.status.pod_ip}:8080/fetch?url={url}") == hello.status.pod_ip
        server.shutdown()


def test_logs_and_the_images_digest_are_there(api, hello):
    # The client's own decoding of logs gives the text of a bytes literal.
    log = api.read_namespaced_pod_log("hello", "default", _preload_content=False).data
    assert log == b"hello from a pod\n"
    assert hello.status.container_statuses[0].image_id.startswith(f"ghcr.io/{REPOSITORY_NAME}@sha256:")


def test_the_pod_runs_below_the_clusters_own_control_group_with_its_limit(cluster, hello):
    (program,) = [one for one in traces.processes(cluster.init_pid) if one.cmdline()[:1] == ["/hello"]]
    groups = Path(f"/proc/{program.pid}/cgroup").read_text()
    name = Addresses(int(cluster.node.split(".")[1])).cgroup
    assert f"/{name}/kubepods/pod{hello.metadata.uid}/" in groups


def test_a_service_account_may_only_what_it_was_given(cluster, api):
    request = {"spec": {"expirationSeconds": 600}}
    token = api.create_namespaced_service_account_token("default", "default", request).status.token
    ca = api.api_client.configuration.ssl_ca_cert
    url = f"{api.api_client.configuration.host}/api/v1/namespaces/default/secrets"
    with httpx.Client(verify=ssl.create_default_context(cafile=ca), trust_env=False) as http:
        assert http.get(url).status_code == 403
        assert http.get(url, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert http.get(url, headers={"authorization": f"Bearer {token}"}).status_code == 403


def test_the_registry_knows_its_user_only(cluster):
    url = f"{cluster.registry_url}/v2/"
    assert httpx.get(url, trust_env=False).status_code == 401
    assert httpx.get(url, auth=(cluster.registry_user, "wrong"), trust_env=False).status_code == 401
    credentials = (cluster.registry_user, cluster.registry_password)
    assert httpx.get(url, auth=credentials, trust_env=False).status_code == 200


def test_an_image_can_be_deleted_and_is_then_not_to_be_had(cluster, api, hello, tmp_path):
    digest = push(cluster, "ai-hotel/gone", build_hello(tmp_path))
    url = f"{cluster.registry_url}/v2/ai-hotel/gone/manifests/{digest}"
    credentials = (cluster.registry_user, cluster.registry_password)
    assert httpx.delete(url, auth=credentials, trust_env=False).status_code == 202
    api.create_namespaced_pod("default", pod("gone", f"ghcr.io/ai-hotel/gone@{digest}"))

    def refused() -> bool:
        statuses = api.read_namespaced_pod("gone", "default").status.container_statuses or []
        return any(one.state.waiting and one.state.waiting.reason == "ErrImagePull" for one in statuses)

    until(refused)
    api.delete_namespaced_pod("gone", "default", grace_period_seconds=0)


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_that_is_killed_comes_back_and_traffic_flows_on(cluster, api, hello, component):
    killed = cluster.processes[component]
    os.kill(killed, signal.SIGKILL)
    until(lambda: cluster.processes.get(component, killed) != killed, seconds=10)
    assert get(f"http://{cluster.node}:{NODE_PORT}") == "hello"
    until(lambda: api.read_namespaced_service("hello", "default"))


def test_after_all_of_that_new_pods_still_start(cluster, api, hello):
    image = hello.spec.containers[0].image
    until(lambda: api.create_namespaced_pod("default", pod("late", image)))
    until(lambda: is_ready(api, "late"))
    assert set(cluster.processes) == set(COMPONENTS)
    assert api.read_namespaced_pod("hello", "default").status.container_statuses[0].restart_count == 0


def test_two_clusters_run_side_by_side_and_one_leaves_the_other_alone(cluster, hello, tmp_path):
    with Kubernetes(tmp_path / "home") as other:
        assert other.node != cluster.node
        with config.new_client_from_config(other.kubeconfig) as connection:
            names = [one.metadata.name for one in client.CoreV1Api(connection).list_namespaced_pod("default").items]
        assert names == []
        with pytest.raises(SandboxError, match="already up"):
            Kubernetes(tmp_path / "home").start()
    assert not (tmp_path / "home").exists()
    assert get(f"http://{cluster.node}:{NODE_PORT}") == "hello"


def test_nothing_is_left_on_the_machine(tmp_path):
    Claim.take().close()  # clears what a cluster that died before this test has left
    before = traces.look()
    with Kubernetes(tmp_path / "home") as cluster:
        processes = traces.processes(cluster.init_pid)
        assert len(processes) > len(COMPONENTS)
        # The machine sees its own end of the link, the routes and the group for pods, and nothing else.
        during = traces.made_by(cluster, before)
        assert set(during) == {"links", "routes", "groups"}, during
    assert traces.left_by(cluster, before) == {}
    assert traces.running(processes) == []
    assert not (tmp_path / "home").exists()


def test_up_status_down_and_a_crash_on_the_command_line(tmp_path):
    home, before = tmp_path / "home", traces.look()
    assert cli("status", home).returncode == 3
    try:
        first = cli("up", home)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "export KUBECONFIG=" in first.stdout
        assert "Already up" in cli("up", home).stdout
        told = json.loads(cli("status", home, "--json").stdout)
        assert set(told["processes"]) == set(COMPONENTS) and sum(told["memory_bytes"].values()) > 300e6
        assert "registry_password" not in told
        clusters = [crash(home)]
        assert cli("status", home).returncode == 3
        assert cli("up", home).returncode == 0  # it clears what the dead one left
        clusters.append(crash(home))
    finally:
        down = cli("down", home)
    assert down.returncode == 0, down.stderr
    assert [traces.left_by(cluster, before) for cluster in clusters] == [{}, {}] and not home.exists()


def crash(home: Path) -> Cluster:
    """Kill process 1 of the cluster, and see all others end with it."""
    cluster = Cluster.read(description(home))
    processes = traces.processes(cluster.init_pid)
    os.kill(cluster.init_pid, signal.SIGKILL)
    until(lambda: not traces.running(processes))
    return cluster


def test_a_cluster_ends_with_its_owner_even_if_that_is_killed(tmp_path):
    home = tmp_path / "home"
    script = (
        "import sys, time; from pathlib import Path; from sandbox.kubernetes import Kubernetes\n"
        "with Kubernetes(Path(sys.argv[1])): print('up', flush=True); time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, str(home)], cwd=REPOSITORY, stdout=subprocess.PIPE)
    try:
        assert owner.stdout is not None and owner.stdout.readline() == b"up\n"
        processes = traces.processes(Cluster.read(description(home)).init_pid)
        owner.kill()
        until(lambda: not traces.running(processes))
        assert not is_up(home)
    finally:
        owner.kill()
        owner.wait()
        Kubernetes(home).stop()
    assert not home.exists()
