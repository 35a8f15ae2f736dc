"""Where an Airflow outside of the cluster reaches a Service: tried from here, never guessed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from handover.adoption.addresses import is_within, reached
from tests.twins.kube import SERVICES, TwinCluster

KNOWN = "http://web.shop.invalid:80"
"""A name that nobody has outside of the cluster."""


@pytest.fixture
def port() -> Iterator[int]:
    """Where something listens on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def from_here(service_port: int, *, known: str = KNOWN, host: str = "127.0.0.1", **port) -> str:
    async def whole() -> str:
        kube = TwinCluster().client("shop")
        spec = {"selector": {"app": "web"}, "clusterIP": host, "ports": [{"port": service_port, **port}]}
        await kube.create(SERVICES, {"metadata": {"name": "web"}, "spec": spec})
        return await reached(kube, "web", known)

    return asyncio.run(whole())


def test_the_address_that_is_known_is_kept_where_it_answers(port):
    known = f"http://127.0.0.1:{port}"
    assert from_here(1, known=known) == known


def test_else_the_service_itself_is_taken_where_it_answers(port):
    assert from_here(port) == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["None", "127.0.0.1"])
def test_where_nothing_answers_nothing_is_made_up(host):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert from_here(closed.getsockname()[1], host=host) == ""


@pytest.mark.parametrize(("url", "within"), [
    ("http://web.shop.svc:80", True), ("http://web.shop.svc.example.com", False), ("https://shop.example.com", False),
    ("", False),
])  # fmt: skip
def test_only_a_name_of_the_cluster_is_replaced(url, within):
    assert is_within(url) is within
