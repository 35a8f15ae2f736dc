"""The maintenance banner is shown and taken away through the service's own switch, and only where it was asked for."""

from __future__ import annotations

import pytest

from handover.coordination import state
from handover.people.operators import Banner
from tests.support.cluster import in_cluster, namespace, plan  # noqa: F401 - fixtures
from tests.support.steps import connect_to, opened, release, run
from tests.support.web import Answer, serving

pytestmark = pytest.mark.sandbox
IMAGE = "registry.example.com/shop/web@sha256:1"
ASKED = release(IMAGE)


@pytest.fixture
def service(monkeypatch):
    with serving(lambda _: Answer()) as web:
        connect_to(monkeypatch, "pms_api", host=web.host, port=web.port, password="admin-token")
        yield web


@pytest.fixture
def token(in_cluster, plan):  # noqa: F811
    return in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE))


def is_kept(in_cluster, plan) -> bool:  # noqa: F811
    return in_cluster(lambda kube: state.read(kube, plan.lock_name)).banner


@pytest.mark.plan(
    "In production API (optional, for graceful handling)",
    "This informs users of maintenance window",
    "Or use feature flag to show banner to users",
)
def test_users_see_the_banner_from_the_start_to_the_end(in_cluster, plan, token, service):  # noqa: F811
    shown = run(Banner(task_id="banner", plan=plan, show=True), token, ASKED)
    assert shown.evidence.reason == "the banner is shown"
    assert is_kept(in_cluster, plan)
    gone = run(Banner(task_id="banner", plan=plan, show=False), token, ASKED)
    assert gone.evidence.reason == "the banner is gone"
    assert not is_kept(in_cluster, plan)
    assert [(call.method, call.path, call.body) for call in service.asked] == [
        (plan.banner.method, plan.banner.path, {"enabled": True, "message": plan.banner.message}),
        (plan.banner.method, plan.banner.path, {"enabled": False, "message": ""}),
    ]


def test_a_release_that_asked_for_none_has_none(plan, token, service):  # noqa: F811
    without = ASKED.model_copy(update={"banner": False})
    for show in (True, False):
        assert run(Banner(task_id="banner", plan=plan, show=show), token, without).evidence.passed
    assert service.asked == []
