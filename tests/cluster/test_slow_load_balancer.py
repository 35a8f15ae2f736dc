"""Cutovers and aborts behind a load balancer that lets a pod in after 5 s of health checks, and drops one at once."""

from __future__ import annotations

import time

import pytest

from sandbox.balancer import balanced
from sandbox.cutover import ROLLBACKS, SWITCHES, cutover
from sandbox.services.access import Access
from tests.support.endpoints import endpoints_seen
from tests.support.steps import connect_to

pytestmark = pytest.mark.cluster
PORT = 18480
RATE = 40.0
"""Requests a second."""


def test_no_request_is_lost_either_way_and_no_fewer_pods_serve_than_before(hotel, tmp_path, monkeypatch):
    listen = (f"{hotel.cluster.host_prefix}.20", PORT)
    url = f"http://{listen[0]}:{PORT}"
    endpoints = hotel.endpoints | {"public": url, "guests": hotel.endpoints["guests"] | {"url": url}}
    connect_to(monkeypatch, hotel.plan.traffic.api_connection, host=url)
    cluster, begun = hotel.plan.cluster, time.monotonic()
    with (
        Access(**hotel.endpoints["kubernetes"]).client() as kube,
        balanced(
            listen, hotel.endpoints["kubernetes"], cluster.namespace, cluster.service, hotel.plan.health.path,
            tmp_path / "balancer.json",
        ) as balancer,
        endpoints_seen(kube) as seen,
    ):  # fmt: skip
        report = cutover(endpoints, hotel.plan, tmp_path, rate=RATE)
    print(
        f"{report['switches']} cutovers and {report['rollbacks']} aborts in {time.monotonic() - begun:.0f} s: "
        f"{report['requests']} requests, {report['failed']} failed, {report['bad_answers']} bad; at least {min(seen)} "
        f"endpoints and {balancer['fewest_targets']} targets served, {balancer['refused']} connections met nobody"
    )
    assert (report["switches"], report["rollbacks"]) == (SWITCHES, ROLLBACKS)
    assert (report["failed"], report["bad_answers"], balancer["refused"]) == (0, 0, 0)
    assert min(seen) >= cluster.replicas
    assert balancer["fewest_targets"] >= 1
