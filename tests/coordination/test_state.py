"""What a deployment knows about itself survives races and late-comers."""

from __future__ import annotations

import asyncio

import pytest

from handover.coordination import state
from handover.coordination.lock import FencedOut
from handover.coordination.state import NoDeployment
from handover.models.deployment import DeploymentState, FencingToken, Status

NAME = "pms-deployment"


def known(generation: int, **changes) -> DeploymentState:
    facts = {
        "deployment": f"run-{generation}", "generation": generation, "status": Status.DEPLOYING, "version": "v1.1.0",
        "image": "r/i:v1.1.0", "previous_version": "v1.0.0", "previous_image": "r/i:v1.0.0", "stable": "blue",
        "preview": "green", "reason": "a test", "started_at": 1.0,
    }  # fmt: skip
    return DeploymentState(**(facts | changes))


def token(generation: int) -> FencingToken:
    return FencingToken(deployment=f"run-{generation}", generation=generation, stable="blue", preview="green")


def test_before_the_first_deployment_there_is_nothing(in_cluster):
    async def work(kube):
        assert await state.read(kube, NAME) is None
        with pytest.raises(NoDeployment, match="nothing was deployed yet"):
            await state.update(kube, NAME, token(1), lambda old: old)

    in_cluster(work)


def test_what_is_written_is_read(in_cluster):
    async def work(kube):
        whole = known(1, baseline={"p50_seconds": 0.01}, switched_at=2.5)
        await state.write(kube, NAME, whole)
        assert await state.read(kube, NAME) == whole

    in_cluster(work)


def test_a_newer_generation_begins_anew_and_an_older_one_is_refused(in_cluster):
    async def work(kube):
        await state.write(kube, NAME, known(1))
        await state.write(kube, NAME, known(2))
        with pytest.raises(FencedOut):
            await state.write(kube, NAME, known(1))
        with pytest.raises(FencedOut, match="run-2 is at 2"):
            await state.update(kube, NAME, token(1), lambda old: old.model_copy(update={"banner": True}))
        found = await state.read(kube, NAME)
        assert found is not None
        assert not found.banner

    in_cluster(work)


def test_no_change_is_lost_when_many_change_at_once(in_cluster):
    async def work(kube):
        await state.write(kube, NAME, known(1))

        def adding(name):
            return lambda old: old.model_copy(update={"baseline": old.baseline | {name: 1.0}})

        await asyncio.gather(*(state.update(kube, NAME, token(1), adding(f"m{n}")) for n in range(8)))
        found = await state.read(kube, NAME)
        assert found is not None
        assert len(found.baseline) == 8

    in_cluster(work)


def test_changing_nothing_writes_nothing(in_cluster):
    async def work(kube):
        await state.write(kube, NAME, known(1))
        before = (await kube.get("configmaps", NAME))["metadata"]["resourceVersion"]
        assert await state.update(kube, NAME, token(1), lambda old: old) == known(1)
        assert (await kube.get("configmaps", NAME))["metadata"]["resourceVersion"] == before

    in_cluster(work)


@pytest.mark.parametrize("text", [
    '{"deployment": "run-1"', "[]", '{"deployment": "run-1", "reason": "ada@example.com"}', "null",
], ids=["cut", "a list", "half of it", "null"])  # fmt: skip
def test_what_cannot_be_read_is_said_without_what_is_in_it(in_cluster, text):
    """Somebody has edited it, or a newer version has written what this one does not know."""

    async def work(kube):
        await state.write(kube, NAME, known(1))
        await kube.merge(state.CONFIG_MAPS, NAME, {"data": {state.KEY: text}})
        said = rf"the deployment's state in ConfigMap {NAME} of \S+ cannot be read \(.*\): repair it"
        with pytest.raises(state.Damaged, match=said) as error:
            await state.read(kube, NAME)
        assert "ada@example.com" not in str(error.value) and "\n" not in str(error.value)
        for change in (
            state.update(kube, NAME, token(1), lambda old: old), state.write(kube, NAME, known(2)),
            state.ended(kube, NAME, "run-1"),
        ):  # fmt: skip
            with pytest.raises(state.Damaged):
                await change

    in_cluster(work)


def test_a_generation_that_is_no_number_is_damage(in_cluster):
    async def work(kube):
        await state.write(kube, NAME, known(1))
        await kube.merge(state.CONFIG_MAPS, NAME, {"metadata": {"annotations": {"handover/generation": "abc"}}})
        with pytest.raises(state.Damaged, match="generation"):
            await state.write(kube, NAME, known(2))

    in_cluster(work)
