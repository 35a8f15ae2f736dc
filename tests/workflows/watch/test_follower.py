"""Whoever follows traffic and state goes on following, whatever a look finds."""

from __future__ import annotations

import asyncio
import logging

import pytest

from handover.coordination import state as states
from handover.models.deployment import Status
from handover.models.measures import Phase
from handover.ports.kube import KubeError
from handover.workflows.watch.follower import LOOK_SECONDS, TrafficFollower
from handover.workflows.watch.response import Standing
from tests.workflows.watch.test_background import remember


async def following(world, kube, log=None):
    state = await states.read(kube, world.plan.lock_name)
    follower = TrafficFollower(
        kube, world.router(kube), world.plan, world.token, state, log=log or logging.getLogger("x")
    )
    return follower, asyncio.create_task(follower.follow())


def test_a_state_that_cannot_be_read_for_a_while_is_said_once_and_looked_at_again(world, caplog):
    async def work(kube):
        follower, task = await following(world, kube)
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        text = (await kube.get(states.CONFIG_MAPS, world.plan.lock_name))["data"][states.KEY]
        await kube.merge(states.CONFIG_MAPS, world.plan.lock_name, {"data": {states.KEY: text[:-5]}})
        await asyncio.sleep(3 * LOOK_SECONDS)
        await world.promote(kube)
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        assert follower.standing()[0] is Standing.EXPOSED  # where traffic is does not lie there
        assert follower.state.phase is Phase.CUTOVER
        await kube.merge(states.CONFIG_MAPS, world.plan.lock_name, {"data": {states.KEY: text}})
        await remember(world, kube, status=Status.SUCCEEDED, phase=Phase.TESTING)
        await asyncio.sleep(1.5 * LOOK_SECONDS)
        assert follower.state.phase is Phase.TESTING
        assert not task.done()
        task.cancel()

    world.run(work)
    assert caplog.text.count("cannot be read") == 1


@pytest.mark.parametrize("error", [KubeError(0, "it is away"), TypeError("a field that nobody expected")], ids=repr)
def test_no_error_of_a_look_ends_it(world, caplog, monkeypatch, error):
    async def work(kube):
        follower, task = await following(world, kube)
        look = follower.look
        failing = [error] * 3

        async def looks():
            if failing:
                raise failing.pop()
            return await look()

        monkeypatch.setattr(follower, "look", looks)
        await asyncio.sleep(5 * LOOK_SECONDS)
        assert not task.done() and not failing
        assert follower.standing()[0] is Standing.ARMED
        task.cancel()

    world.run(work)
    assert caplog.text.count(str(error)) == 1
