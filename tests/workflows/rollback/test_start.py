"""A rollback is started once, and no run that somebody else started under its id stands in its way."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handover.coordination import state
from handover.models.deployment import Status
from handover.outside import outside, standing_in
from handover.workflows.rollback.start import rollback_run_id, start_rollback
from tests.support.steps import RUN_ID
from tests.twins.airflow import TwinAirflow
from tests.twins.world import quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures

DAG, NAME = "pms_rollback", rollback_run_id(RUN_ID)


@pytest.fixture
def airflow():
    return TwinAirflow()


@pytest.fixture
def start(world, airflow):  # noqa: F811
    """One net that starts it; gives the run's id."""

    def once() -> str:
        with standing_in(replace(outside(), airflow=lambda _connection: airflow)):
            return start_rollback(world.plan, RUN_ID, "errors")

    return once


def for_this(airflow: TwinAirflow) -> list[str]:
    return [run for (_, run), conf in airflow.started.items() if conf.get("deployment") == RUN_ID]


def test_several_nets_start_it_once(start, airflow):
    assert [start() for _ in range(3)] == [NAME] * 3
    assert for_this(airflow) == [NAME]


@pytest.mark.parametrize("conf", [{"deployment": "another"}, {"deployment": None}, {}, None])
@pytest.mark.parametrize("ended", ["failed", "success", None])
def test_a_run_that_was_started_beforehand_for_something_else_is_not_believed(start, airflow, conf, ended):
    airflow.started[DAG, NAME] = conf or {}
    airflow.ended |= {(DAG, NAME): ended} if ended else {}
    first = start()
    assert (first != NAME, first.startswith(NAME), for_this(airflow)) == (True, True, [first])
    assert start() == first


@pytest.mark.parametrize("ended", ["failed", "success"])
def test_a_run_that_ended_before_the_deployment_was_taken_over_is_not_believed(start, airflow, ended):
    """Started before there was a deployment, or its tasks were marked by hand."""
    airflow.started[DAG, NAME], airflow.ended[DAG, NAME] = {"deployment": RUN_ID}, ended
    first = start()
    assert first != NAME
    airflow.ended[DAG, first] = "failed"
    assert start() not in (NAME, first)


@pytest.mark.parametrize("status", [Status.ROLLING_BACK, Status.ROLLBACK_FAILED, Status.ROLLED_BACK])
def test_a_rollback_that_took_the_deployment_over_and_ended_is_left_to_people(world, start, airflow, status):  # noqa: F811
    airflow.started[DAG, NAME], airflow.ended[DAG, NAME] = {"deployment": RUN_ID}, "failed"

    def taken(old):
        return old.model_copy(update={"status": status})

    world.run(lambda kube: state.update(kube, world.plan.lock_name, world.token, taken))
    assert start() == NAME
    assert for_this(airflow) == [NAME]
