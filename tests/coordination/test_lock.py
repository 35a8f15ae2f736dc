"""The lock of all who deploy, and its fence."""

from __future__ import annotations

import asyncio

import pytest

from handover.coordination import lock
from handover.coordination.lock import LEASES, FencedOut, Locked
from handover.models.deployment import FencingToken

NAME = "pms-deployment"


def token(generation: int) -> FencingToken:
    return FencingToken(deployment="run", generation=generation, stable="blue", preview="green")


def test_taking_it_twice_is_once(in_cluster):
    async def work(kube):
        assert await lock.acquire(kube, NAME, "run-1", "v1.1.0") == 1
        assert await lock.acquire(kube, NAME, "run-1", "v1.1.0") == 1
        await lock.fence(kube, NAME, token(1))

    in_cluster(work)


def test_who_is_refused_hears_whether_somebody_deploys_or_rolls_back(in_cluster):
    async def work(kube):
        old = await lock.acquire(kube, NAME, "run-1", "v1.1.0: Friday's fix")
        assert "run-1 since " in await lock.holder(kube, NAME)
        await lock.acquire(kube, NAME, "by-hand-7", f"{lock.ROLLBACK}it is slow", take_over=True, still_at=old)
        assert "by-hand-7, a rollback, since" in await lock.holder(kube, NAME)
        with pytest.raises(Locked, match=r"by-hand-7 has been rolling back since .* \(it is slow\); wait for it, or"):
            await lock.acquire(kube, NAME, "run-2", "mine")

    in_cluster(work)


def test_a_second_deployment_is_told_who_holds_it_and_why(in_cluster):
    async def work(kube):
        await lock.acquire(kube, NAME, "run-1", "Friday's fix")
        with pytest.raises(Locked, match=r"run-1 has been deploying since .* \(Friday's fix\)"):
            await lock.acquire(kube, NAME, "run-2", "mine")

    in_cluster(work)


def test_a_rollback_takes_over_and_fences_the_deployment_out(in_cluster):
    async def work(kube):
        old = await lock.acquire(kube, NAME, "run-1", "a")
        new = await lock.acquire(kube, NAME, "rollback-1", "b", take_over=True)
        assert new == old + 1
        await lock.fence(kube, NAME, token(new))
        with pytest.raises(FencedOut, match=r"generation 1 is over.*generation 2, held by rollback-1"):
            await lock.fence(kube, NAME, token(old))

    in_cluster(work)


def test_given_back_it_can_be_taken_again_with_a_new_generation(in_cluster):
    async def work(kube):
        await lock.acquire(kube, NAME, "run-1", "a")
        await lock.release(kube, NAME, 1)
        with pytest.raises(FencedOut, match="held by nobody"):
            await lock.fence(kube, NAME, token(1))
        assert await lock.acquire(kube, NAME, "run-2", "b") == 2

    in_cluster(work)


def test_nobody_gives_back_what_is_somebody_elses(in_cluster):
    async def work(kube):
        await lock.acquire(kube, NAME, "run-1", "a")
        await lock.acquire(kube, NAME, "run-2", "b", take_over=True)
        await lock.release(kube, NAME, 1)
        assert (await kube.get(LEASES, NAME))["spec"]["holderIdentity"] == "run-2"
        await lock.release(kube, "another", 1)

    in_cluster(work)


def test_without_a_lock_nothing_is_allowed(in_cluster):
    async def work(kube):
        with pytest.raises(FencedOut, match="is gone"):
            await lock.fence(kube, NAME, token(1))

    in_cluster(work)


def test_of_many_at_once_exactly_one_gets_it(in_cluster):
    async def work(kube):
        tries = [lock.acquire(kube, NAME, f"run-{n}", "a") for n in range(8)]
        got = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(result == 1 for result in got) == 1
        assert sum(isinstance(result, Locked) for result in got) == 7

    in_cluster(work)


def test_of_many_who_take_over_each_gets_a_generation_of_its_own(in_cluster):
    async def work(kube):
        await lock.acquire(kube, NAME, "run-0", "a")
        tries = [lock.acquire(kube, NAME, f"rollback-{n}", "a", take_over=True) for n in range(5)]
        assert sorted(await asyncio.gather(*tries)) == [2, 3, 4, 5, 6]

    in_cluster(work)
