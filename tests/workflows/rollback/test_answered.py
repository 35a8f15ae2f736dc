"""The answer "Rollback" moves traffic before any task hears of it; any other one, or a refused one, moves none."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request, Response

from handover.coordination import state as states
from handover.models.deployment import Status
from handover.ports.kube import KubeError
from handover.workflows.rollback import answered
from handover.workflows.rollback.answered import AnsweredRollback, rolled_back_by
from handover.workflows.rollback.now import RollBackNow
from tests.support.steps import RUN_ID
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

TASK = "phase_4_post_deployment_testing.user_acceptance"
LEA = {"id": "lea", "name": "Lea"}


class Airflow:
    """Airflow's route of answers, with our middleware around it. ``status``: what it answers."""

    def __init__(self, world) -> None:  # noqa: F811
        self.world, self.status, self.heard = world, 200, b""
        self.app = FastAPI()

        @self.app.api_route(
            "/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/{index}/hitlDetails", methods=["PATCH", "GET"]
        )
        async def respond(request: Request) -> Response:
            if self.status != 200:
                raise HTTPException(self.status, "no")
            said = {"responded_by": LEA, **await request.json()} if request.method == "PATCH" else {}
            return Response(json.dumps(said), media_type="application/json")

    def answer(self, choice="Rollback", run=RUN_ID, dag="pms_deployment", task=TASK, index="-1"):
        path = f"/api/v2/dags/{dag}/dagRuns/{quote(run, safe='')}/taskInstances/{task}/{index}/hitlDetails"

        async def asked(_):
            middleware = AnsweredRollback(self.app)
            async with httpx.AsyncClient(transport=httpx.ASGITransport(middleware), base_url="http://a") as client:
                given = await client.patch(path, json={"chosen_options": [choice]})
            while middleware._behind:
                await asyncio.gather(*middleware._behind)
            for one in middleware._plans.values():
                await asyncio.gather(*one._behind)
                await one.close()
            return given

        return self.world.run(asked)


@pytest.fixture
def airflow(world, monkeypatch):  # noqa: F811
    """Clients meet the new version."""
    monkeypatch.setattr(answered, "load_plans", lambda: [ValueError("a broken plan"), world.plan])
    world.run(world.promote)
    return Airflow(world)


def test_an_answer_that_is_a_rollback_has_moved_traffic(world, airflow):  # noqa: F811
    assert airflow.answer().json()["responded_by"] == LEA
    assert world.run(world.where) == ("blue", "aborted")
    assert "Rollback by Lea" in world.run(lambda kube: world.router(kube).read()).reason


@pytest.mark.parametrize("choice", ["Proceed", "Fix", "rollback", ""])
def test_any_other_answer_moves_nothing(world, airflow, choice):  # noqa: F811
    airflow.answer(choice)
    assert world.run(world.where) == ("green", "promoted")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 500])
def test_an_answer_that_airflow_has_refused_moves_nothing(world, airflow, status):  # noqa: F811
    airflow.status = status
    assert airflow.answer().status_code == status
    assert world.run(world.where) == ("green", "promoted")


@pytest.mark.parametrize(
    "other", [{"run": "manual__another"}, {"dag": "someone_elses"}, {"dag": "pms_rollback"}], ids=str
)
def test_an_answer_about_something_else_moves_nothing(world, airflow, other):  # noqa: F811
    assert airflow.answer(**other).status_code == 200
    assert world.run(world.where) == ("green", "promoted")


def test_a_deployment_that_has_ended_is_not_taken_back_by_a_late_answer(world, airflow):  # noqa: F811
    ended = {"status": Status.SUCCEEDED}
    world.run(
        lambda kube: states.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=ended))
    )
    airflow.answer()
    assert world.run(world.where) == ("green", "promoted")


def test_with_the_cluster_away_the_answer_is_taken_all_the_same(world, airflow, monkeypatch):  # noqa: F811
    async def away(_self):
        raise KubeError(0, "connection refused")

    monkeypatch.setattr(RollBackNow, "_client", away)
    assert airflow.answer().status_code == 200
    assert world.run(world.where) == ("green", "promoted")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"chosen_options": ["Rollback"]}', b"\xff", b"null"])
def test_what_airflow_never_answers_is_no_rollback(body):
    assert rolled_back_by(body) == ""
