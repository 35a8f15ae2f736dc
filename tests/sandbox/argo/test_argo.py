"""Argo Rollouts on a real cluster: one rollout, taken back by hand, and nothing left of it."""

from __future__ import annotations

import time

import httpx
import pytest

from sandbox.argo import Argo, Rollout, manifests
from sandbox.argo.build import MANIFESTS
from sandbox.argo.controller import left
from sandbox.argo.objects import Objects
from sandbox.rounds import NEW, OLD
from sandbox.services.access import Access
from sandbox.stack import Sandbox

pytestmark = pytest.mark.cluster
BACK_SECONDS = 10


@pytest.fixture
def endpoints(real_cluster, tmp_path):
    """Pods of the hotel, and the error tracker that is watched."""
    with Sandbox(tmp_path / "home", small=True, only=["pms", "recorder"], cluster=real_cluster) as running:
        yield running.endpoints


def version(url: str) -> str:
    """What serves a new connection."""
    return httpx.get(f"{url}/health", trust_env=False).headers["X-Version"]


def test_a_rollout_is_analysed_and_goes_back_when_it_is_aborted(endpoints, real_cluster, tmp_path):
    inside = f"http://127.0.0.1:{manifests.ACTIVE_PORT}"
    outside = f"http://{real_cluster.node}:{manifests.ACTIVE_PORT}"
    images = endpoints["images"]
    with Argo(endpoints, tmp_path / "argo") as argo, Rollout(argo, images[OLD], images[NEW], inside) as rollout:
        time.sleep(2)  # some samples: the analysis is content with a good release
        assert {version(outside) for _ in range(20)} == {NEW}
        assert len(rollout.new_pods()) == 2
        assert not rollout.has_a_verdict(), rollout.verdict()
        rollout.abort()
        deadline = time.monotonic() + BACK_SECONDS
        while version(outside) != OLD and time.monotonic() < deadline:
            time.sleep(0.05)
        assert {version(outside) for _ in range(20)} == {OLD}
    with Access(**endpoints["kubernetes"]).client() as client:
        assert left(Objects(client), tmp_path / "argo" / MANIFESTS) == []
