"""Services under traffic: what a switch of the selector does to new and to established connections."""

from __future__ import annotations

import asyncio
import http.client
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

pytestmark = pytest.mark.sandbox

MERGE = "application/merge-patch+json"
Fetch = Callable[..., Awaitable[str]]


class Public:
    """A Service in front of two colours."""

    def __init__(self, cluster: Any, namespace: str) -> None:
        self.cluster = cluster
        self.path = f"/api/v1/namespaces/{namespace}/services"
        self.slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
        body = {
            "metadata": {"name": "public"},
            "spec": {"selector": {"app": "test", "version": "blue"}, "ports": [{"port": 80, "targetPort": "http"}]},
        }
        status, made = cluster.call("POST", self.path, body)
        assert status == 201, made
        self.address = made["spec"]["clusterIP"]

    def select(self, **selector: str | None) -> None:
        status, answer = self.cluster.call("PATCH", f"{self.path}/public", {"spec": {"selector": selector}}, MERGE)
        assert status == 200, answer

    def ready(self) -> int:
        found = self.cluster.get(f"{self.slices}?labelSelector=kubernetes.io/service-name%3Dpublic")["items"]
        return sum(one["conditions"]["ready"] for part in found for one in part["endpoints"])


@pytest.fixture
def public(cluster: Any, namespace: str, workload: Callable[..., Any], eventually: Callable[..., Any]) -> Public:
    for name, version in (("blue", "v1"), ("green", "v2")):
        path = f"/apis/apps/v1/namespaces/{namespace}/deployments"
        status, answer = cluster.call("POST", path, workload(name, version, replicas=2))
        assert status == 201, answer
    found = Public(cluster, namespace)
    found.select(version=None)
    eventually(lambda: found.ready() == 4)
    found.select(version="blue")
    eventually(lambda: found.ready() == 2)
    return found


async def test_traffic_is_switched_over_and_back_without_a_failed_connection(public: Public, fetch: Fetch) -> None:
    seen: Counter[str] = Counter()
    phase = "before"
    stop = asyncio.Event()

    async def visitor() -> None:
        while not stop.is_set():
            at = phase
            version = await fetch(public.address, 80)
            seen[f"{at}:{version}" if at == phase else "in between"] += 1
            await asyncio.sleep(random.uniform(0, 0.01))

    visitors = [asyncio.create_task(visitor()) for _ in range(6)]
    await asyncio.sleep(0.3)
    for name, version in (("both", None), ("green", "green"), ("back", "blue")):
        phase = name
        await asyncio.to_thread(public.select, version=version)
        phase = f"{name}!"  # the answer to the patch is there: from here on it holds
        await asyncio.sleep(0.4)
    stop.set()
    await asyncio.gather(*visitors)  # a visitor whose connection failed would raise here
    assert sum(seen.values()) > 200
    assert seen["both!:v1"] > 0
    assert seen["both!:v2"] > 0
    assert seen["green!:v1"] == seen["back!:v2"] == seen["before:v2"] == 0
    assert seen["green!:v2"] > 0


def test_an_established_connection_stays_with_its_pod(public: Public) -> None:
    connection = http.client.HTTPConnection(public.address, 80, timeout=10)

    def version() -> str | None:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        return answer.headers["X-Version"]

    assert version() == "v1"
    public.select(version="green")
    assert [version() for _ in range(3)] == ["v1"] * 3
    fresh = http.client.HTTPConnection(public.address, 80, timeout=10)
    fresh.request("GET", "/")
    assert fresh.getresponse().headers["X-Version"] == "v2"


def test_without_a_ready_pod_a_connection_fails(public: Public) -> None:
    public.select(version="purple")

    def visit() -> None:
        connection = http.client.HTTPConnection(public.address, 80, timeout=10)
        connection.request("GET", "/")
        connection.getresponse()

    with pytest.raises((ConnectionError, http.client.HTTPException)):
        visit()


def test_a_pod_on_its_way_out_is_taken_from_the_service_at_once(
    cluster: Any, namespace: str, workload: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    body = workload("blue", env=[{"name": "LINGER", "value": "2"}])
    cluster.call("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", body)
    public = Public(cluster, namespace)
    eventually(lambda: public.ready() == 1)
    (pod,) = cluster.get(f"/api/v1/namespaces/{namespace}/pods")["items"]
    cluster.call("DELETE", f"/apis/apps/v1/namespaces/{namespace}/deployments/blue")
    eventually(lambda: public.ready() == 0, 1)
    assert cluster.get(f"/api/v1/namespaces/{namespace}/pods/{pod['metadata']['name']}")  # it still has two seconds
    (part,) = cluster.get(public.slices)["items"]
    assert part["endpoints"][0]["conditions"]["terminating"] is True


def test_large_bodies_and_half_closed_connections_pass_whole(
    cluster: Any, namespace: str, workload: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    cluster.call("POST", f"/apis/apps/v1/namespaces/{namespace}/deployments", workload("blue"))
    public = Public(cluster, namespace)
    eventually(lambda: public.ready() == 1)
    body = b"x" * 5_000_000
    with socket.create_connection((public.address, 80), timeout=20) as connection:
        head = f"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    assert received.count(b"x" * 1000) >= 5000 - 1


def test_addresses_are_unique_may_be_asked_for_and_return(cluster: Any, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/services"

    def service(name: str, **spec: Any) -> tuple[int, Any]:
        return cluster.call("POST", path, {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}})

    address = f"{cluster.subnet}.2.250"
    assert service("a", clusterIP=address)[1]["spec"]["clusterIP"] == address
    assert service("b", clusterIP=address)[0] == 422
    assert service("c", clusterIP="10.0.0.1")[0] == 422
    assert service("d")[1]["spec"]["clusterIP"].startswith(f"{cluster.subnet}.2.")
    cluster.call("DELETE", f"{path}/a")
    assert service("b", clusterIP=address)[0] == 201


def test_the_api_passes_requests_on_to_pods_and_services_without_its_own_token(
    public: Public, cluster: Any, namespace: str
) -> None:
    pod = cluster.get(f"/api/v1/namespaces/{namespace}/pods?labelSelector=version%3Dblue")["items"][0]["metadata"][
        "name"
    ]
    for base in (
        f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy",
        f"/api/v1/namespaces/{namespace}/pods/{pod}:http/proxy",
        f"/api/v1/namespaces/{namespace}/pods/http:{pod}:8080/proxy",
        f"/api/v1/namespaces/{namespace}/pods/{pod}/proxy",
        f"/api/v1/namespaces/{namespace}/services/public:80/proxy",
    ):
        status, answer = cluster.call("POST", f"{base}/-/drain?now=1%2F2", {"a": 1}, X_Admin_Token="admin")
        assert status == 200
        assert (answer["path"], answer["body"]) == ("/-/drain?now=1%2F2", '{"a": 1}')
        assert answer["headers"]["x-admin-token"] == "admin"
        assert "authorization" not in answer["headers"]
    status, answer = cluster.call("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}:1/proxy/")
    assert (status, answer["reason"]) == (503, "ServiceUnavailable")
