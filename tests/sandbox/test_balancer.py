"""The load balancer of the cluster's tests: whoever is behind the Service gets what clients send, at first at once."""

from __future__ import annotations

import socket

import httpx

from sandbox.balancer import balanced
from tests.support.until import until
from tests.support.web import Answer, serving


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def test_it_leads_to_what_is_behind_the_service_and_says_503_where_nobody_is(tmp_path):
    behind: list[int] = []

    def slices(_):
        ends = [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}]
        return Answer(200, {"items": [{"endpoints": ends, "ports": [{"port": port}]} for port in behind]})

    with serving(lambda _: Answer(200, {"status": "ok"})) as pod, serving(slices) as api:
        behind.append(int(pod.url.rpartition(":")[2]))
        listen, access = ("127.0.0.1", free_port()), {"url": api.url, "token": "t"}
        url = f"http://{listen[0]}:{listen[1]}/health"
        with balanced(listen, access, "production", "web", "/health", tmp_path / "out.json") as seen:
            assert httpx.get(url, trust_env=False).json() == {"status": "ok"}
            behind.clear()
            until(lambda: httpx.get(url, trust_env=False).status_code == 503, "that the pod is dropped")
    assert seen["fewest_targets"] == 0 and seen["refused"] >= 1
