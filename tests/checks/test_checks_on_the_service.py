"""The plan's checks and scenario against the real service on a real database."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from handover.checks.operators import Baseline as TakeBaseline
from handover.checks.operators import CriticalPaths, KeyEndpoints, Performance, ResponseTimes
from handover.checks.sensors import Healthy
from tests.sandbox.hotel.conftest import (  # noqa: F401 - fixtures
    ADMIN_TOKEN,
    PASSWORD,
    database,
    postgres,
    seeded,
    start_pod,
)
from tests.support.cluster import image
from tests.support.steps import connect_to, opened, release, run

pytestmark = pytest.mark.sandbox


@pytest.fixture
def service(start_pod, database, monkeypatch):  # noqa: F811
    pod = start_pod(database, PMS_VERSION="v1.1.0")
    at = urlsplit(pod.url)
    extra = {"test_email": "test@example.com", "test_password": PASSWORD}
    connect_to(monkeypatch, "pms_api", host=at.hostname, port=at.port, password=ADMIN_TOKEN, extra=extra)
    return pod


@pytest.mark.plan(
    "curl -X POST https://api.pms.example.com/auth/login",
    "curl -X POST https://api.pms.example.com/bookings -H",
    "curl -X POST https://api.pms.example.com/payments",
    "curl -X POST https://api.pms.example.com/bookings/123/check-in",
)
def test_every_check_of_a_good_release_passes(in_cluster, plan, service):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0")))
    asked = release("unused:tag")
    plan = plan.model_copy(update={"performance": plan.performance.model_copy(update={"requests": 60})})
    steps = [
        Healthy(task_id="health", plan=plan, connection="pms_api", path="/health", expect_version=True),
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
