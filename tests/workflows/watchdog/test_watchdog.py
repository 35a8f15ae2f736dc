"""The watchdog as Airflow runs it, on twins: it starts the rollback, and tells people once."""

from __future__ import annotations

import asyncio
import datetime
from dataclasses import replace
from functools import partial

import pytest

from handover.coordination import promotion, state
from handover.coordination.routing import move
from handover.models.deployment import Status
from handover.outside import outside, standing_in
from handover.ports.airflow import run_path
from handover.workflows.rollback.start import rollback_run_id
from handover.workflows.watchdog.steps import LookAfter
from tests.support.steps import RUN_ID, watched
from tests.twins.airflow import TwinAirflow
from tests.twins.channels import TwinChannels
from tests.twins.world import plan, quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

GOOD_DAG = {"is_paused": False, "has_import_errors": False, "is_stale": False}
PATH = run_path("pms_deployment", RUN_ID)


@pytest.fixture
def airflow():
    return TwinAirflow({
        PATH: {"state": "running", "queued_at": "2027-01-15T08:00:00Z", "start_date": "2027-01-15T08:00:01Z"},
        f"{PATH}/hitlDetails": {"hitl_details": []},
        "/dags/pms_deployment": GOOD_DAG, "/dags/pms_rollback": GOOD_DAG,
    })  # fmt: skip


@pytest.fixture
def people():
    return TwinChannels()


@pytest.fixture
def look(world, airflow, people):  # noqa: F811
    """One run of the watchdog; gives what it said."""
    other = people.outside(replace(outside(), airflow=lambda _connection: airflow))
    task = LookAfter(task_id="look_after", plan=world.plan)

    def once() -> str:
        with standing_in(other):
            return asyncio.run(task.look())

    return once


@pytest.fixture
def serves(world):  # noqa: F811
    """The new version meets clients, and somebody watches."""

    async def forward(kube) -> None:
        await move(world.router(kube), partial(promotion.overlap, token=world.token, at=world.time.epoch()))
        await move(world.router(kube), partial(promotion.promote, token=world.token))
        await watched(kube, world.plan.lock_name, world.token)

    world.run(forward)
    return world


def test_a_deployment_that_goes_on_as_it_should_is_left_alone(serves, look, airflow, people):
    assert look() == f"{RUN_ID} is looked after"
    assert (airflow.started, people.posted) == ({}, [])


def test_a_silent_watch_starts_the_rollback_and_is_told_once(serves, look, airflow, people):
    serves.time.pass_by(serves.plan.watch.no_data_seconds + 1)
    for _ in range(3):
        assert look().startswith("nobody watches v1.1.0: no sign of life for ")
    (((dag, run_id), conf),) = airflow.started.items()
    assert (dag, run_id) == ("pms_rollback", rollback_run_id(RUN_ID))
    assert conf["reason"].startswith("nobody watches")
    assert len(people.posted) == 1


def test_a_deployment_whose_run_is_gone_is_rolled_back(serves, look, airflow):
    del airflow.answers[PATH]
    assert "does not exist any more" in look()
    assert [run for _, run in airflow.started] == [rollback_run_id(RUN_ID)]


def test_the_deployment_of_another_airflow_goes_on(serves, look, airflow, people):
    def opened_in(seal):
        def sealed(old):
            return old.model_copy(update={"opened_in": seal})

        serves.run(lambda kube: state.update(kube, serves.plan.lock_name, serves.token, sealed))

    del airflow.answers[PATH]
    opened_in(TwinAirflow({}, password="of another").seal(f"opened {RUN_ID}"))
    for _ in range(2):
        assert "was opened by another Airflow than this one" in look()
    assert (airflow.started, len(people.posted)) == ({}, 1)
    opened_in(airflow.seal(f"opened {RUN_ID}"))
    assert "does not exist any more" in look()
    assert [run for _, run in airflow.started] == [rollback_run_id(RUN_ID)]


def test_an_overdue_question_is_told_and_nothing_is_started(serves, look, airflow, people):
    asked = serves.time.epoch() - serves.plan.briefing.response_seconds - 3600
    created = datetime.datetime.fromtimestamp(asked, datetime.UTC).isoformat()
    question = {"task_instance": {"task_id": "user_acceptance"}, "created_at": created, "response_received": False}
    airflow.answers[f"{PATH}/hitlDetails"] = {"hitl_details": [question, question | {"response_received": True}]}
    assert look() == "the question user_acceptance is overdue, and its safe answer was not taken"
    look()
    assert (airflow.started, len(people.posted)) == ({}, 1)


def test_nothing_under_way_is_nothing_to_do(serves, look, airflow):
    def ended(old):
        return old.model_copy(update={"status": Status.SUCCEEDED})

    serves.run(lambda kube: state.update(kube, serves.plan.lock_name, serves.token, ended))
    del airflow.answers[PATH]
    assert look() == "nothing is under way"


def test_a_slack_that_is_away_stops_nothing(serves, look, airflow, people):
    people.away = {"slack"}
    serves.time.pass_by(serves.plan.watch.no_data_seconds + 1)
    look()
    assert ("pms_rollback", rollback_run_id(RUN_ID)) in airflow.started
