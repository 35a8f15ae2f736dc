"""Traffic between two colours, in memory and in virtual time; with real connections: test_on_stand_in."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from handover import clock
from handover.coordination import promotion
from handover.coordination.lock import FencedOut
from handover.coordination.routing import NotReady, move
from handover.models.deployment import FencingToken
from handover.plan.traffic import Origin
from handover.ports.router import Stage
from handover.traffic.abort import NothingToRollBack, abort, abort_or_wake, let_go, look
from handover.traffic.cutover import Cutover, CutoverFailed
from handover.traffic.drain import drain
from tests.twins.service import TOKEN


async def nothing() -> None:
    pass


def cutover(world, kube, *, version="v1.1.0", fence=nothing, token=None, plan=None) -> Cutover:
    token = token or world.token
    return Cutover(kube, world.router(kube), plan or world.plan, token, version, world.public, fence)


async def bring_back(world, kube, reason="a test") -> bool:
    router = world.router(kube)
    _, position = await look(kube, router, world.plan)
    _, changed = await abort(router, world.plan, position, reason)
    return changed


@pytest.mark.plan(
    "DevOps/Operations | Infrastructure",
    "Strategy: Blue-Green Deployment",
    'kubectl patch service pms-api -p \'{"spec":{"selector":{"version":"green"}}}\'',
    "Load balancer successfully routed traffic",
    'kubectl patch service pms-api -p \'{"spec":{"selector":{"version":"blue"}}}\'',
    "Phase 2: Application deployed",
    "Zero downtime achieved",
)
def test_there_and_back_loses_no_request(world):
    async def there_and_back(kube):
        measured = {m.what: m.value for m in await cutover(world, kube).run()}
        assert await world.where(kube) == ("green", Stage.PROMOTED)
        await asyncio.sleep(0.2)
        assert await bring_back(world, kube)
        return measured

    with world.guests() as guests:
        measured = world.run(there_and_back)
    assert guests.failed == []
    assert guests.versions["v1.0.0"] > 0
    assert guests.versions["v1.1.0"] > 0
    assert measured["verified_requests"] == world.plan.traffic.verify_requests
    assert measured["drained_pods"] == 2
    assert world.run(world.where) == ("blue", Stage.ABORTED)


ORIGINS = [
    Origin(field="build.version"), Origin(pattern='"version": "([^"]+)"', path="/info"),
    Origin(field="hostname", names_pod=True),
]  # fmt: skip


@pytest.mark.parametrize("origin", ORIGINS, ids=str)
def test_the_version_may_be_in_the_body_or_be_that_of_the_pod_that_is_named(world, origin):
    world.service.plan = world.with_plan(traffic={"origin": origin})
    world.service.behind_a_balancer(lambda _: 3.0)

    async def there_and_back(kube):
        measured = {m.what: m.value for m in await cutover(world, kube).run()}
        assert await bring_back(world, kube)
        return measured

    with world.guests() as guests:
        measured = world.run(there_and_back)
    assert (guests.failed, guests.bad) == ([], 0)
    assert measured["entry_seconds"] == pytest.approx(3.0, abs=0.6)
    assert world.run(world.where) == ("blue", Stage.ABORTED)


def test_where_answers_do_not_tell_both_serve_as_long_as_the_plan_says(world):
    world.service.plan = world.with_plan(traffic={"origin": None, "entry_seconds": 4.0})
    world.service.behind_a_balancer(lambda _: 3.0)

    async def there_and_back(kube):
        begun = clock.monotonic()
        measured = {m.what: m.value for m in await cutover(world, kube).run()}
        assert 4.0 < clock.monotonic() - begun < 6.0
        assert await bring_back(world, kube)
        return measured

    with world.guests() as guests:
        measured = world.run(there_and_back)
    assert (guests.failed, guests.bad) == ([], 0)
    assert "entry_seconds" not in measured
    assert world.run(world.where) == ("blue", Stage.ABORTED)


def test_the_pods_of_a_colour_that_serves_no_more_are_told_to_let_go_and_the_others_not_to(world):
    async def back(kube):
        await cutover(world, kube).run()
        assert [app.draining for app in world.service.tell("blue")] == [True, True]
        await bring_back(world, kube)
        kept, drained = await let_go(kube, world.plan, world.token, TOKEN)
        assert (kept.pods, drained.pods, drained.problems) == (2, 2, ())
        assert [app.draining for app in world.service.tell("blue")] == [False, False]

    world.run(back)


def test_running_the_cutover_twice_changes_nothing(world):
    async def twice(kube):
        await cutover(world, kube).run()
        before = await kube.get("services", "pms-api")
        await cutover(world, kube).run()
        assert await kube.get("services", "pms-api") == before

    world.run(twice)


@pytest.mark.parametrize("after", ["overlap", "promotion"])
def test_a_cutover_that_was_killed_half_way_is_resumed(world, after):
    class Killed(BaseException):
        pass

    calls = []

    async def fence():
        calls.append(1)
        if len(calls) == (2 if after == "overlap" else 99):
            raise Killed

    async def killed(kube):
        if after == "overlap":
            with pytest.raises(Killed):
                await cutover(world, kube, fence=fence).run()
            assert await world.where(kube) == (None, Stage.OVERLAP)
        else:
            await move(world.router(kube), partial(promotion.overlap, token=world.token, at=1.0))
            await move(world.router(kube), partial(promotion.promote, token=world.token))
        await cutover(world, kube).run()
        assert await world.where(kube) == ("green", Stage.PROMOTED)

    with world.guests() as guests:
        world.run(killed)
    assert guests.failed == []


def test_a_colour_that_is_not_all_there_gets_no_traffic(world):
    async def one_pod(kube):
        await world.scale(kube, "green", 1)
        world.service.cluster.start_seconds = 20.0
        await world.scale(kube, "green", 2)
        with pytest.raises(NotReady, match="1 of 2 replicas"):
            await cutover(world, kube).run()
        assert (await world.where(kube))[0] == "blue"

    world.run(one_pod)


def test_pods_that_vanish_during_the_overlap_bring_the_stable_colour_back(world):
    plan = world.with_plan(traffic={"endpoint_timeout_seconds": 0.5, "overlap_seconds": 0.5})

    async def vanish(kube):
        moving = asyncio.create_task(cutover(world, kube, plan=plan).run())
        while await world.where(kube) != (None, Stage.OVERLAP):
            await asyncio.sleep(0.01)
        await world.scale(kube, "green", 0)
        with pytest.raises(CutoverFailed, match="traffic is on blue again"):
            await moving
        assert await world.where(kube) == ("blue", Stage.STABLE)
        await world.scale(kube, "green", 2)
        await cutover(world, kube).run()
        assert await world.where(kube) == ("green", Stage.PROMOTED)

    world.run(vanish)


@pytest.mark.plan("Load balancer successfully routed traffic")
def test_a_version_that_answers_badly_is_moved_back_at_once_with_its_kept_connections(world, caplog):
    caplog.set_level("INFO")

    async def bad(kube):
        await world.tell(kube, "green", mode="errors")
        with pytest.raises(CutoverFailed, match=r"3 bad answers.*status 500; traffic is back on blue"):
            await cutover(world, kube).run()
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    world.run(bad)
    assert "drained 2 pods of green" in caplog.text


def test_another_version_than_the_released_one_is_moved_back(world):
    short = world.with_plan(traffic={"public_timeout_seconds": 0.5})
    seen = r"reach v1\.0\.0 \(.*v1\.1\.0 \(.* instead of v9\.9\.9 after 0\.5 s; traffic is on blue again"

    async def other(kube):
        with pytest.raises(CutoverFailed, match=seen):
            await cutover(world, kube, version="v9.9.9", plan=short).run()
        assert await world.where(kube) == ("blue", Stage.STABLE)

    world.run(other)


def test_a_zombie_can_not_undo_an_abort(world):
    async def zombie(kube):
        await cutover(world, kube).run()
        await bring_back(world, kube)
        with pytest.raises(FencedOut, match="never goes forward again"):
            await cutover(world, kube).run()
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    world.run(zombie)


def test_an_abort_before_the_cutover_keeps_it_from_ever_happening(world):
    async def early(kube):
        await bring_back(world, kube)
        with pytest.raises(FencedOut):
            await cutover(world, kube).run()
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    world.run(early)


def test_forward_and_back_racing_always_end_on_the_stable_colour(world):
    """An abort at any moment of a cutover wins, and both sides agree on it."""
    fast = world.with_plan(traffic={"overlap_seconds": 0.02, "verify_requests": 2})

    async def races(kube):
        for generation, delay in enumerate((0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.15), start=2):
            token = world.token.model_copy(update={"generation": generation})
            moving = asyncio.create_task(cutover(world, kube, token=token, plan=fast).run())
            await asyncio.sleep(delay)
            back = move(world.router(kube), partial(promotion.abort, token=token, reason="race"))
            results = await asyncio.gather(moving, back, return_exceptions=True)
            assert isinstance(results[0], list | FencedOut | CutoverFailed), results
            assert await world.where(kube) == ("blue", Stage.ABORTED), results

    world.run(races)


def test_an_abort_is_refused_when_the_stable_colour_is_not_ready_and_wakes_it_on_demand(world):
    async def asleep(kube):
        await cutover(world, kube).run()
        await world.scale(kube, "blue", 0)
        router = world.router(kube)
        _, position = await look(kube, router, world.plan)
        with pytest.raises(NotReady, match="pms-blue has no ready pod"):
            await abort(router, world.plan, position, "a test")
        assert await world.where(kube) == ("green", Stage.PROMOTED)
        world.service.cluster.start_seconds = 5.0
        _, changed = await abort_or_wake(kube, router, world.plan, position, "a test")
        assert changed
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    with world.guests() as guests:
        world.run(asleep)
    assert guests.failed == []


def test_a_stable_colour_that_does_not_wake_up_leaves_traffic_where_it_is(world):
    async def asleep(kube):
        await cutover(world, kube).run()
        await world.scale(kube, "blue", 0)
        world.service.cluster.start_seconds = 60.0
        router = world.router(kube)
        _, position = await look(kube, router, world.plan)
        with pytest.raises(NotReady, match=r"0 of 2 replicas available.*traffic was not moved"):
            await abort_or_wake(kube, router, world.plan, position, "a test")
        assert await world.where(kube) == ("green", Stage.ABORTED)

    with world.guests() as guests:
        world.run(asleep)
    assert guests.failed == []


def test_a_position_that_is_not_fresh_any_more_costs_a_conflict_and_nothing_else(world):
    async def stale(kube):
        router = world.router(kube)
        _, position = await look(kube, router, world.plan)  # before the cutover
        await cutover(world, kube).run()
        assert (await abort(router, world.plan, position, "a test"))[1]
        assert not (await abort(router, world.plan, position, "again"))[1]
        assert await world.where(kube) == ("blue", Stage.ABORTED)

    world.run(stale)


def test_what_is_not_known_is_named(world):
    async def other(kube):
        with pytest.raises(NothingToRollBack, match="no deployment manual__elsewhere"):
            await look(kube, world.router(kube), world.plan, "manual__elsewhere")
        await kube.delete("configmaps", world.plan.lock_name)
        with pytest.raises(NothingToRollBack, match="no deployment to roll back"):
            await look(kube, world.router(kube), world.plan)

    world.run(other)


def test_an_older_deployment_does_not_touch_the_traffic_of_a_newer_one(world):
    async def older(kube):
        newer = FencingToken(deployment="newer", generation=7, stable="blue", preview="green")
        await move(world.router(kube), partial(promotion.overlap, token=newer, at=1.0))
        with pytest.raises(FencedOut):
            await bring_back(world, kube)
        with pytest.raises(FencedOut):
            await cutover(world, kube).run()

    world.run(older)


def test_draining_says_which_pods_do_not_do_it(world):
    async def wrong(kube):
        drained = await drain(kube, world.plan, "blue", "a wrong token", timeout=0.5)
        assert drained.pods == 0
        assert len(drained.problems) == 2
        assert "401" in drained.problems[0]
        assert (await drain(kube, world.with_plan(traffic={"drain_path": None}), "blue", TOKEN)).problems == ()

    world.run(wrong)
