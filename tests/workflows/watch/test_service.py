"""The watch beside Airflow, in virtual time: it takes over whatever is deployed, and starts the rollback DAG."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from handover.coordination import heartbeat, lock, promotion, state
from handover.coordination.routing import move
from handover.models.deployment import Status
from handover.outside import outside, standing_in
from handover.ports.airflow import AirflowError
from handover.ports.router import Stage
from handover.workflows.rollback.start import rollback_run_id
from handover.workflows.watch.service import WATCHER, WatchService
from tests.support.steps import RUN_ID, watched
from tests.twins.airflow import TwinAirflow
from tests.workflows.watch.test_background import (
    bad,
    database,  # noqa: F401 - fixture
    known,
    remember,
    serves,  # noqa: F401 - fixture
    told,  # noqa: F401 - fixture
    tracker,  # noqa: F401 - fixture
)


class Restarting(TwinAirflow):
    """It does not answer before it has been asked so often."""

    refusals = 0

    def start(self, dag_id, run_id, conf):
        if self.refusals > 0:
            self.refusals -= 1
            raise AirflowError(0, "Airflow did not answer")
        return super().start(dag_id, run_id, conf)


@pytest.fixture
def airflow(serves):  # noqa: F811
    twin = Restarting()
    here = outside()
    with standing_in(type(here)(**(vars(here) | {"airflow": lambda _connection: twin}))):
        yield twin


async def rolled_back_soon(world, kube, airflow) -> None:
    """The rollback DAG takes the lock a while after it was started."""
    while not airflow.started:
        await asyncio.sleep(0.5)
    await lock.acquire(kube, world.plan.lock_name, "rollback", "a test", take_over=True)
    await remember(world, kube, status=Status.ROLLING_BACK, generation=2)


def test_it_takes_a_bad_version_off_and_starts_the_rollback_once_airflow_answers(serves, airflow):  # noqa: F811
    airflow.refusals = 3

    async def run(kube):
        beside = asyncio.create_task(rolled_back_soon(serves, kube, airflow))
        service = asyncio.create_task(WatchService(serves.plan).watch_one())
        await asyncio.sleep(2)
        signs = await heartbeat.read(kube, serves.plan.lock_name, serves.token)
        await bad(serves, mode="errors")(kube)
        begun = asyncio.get_running_loop().time()
        while (await serves.where(kube))[0] != "blue":
            await asyncio.sleep(0.01)
        seconds = asyncio.get_running_loop().time() - begun
        evidence = await service
        await beside
        return signs, seconds, evidence

    with serves.guests() as guests:
        signs, seconds, evidence = serves.run(run)
    assert [one.watcher for one in signs] == [WATCHER]
    assert seconds < 0.5
    assert guests.failed == []
    assert evidence.reason.startswith("error_rate: ")
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)
    (((dag, run_id), conf),) = airflow.started.items()
    assert (dag, run_id) == ("pms_rollback", rollback_run_id(RUN_ID))
    assert conf["reason"].startswith("error_rate: ")
    assert len(known(serves).incidents) == 1


def test_it_begins_with_the_watch_that_airflow_has_begun_and_not_before(world, told, monkeypatch):  # noqa: F811
    monkeypatch.setattr("handover.workflows.watch.trigger.sources_of", lambda plan, version, colour: [])

    async def run(kube):
        service = asyncio.create_task(WatchService(world.plan).watch_one())
        await asyncio.sleep(5)
        before = await heartbeat.read(kube, world.plan.lock_name, world.token)
        await watched(kube, world.plan.lock_name, world.token)
        await asyncio.sleep(5)
        after = await heartbeat.read(kube, world.plan.lock_name, world.token)
        service.cancel()
        return before, {one.watcher for one in after}

    assert world.run(run) == ([], {"test", WATCHER})


def test_a_deployment_that_ended_well_leaves_it_waiting_for_the_next_one(serves, airflow):  # noqa: F811
    async def run(kube):
        service = asyncio.create_task(WatchService(serves.plan).watch_one())
        await asyncio.sleep(2)
        await move(serves.router(kube), partial(promotion.finalise, token=serves.token))
        await remember(serves, kube, status=Status.SUCCEEDED)
        evidence = await service
        again = asyncio.create_task(WatchService(serves.plan).watch_one())
        await asyncio.sleep(10)
        waits = not again.done()
        again.cancel()
        return evidence, waits

    with serves.guests():
        evidence, waits = serves.run(run)
    assert evidence.passed, evidence.reason
    assert waits
    assert airflow.started == {}


def test_a_rollback_that_somebody_else_began_is_left_to_them(serves, airflow):  # noqa: F811
    async def run(kube):
        service = asyncio.create_task(WatchService(serves.plan).watch_one())
        await asyncio.sleep(2)
        await state.update(
            kube, serves.plan.lock_name, serves.token,
            lambda old: old.model_copy(update={"status": Status.ROLLING_BACK, "generation": 2}),
        )  # fmt: skip
        return await service

    assert "generation 1 is over" in serves.run(run).reason
    assert airflow.started == {}


def test_a_cluster_that_is_away_is_asked_again(serves, airflow, monkeypatch):  # noqa: F811
    asked = []

    async def fails(self):
        asked.append(1)
        raise OSError("connection refused")

    monkeypatch.setattr(WatchService, "watch_one", fails)

    async def run(_):
        service = asyncio.create_task(WatchService(serves.plan).run())
        await asyncio.sleep(16)
        service.cancel()

    serves.run(run)
    assert len(asked) == 4
