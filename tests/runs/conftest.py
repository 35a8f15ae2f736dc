"""One sandbox for all whole runs, with the plan's time compressed, and eyes on its production."""

from __future__ import annotations

import json

import httpx
import psycopg
import pytest

from sandbox.runs import Team
from sandbox.services.access import Access
from tests.support.until import until


class Production:
    """What a person with kubectl would look at."""

    def __init__(self, endpoints):
        self._public = endpoints["public"]
        self._kube = Access(**endpoints["kubernetes"]).client()

    def _get(self, path):
        return self._kube.get(path).raise_for_status().json()

    def serving(self) -> str:
        """The version that answers new connections; they must all agree."""
        versions = {httpx.get(f"{self._public}/health", trust_env=False).headers["X-Version"] for _ in range(10)}
        assert len(versions) == 1, versions
        return versions.pop()

    def state(self):
        answer = self._kube.get("/api/v1/namespaces/production/configmaps/pms-deployment")
        return json.loads(answer.json()["data"]["state"]) if answer.status_code == 200 else None

    def lock_holder(self) -> str:
        path = "/apis/coordination.k8s.io/v1/namespaces/production/leases/pms-deployment"
        answer = self._kube.get(path)
        return answer.json()["spec"].get("holderIdentity") or "" if answer.status_code == 200 else ""

    def replicas(self, colour: str) -> int:
        path = f"/apis/apps/v1/namespaces/production/deployments/pms-{colour}"
        answer = self._kube.get(path)
        return answer.json()["spec"]["replicas"] if answer.status_code == 200 else 0


@pytest.fixture(scope="session", autouse=True)
def follow_ups_wait(endpoints):
    """Two dozen tasks behind every deployment would take the time of the tests that come after it."""
    Team(endpoints).admin.pause("pms_followups")


@pytest.fixture
def team(endpoints, production):
    """A test begins when nobody deploys any more, also where the one before it failed half-way."""
    until(lambda: not production.lock_holder(), "the lock to be free")
    return Team(endpoints, print)


@pytest.fixture
def production(endpoints):
    return Production(endpoints)


@pytest.fixture
def primary(endpoints):
    with psycopg.connect(endpoints["postgres"]["primary"], autocommit=True) as connection:
        yield connection


@pytest.fixture
def recorded(endpoints):
    """Gives what the recorder saw since the test began, of one service or of all."""
    httpx.delete(f"{endpoints['recorder']}/recorded", trust_env=False).raise_for_status()

    def read(service=None):
        params = {"service": service} if service else {}
        return httpx.get(f"{endpoints['recorder']}/recorded", params=params, trust_env=False).json()

    return read
