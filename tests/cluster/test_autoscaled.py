"""Cutovers of a service that an autoscaler has made larger than its plan says, with Kubernetes' own controller.

Without a metrics API that controller still holds its least and its most, and says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from handover.plan.model import Plan
from sandbox.cutover import ROLLBACKS, SWITCHES, cutover
from sandbox.services.access import Access
from tests.support.endpoints import endpoints_seen
from tests.support.until import until

pytestmark = pytest.mark.cluster
SCALERS = "/apis/autoscaling/v2/namespaces/production/horizontalpodautoscalers"
DEPLOYMENTS = "/apis/apps/v1/namespaces/production/deployments"
SERVED, LEAST, MOST = 6, 2, 8
"""Pods that serve when it begins; and what the scaler of the other colour allows."""


def scaler(colour: str, least: int) -> dict:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": f"pms-{colour}"}
    cpu = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}
    spec = {
        "scaleTargetRef": target, "minReplicas": least, "maxReplicas": MOST,
        "metrics": [{"type": "Resource", "resource": cpu}],
    }  # fmt: skip
    return {"metadata": {"name": f"pms-{colour}"}, "spec": spec}


@pytest.fixture
def kube(hotel):
    with Access(**hotel.endpoints["kubernetes"]).client() as client:
        yield client


@pytest.fixture
def autoscaled(hotel, kube) -> Iterator[Plan]:
    """Blue serves with six pods, because its scaler wants so many; the plan says two."""
    for colour, least in (("blue", SERVED), ("green", LEAST)):
        kube.post(SCALERS, json=scaler(colour, least)).raise_for_status()
    until(lambda: ready(kube, "pms-blue") == SERVED, "that the scaler's pods are ready")
    assert hotel.plan.cluster.replicas < SERVED
    yield hotel.plan
    for colour in ("blue", "green"):
        kube.delete(f"{SCALERS}/pms-{colour}").raise_for_status()


def ready(kube, deployment: str) -> int:
    return kube.get(f"{DEPLOYMENTS}/{deployment}").json()["status"].get("readyReplicas", 0)


def test_never_do_fewer_pods_serve_than_before_and_no_request_is_lost(hotel, autoscaled, kube, tmp_path):
    begun = time.monotonic()
    with endpoints_seen(kube) as seen:
        report = cutover(hotel.endpoints, autoscaled, tmp_path)
    print(
        f"{report['switches']} cutovers and {report['rollbacks']} aborts in {time.monotonic() - begun:.0f} s: "
        f"{report['requests']} requests, {report['failed']} failed, {report['bad_answers']} bad; "
        f"{min(seen)} to {max(seen)} endpoints served"
    )
    assert (report["switches"], report["rollbacks"]) == (SWITCHES, ROLLBACKS)
    assert (report["failed"], report["bad_answers"], report["wrong_version_after_drain"]) == (0, 0, 0)
    assert min(seen) >= SERVED
    assert ready(kube, "pms-green") >= SERVED
