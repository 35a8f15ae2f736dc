"""The way back where the cluster's own record of the deployment is damaged: by what the Service says, or a refusal."""

from __future__ import annotations

import json
from functools import partial

import pytest

from handover.coordination import lock, promotion
from handover.coordination import state as states
from handover.coordination.routing import move
from handover.coordination.state import Damaged
from handover.models.deployment import FencingToken
from handover.ports.router import Stage
from handover.traffic.abort import NothingToRollBack, abort, look
from tests.twins.service import VERSIONS

DAMAGES = {
    "missing": None, "empty": "", "cut": lambda text: text[:-20], "no JSON": "oops",
    "of a newer version": lambda text: json.dumps(json.loads(text) | {"canary": "s3cret"}),
    "status": lambda text: json.dumps(json.loads(text) | {"status": "deployed"}),
    "colour": lambda text: json.dumps(json.loads(text) | {"stable": "red"}),
}  # fmt: skip


async def damage(world, kube, how) -> None:
    name = world.plan.lock_name
    if how is None:
        await kube.delete(states.CONFIG_MAPS, name)
        return
    text = (await kube.get(states.CONFIG_MAPS, name))["data"][states.KEY]
    await kube.merge(states.CONFIG_MAPS, name, {"data": {states.KEY: how(text) if callable(how) else how}})


def looked(world, kube, deployment=None):
    return look(kube, world.router(kube), world.plan, deployment, traffic_alone=True)


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_traffic_goes_back_by_what_the_service_says(world, how, caplog):
    async def work(kube):
        await world.promote(kube)
        await damage(world, kube, how)
        state, position = await looked(world, kube, world.token.deployment)
        assert (state.deployment, state.stable, state.preview) == (world.token.deployment, "blue", "green")
        assert (state.version, state.previous_version) == (VERSIONS["green"], VERSIONS["blue"])
        assert (await abort(world.router(kube), world.plan, position, "a test"))[1]
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    world.run(work)
    assert "what the Service says is gone by" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_rollback_that_has_taken_the_lock_is_of_the_same_deployment(world):
    async def work(kube):
        await world.promote(kube)
        await damage(world, kube, None)
        holder = f"rollback__{world.token.deployment}"
        generation = await lock.acquire(kube, world.plan.lock_name, holder, "rollback: x", take_over=True)
        _, position = await looked(world, kube)
        assert position.token.generation == generation
        assert (await abort(world.router(kube), world.plan, position, "a test"))[1]

    world.run(work)


@pytest.mark.parametrize("how", DAMAGES.values(), ids=DAMAGES)
def test_another_deployment_than_the_services_is_refused(world, how):
    async def work(kube):
        await world.promote(kube)
        await damage(world, kube, how)
        with pytest.raises(NothingToRollBack, match="no deployment manual__elsewhere to roll back"):
            await looked(world, kube, "manual__elsewhere")
        await lock.acquire(kube, world.plan.lock_name, "newer", "v2.0.0: x", take_over=True)
        with pytest.raises(NothingToRollBack, match=r"newer holds the lock, and traffic is still as .* left it"):
            await looked(world, kube)

    world.run(work)


def test_where_the_service_says_nothing_either_it_is_told_what_is_damaged(world):
    async def work(kube):
        await damage(world, kube, "oops")
        with pytest.raises(Damaged, match=r"ConfigMap pms-deployment .* cannot be read"):
            await looked(world, kube)

    world.run(work)


def test_who_has_to_go_on_afterwards_does_not_begin(world):
    async def work(kube):
        await world.promote(kube)
        await damage(world, kube, "oops")
        with pytest.raises(Damaged, match="repair it"):
            await look(kube, world.router(kube), world.plan)
        await damage(world, kube, None)
        with pytest.raises(NothingToRollBack, match=r"holds no state, though .*python -m handover back"):
            await look(kube, world.router(kube), world.plan)

    world.run(work)


def test_an_older_deployments_note_is_no_way_past_a_newer_one(world):
    async def work(kube):
        await world.promote(kube)
        newer = FencingToken(deployment="newer", generation=7, stable="green", preview="blue")
        await move(world.router(kube), partial(promotion.claim, token=newer))
        await lock.acquire(kube, world.plan.lock_name, "newer", "v2.0.0: x", take_over=True)
        await damage(world, kube, None)
        state, _ = await looked(world, kube)
        assert (state.deployment, state.stable) == ("newer", "green")

    world.run(work)
