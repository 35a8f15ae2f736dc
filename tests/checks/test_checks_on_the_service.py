"""The plan's checks and scenario against the real service on a real database."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from handover.adapters.postgres import Database
from handover.checks.operators import Baseline as TakeBaseline
from handover.checks.operators import CriticalPaths, KeyEndpoints, Performance, ResponseTimes
from handover.checks.sensors import Healthy
from handover.plan.model import Plan
from sandbox.hotel import seed
from tests.sandbox.hotel.conftest import ADMIN_TOKEN, PASSWORD, start_pod  # noqa: F401 - a fixture
from tests.support.cluster import image
from tests.support.steps import connect_to, opened, release, run

pytestmark = pytest.mark.sandbox


def fill(hotel: Database) -> None:
    seed.small(dsn(hotel), test_password=PASSWORD, admin_password=PASSWORD)


def dsn(hotel: Database) -> str:
    return f"postgresql://{hotel.user}:{hotel.password}@{hotel.host}:{hotel.port}/{hotel.name}"


@pytest.fixture
def service(start_pod, servers, monkeypatch):  # noqa: F811
    pod = start_pod(dsn(servers.copy("hotel to log in to", "owner", fill)), PMS_VERSION="v1.1.0")
    at = urlsplit(pod.url)
    extra = {"test_email": "test@example.com", "test_password": PASSWORD}
    connect_to(monkeypatch, "pms_api", host=at.hostname, port=at.port, password=ADMIN_TOKEN, extra=extra)
    return pod


def judging_no_speed(plan: Plan) -> Plan:
    """How fast the service is on this machine says nothing about the checks."""
    lax = {"max_p50_seconds": 60.0, "max_p99_seconds": 60.0, "noise_floor_seconds": 60.0}
    performance = plan.performance.model_copy(update={"requests": 60})
    thresholds = plan.thresholds.model_copy(update=lax)
    return plan.model_copy(update={"performance": performance, "thresholds": thresholds})


@pytest.mark.plan(
    "curl -X POST https://api.pms.example.com/auth/login",
    "curl -X POST https://api.pms.example.com/bookings -H",
    "curl -X POST https://api.pms.example.com/payments",
    "curl -X POST https://api.pms.example.com/bookings/123/check-in",
)
def test_every_check_of_a_good_release_passes(in_cluster, plan, service):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0")))
    asked = release("unused:tag")
    plan = judging_no_speed(plan)
    steps = [
        Healthy(task_id="health", plan=plan, connection="pms_api", path="/health", expect_version=True, successes=1),
        KeyEndpoints(task_id="key", plan=plan),
        TakeBaseline(task_id="baseline", plan=plan),
        ResponseTimes(task_id="times", plan=plan),
        CriticalPaths(task_id="critical", plan=plan),
        CriticalPaths(task_id="critical_again", plan=plan),
        Performance(task_id="performance", plan=plan),
    ]
    for step in steps:
        ran = run(step, token, asked)
        assert ran.evidence.passed, ran.evidence.reason
