"""Roll back now: traffic is back before the answer, once, for whoever may; anybody else changes nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import httpx
import pytest
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import HTTPException

from handover.coordination import state as states
from handover.models.deployment import Status
from handover.outside import outside, standing_in
from handover.ports.kube import KubeError
from handover.workflows.page.application import application
from handover.workflows.rollback import routes
from handover.workflows.rollback.now import RollBackNow
from handover.workflows.rollback.start import rollback_run_id
from tests.support.steps import RUN_ID
from tests.twins.airflow import TwinAirflow
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

RUN = rollback_run_id(RUN_ID)
TOKEN = {"Authorization": "Bearer of the lead"}
WHY = {"reason": "checkout is broken"}


class Api:
    """The routes as a client meets them, with somebody signed in. ``rights``: of that person."""

    def __init__(self, world):  # noqa: F811
        self.world, self.airflow, self.rights = world, TwinAirflow(), {"GET", "POST"}
        self.app = application()
        self.app.state.plans = {"pms": RollBackNow(world.plan.model_copy(update={"record": None}))}
        self.app.dependency_overrides[get_user] = lambda: SimpleAuthManagerUser(username="lead", role="op")
        for method, route in {"GET": routes._may_look, "POST": routes._may_roll_back}.items():
            self.app.dependency_overrides[route] = self._right(method)

    def _right(self, method):
        def check():
            if method not in self.rights:
                raise HTTPException(403, "Forbidden")

        return check

    def ask(self, method="POST", path="/plans/pms/rollback", times=1, **what):
        what = {"headers": TOKEN, "json": WHY} | what if method == "POST" else {"headers": TOKEN} | what

        async def asked(_):
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://airflow.example.com") as client:
                given = [await client.request(method, path, **what) for _ in range(times)]
            for one in self.app.state.plans.values():
                await asyncio.gather(*one._behind)
            return given

        with standing_in(replace(outside(), airflow=lambda _connection: self.airflow)):
            return self.world.run(asked)[-1]


@pytest.fixture
def api(world):  # noqa: F811
    """Clients meet the new version."""
    world.run(world.promote)
    return Api(world)


def test_traffic_is_back_and_the_rollback_dag_has_begun_when_it_answers(world, api):  # noqa: F811
    answer = api.ask()
    told = answer.json()
    assert (answer.status_code, told["back"], told["moved"], told["rollback"]) == (200, True, True, RUN)
    assert told["said"] == f"traffic is on blue (v1.0.0); {RUN} does the rest"
    assert world.run(world.where) == ("blue", "aborted")
    assert api.airflow.started["pms_rollback", RUN] == {
        "reason": "checkout is broken (lead)", "deployment": RUN_ID,
    }  # fmt: skip


def test_twice_is_once(api):
    told = api.ask(times=3).json()
    assert (told["back"], told["moved"], told["rollback"]) == (True, False, RUN)
    assert list(api.airflow.started) == [("pms_rollback", RUN)]


def test_an_old_version_that_sleeps_is_left_to_the_rollback_dag_and_said(world, api):  # noqa: F811
    world.service.scale("blue", 0)
    answer = api.ask()
    assert (answer.status_code, answer.json()["back"], answer.json()["rollback"]) == (202, False, RUN)
    assert "traffic has not moved yet: pms-blue has no ready pod" in answer.json()["said"]
    assert world.run(world.where) == ("green", "promoted")


def test_an_airflow_that_does_not_answer_stops_no_way_back(world, api):  # noqa: F811
    api.airflow.away = True
    told = api.ask().json()
    assert (told["back"], told["rollback"]) == (True, "")
    assert "Airflow has not taken the rollback DAG" in told["said"]
    assert world.run(world.where) == ("blue", "aborted")


def test_another_deployment_than_the_one_that_was_looked_at_is_not_rolled_back(world, api):  # noqa: F811
    answer = api.ask(json=WHY | {"deployment": "manual__before"})
    assert (answer.status_code, "manual__before" in answer.json()["detail"]) == (409, True)
    assert not api.airflow.started


def test_without_a_deployment_there_is_nothing_to_roll_back(world, api):  # noqa: F811
    def given_up(old):
        return old.model_copy(update={"status": Status.GIVEN_UP})

    world.run(lambda kube: states.update(kube, world.plan.lock_name, world.token, given_up))
    assert api.ask().status_code == 409
    assert not api.airflow.started


@pytest.mark.parametrize("why", [KubeError(0, "connection refused"), AirflowNotFoundException("no pms_kubernetes")])
def test_a_cluster_that_is_away_is_said_and_nothing_is_started(api, monkeypatch, why):
    async def away(_self):
        raise why

    monkeypatch.setattr(RollBackNow, "_client", away)
    answer = api.ask()
    assert (answer.status_code, "traffic was not moved" in answer.json()["detail"]) == (503, True)
    assert api.ask("GET", "/plans/pms").status_code == 503
    assert not api.airflow.started


@pytest.mark.parametrize("reason", ["", "    ", "oh", "x" * 501, None, 7, ["checkout"]])
def test_a_reason_is_said_in_a_few_words(api, reason):
    answer = api.ask(json={"reason": reason})
    assert (answer.status_code, "reason" in answer.json()["detail"]) == (422, True)
    assert not api.airflow.started


@pytest.mark.parametrize("body", [b"", b"reason", b"[]", b'{"reason": "checkout is broken", "force": true}', b"\xff"])
def test_what_is_not_understood_changes_nothing(api, body):
    assert api.ask(json=None, content=body).status_code == 422
    assert api.ask(json=None, content=b" " * (routes.MAX_BYTES + 1)).status_code == 413
    assert not api.airflow.started


def test_a_hostile_reason_is_text(api):
    reason = "<script>alert(1)</script> {{ var.value.secret }} *x*"
    assert api.ask(json={"reason": reason}).status_code == 200
    assert api.airflow.started["pms_rollback", RUN]["reason"] == f"{reason} (lead)"


def test_who_may_not_start_the_rollback_dag_may_not_do_this(world, api):  # noqa: F811
    api.rights = {"GET"}
    assert api.ask().status_code == 403
    assert api.ask("GET", "/plans/pms").status_code == 200
    assert not api.airflow.started


SESSION = {"Sec-Fetch-Site": "same-origin", "Origin": "http://airflow.example.com", routes.HEADER: "1"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (SESSION, 200),
        (SESSION | {"Sec-Fetch-Site": "cross-site"}, 403),
        (SESSION | {"Sec-Fetch-Site": "same-site"}, 403),
        (SESSION | {"Origin": "http://airflow.example.com.evil.example.com"}, 403),
        (SESSION | {"Origin": "null"}, 403),
        ({name: value for name, value in SESSION.items() if name != routes.HEADER}, 403),
        ({routes.HEADER: "1"}, 403),
        ({}, 403),
    ],
)
def test_a_session_is_believed_only_from_a_page_of_this_airflow(api, headers, status):
    assert api.ask(headers=headers).status_code == status
    assert bool(api.airflow.started) is (status == 200)


def test_who_looks_sees_where_traffic_is_and_what_is_deployed(world, api):  # noqa: F811
    told = api.ask("GET", "/plans/pms").json()
    assert (told["deployment"], told["previous_version"], told["status"]) == (RUN_ID, "v1.0.0", "deploying")
    assert api.ask("GET", "/plans/none_such").status_code == 404
    assert api.ask("GET", "/plans/..%2Fpms").status_code in (404, 422)
    assert json.dumps(told)
