"""A running cluster for the tests, on addresses of its own, with three tiny images."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

APP = """
import http.server, json, os, signal, sys, threading, time
version = os.environ["VERSION"]
ready = [os.environ.get("READY", "yes") == "yes"]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/unready": ready[0] = False
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        answer = {"version": version, "pod": os.environ.get("POD_NAME"), "path": self.path, "body": body,
                  "headers": {key.lower(): value for key, value in self.headers.items()},
                  "environment": dict(os.environ) if self.path == "/environment" else None}
        answer = json.dumps(answer).encode()
        self.send_response(200 if ready[0] or self.path != "/health" else 503)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("X-Version", version)
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_PUT = do_DELETE = do_GET
    def log_message(self, text, *values): print(text % values, flush=True)
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512
server = Server((os.environ["POD_IP"], 8080), Handler)
def leave(*_):
    print("SIGTERM at", time.time(), flush=True)
    time.sleep(float(os.environ.get("LINGER", "0")))
    os._exit(0)
signal.signal(signal.SIGTERM, leave)
print("up", version, flush=True)
server.serve_forever()
"""


@dataclass
class Cluster:
    """What a test needs to reach the cluster, and a few words to say what it wants."""

    subnet: str
    token: str
    home: Path
    process: subprocess.Popen[bytes]
    port: int = 6443

    @property
    def url(self) -> str:
        return f"http://{self.subnet}.0.1:{self.port}"

    @property
    def kubeconfig(self) -> Path:
        return self.home / "data" / "kubeconfig"

    def call(
        self, method: str, path: str, body: Any = None, media: str = "application/json", **headers: str
    ) -> tuple[int, Any]:
        """One request to the API: the status and what came back, as an object if it is one."""
        raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, raw, method=method)
        request.add_header("Content-Type", media)
        request.add_header("Authorization", f"Bearer {self.token}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, _decode(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _decode(error.read())

    def get(self, path: str) -> Any:
        status, found = self.call("GET", path)
        assert status == 200, found
        return found

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        binary = shutil.which("kubectl")
        if binary is None:
            pytest.skip("no kubectl on PATH")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": str(self.kubeconfig)}
        done = subprocess.run(
            [binary, *arguments], input=stdin, capture_output=True, text=True, env=environment, timeout=60, check=False
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode()


def eventually(check: Callable[[], Any], seconds: float = 20) -> Any:
    """What `check` returns once it is true; its last answer is part of the failure."""
    deadline = time.monotonic() + seconds
    while True:
        found = check()
        if found or time.monotonic() > deadline:
            assert found, f"not within {seconds} s: {check}"
            return found
        time.sleep(0.05)


@pytest.fixture(name="eventually", scope="session")
def _eventually() -> Callable[..., Any]:
    return eventually


def free_subnet() -> str:
    """A 127.x on which nobody listens at the API's port."""
    for _ in range(50):
        subnet = f"127.{random.randint(100, 240)}"
        with socket.socket() as probe:
            try:
                probe.bind((f"{subnet}.0.1", 6443))
            except OSError:
                continue
            return subnet
    pytest.skip("no loopback address but 127.0.0.1 can be used here (Linux has all of 127/8)")


def start_cluster(home: Path, **settings: Any) -> Cluster:
    (home / "image").mkdir(parents=True, exist_ok=True)
    (home / "image" / "app.py").write_text(APP)
    images = []
    for repository, tag, argv in (
        ("test/app", "v1", ["python", "app.py"]),
        ("test/app", "v2", ["python", "app.py"]),
        ("test/tool", "v1", ["python", "-c", "print('tool')"]),
    ):
        digest = "sha256:" + hashlib.sha256(f"{repository}:{tag}".encode()).hexdigest()
        images.append({"repository": repository, "tag": tag, "digest": digest, "argv": argv,
                       "workdir": str(home / "image"), "env": {"VERSION": tag}, "path": []})  # fmt: skip
    (home / "images.json").write_text(json.dumps({"images": images}))
    subnet = free_subnet()
    config = {"subnet": subnet, "port": 6443, "token": "secret", "data_dir": str(home / "data"),
              "catalogue": str(home / "images.json"), **settings}  # fmt: skip
    (home / "config.json").write_text(json.dumps(config))
    environment = {**os.environ, "LEAKED": "from the parent"}
    with (home / "cluster.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox.cluster", "--config", str(home / "config.json")],
            env=environment, stdout=log, stderr=log, cwd=Path(__file__).parents[3],
        )  # fmt: skip
    cluster = Cluster(subnet, "secret", home, process)

    def answers() -> bool:
        assert process.poll() is None, (home / "cluster.log").read_text()
        try:
            return urllib.request.urlopen(cluster.url + "/readyz", timeout=1).status == 200
        except OSError:
            return False

    eventually(answers)
    return cluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = start_cluster(tmp_path_factory.mktemp("cluster"))
    yield found
    found.process.terminate()
    assert found.process.wait(timeout=20) == 0
    written = (found.home / "cluster.log").read_text()
    assert "Traceback" not in written, written


@pytest.fixture(name="start_cluster")
def _start_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Clusters that belong to one test, for those that stop or break them."""
    started: list[Cluster] = []

    def start(**settings: Any) -> Cluster:
        started.append(start_cluster(tmp_path / str(len(started)), **settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(timeout=20)


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"test-{random.randrange(10**9)}"
    status, _ = cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    assert status == 201
    yield name
    cluster.call("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def workload() -> Callable[..., dict[str, Any]]:
    """A Deployment of the test image."""

    def build(name: str = "app", version: str = "v1", replicas: int = 1, **container: Any) -> dict[str, Any]:
        labels = {"app": "test", "version": name}
        environment = [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            *container.pop("env", []),
        ]
        spec = {
            "name": "app",
            "image": f"test/app:{version}",
            "env": environment,
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1},
            **container,
        }
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"terminationGracePeriodSeconds": 5, "containers": [spec]},
                },
            },
        }

    return build


async def fetch(address: str, port: int, path: str = "/") -> str:
    """The version that answered one request on a connection of its own; raises whatever goes wrong."""
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        head, _, _ = answer.partition("\r\n\r\n")
        if not head.startswith("HTTP/1.1 200"):
            raise ConnectionError(f"no good answer: {head!r}")
        return next(line.split(": ")[1] for line in head.split("\r\n") if line.startswith("X-Version"))
    finally:
        writer.close()


@pytest.fixture(name="fetch")
def _fetch() -> Callable[..., Any]:
    return fetch
