"""Both ways behind a load balancer that has pod addresses as targets: it lets a new one in after health checks of its
own, and drops a removed one at once.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.coordination import promotion
from handover.coordination.lock import FencedOut
from handover.coordination.routing import move
from handover.ports.router import Stage, both
from handover.traffic.abort import abort, abort_or_wake, look
from handover.traffic.back import nobody
from handover.traffic.cutover import Cutover, CutoverFailed
from tests.support.steps import opened
from tests.twins.service import Guests, TwinService, ask_for_ever
from tests.twins.world import World

ENTRY_SECONDS = 5.0


async def nothing() -> None:
    pass


def cutover(world, kube, *, plan=None, fence=nothing) -> Cutover:
    return Cutover(
        kube, world.router(kube), plan or world.plan, world.token, "v1.1.0", world.public, fence, "v1.0.0"
    )  # fmt: skip


async def bring_back(world, kube, **how) -> float:
    """Gives the seconds it took."""
    router, loop = world.router(kube), asyncio.get_running_loop()
    _, position = await look(kube, router, world.plan)
    begun = loop.time()
    await abort(router, world.plan, position, "a test", **how)
    return loop.time() - begun


@pytest.fixture
def slow(world):
    world.service.behind_a_balancer(lambda _pod: ENTRY_SECONDS)
    return world


@pytest.fixture
def patches(world, monkeypatch):
    """Every route that was written."""
    kind, written = type(world.router(world.service.kube())), []
    plain = kind.swap

    async def told(self, route):
        written.append(route)
        return await plain(self, route)

    monkeypatch.setattr(kind, "swap", told)
    return written


def test_there_and_back_loses_no_request(slow):
    async def there_and_back(kube):
        measured = {m.what: m.value for m in await cutover(slow, kube).run()}
        assert await slow.where(kube) == ("green", Stage.PROMOTED)
        assert (await slow.router(kube).read()).entry_seconds == pytest.approx(ENTRY_SECONDS, abs=1.0)
        await asyncio.sleep(1)
        seconds = await bring_back(slow, kube)
        assert await slow.where(kube) == ("blue", Stage.ABORTED)
        return measured, seconds

    with slow.guests() as guests:
        measured, seconds = slow.run(there_and_back)
    assert (guests.failed, guests.bad) == ([], 0)
    assert measured["entry_seconds"] == pytest.approx(ENTRY_SECONDS, abs=1.0)
    assert ENTRY_SECONDS < seconds < ENTRY_SECONDS + 1.0


def test_without_a_public_address_to_ask_the_way_back_goes_by_time(slow):
    async def there_and_back(kube):
        await cutover(slow, kube).run()
        return await bring_back(slow, kube, address=nobody)

    with slow.guests() as guests:
        assert slow.run(there_and_back) == pytest.approx(2 * ENTRY_SECONDS, abs=2.5)
    assert (guests.failed, guests.bad) == ([], 0)


def test_a_public_address_that_cannot_be_asked_keeps_traffic_no_longer_than_that(slow):
    @asynccontextmanager
    async def broken(_plan):
        raise OSError("no route to host")
        yield

    async def there_and_back(kube):
        await cutover(slow, kube).run()
        seconds = await bring_back(slow, kube, address=broken)
        assert await slow.where(kube) == ("blue", Stage.ABORTED)
        return seconds

    assert slow.run(there_and_back) == pytest.approx(2 * ENTRY_SECONDS, abs=2.5)


def test_during_the_overlap_the_stable_colour_is_let_in_still_so_traffic_goes_back_at_once(slow, patches):
    async def early(kube):
        moving = asyncio.create_task(cutover(slow, kube).run())
        await asyncio.sleep(2 * ENTRY_SECONDS - 0.5)
        assert await slow.where(kube) == (None, Stage.OVERLAP)
        patches.clear()
        seconds = await bring_back(slow, kube)
        assert await slow.where(kube) == ("blue", Stage.ABORTED)
        with pytest.raises(FencedOut):
            await moving
        return seconds

    with slow.guests() as guests:
        assert slow.run(early) < 0.1
    assert (guests.failed, guests.bad, len(patches)) == ([], 0, 1)


def test_where_clients_reach_the_service_itself_the_way_back_is_one_change_at_once(world, patches):
    async def there_and_back(kube):
        await cutover(world, kube).run()
        assert (await world.router(kube).read()).entry_seconds < 0.2
        patches.clear()
        return await bring_back(world, kube)

    assert world.run(there_and_back) < 0.1
    assert len(patches) == 1


@pytest.mark.parametrize(("said", "changes"), [(0.0, 1), (1.0, 2)])
def test_the_plan_knows_better_than_what_was_measured(slow, patches, said, changes):
    plan = slow.with_plan(traffic={"entry_seconds": said})

    async def there_and_back(kube):
        await cutover(slow, kube, plan=plan).run()
        patches.clear()
        router = slow.router(kube)
        await abort(router, plan, (await look(kube, router, plan))[1], "a test")

    slow.run(there_and_back)
    assert len(patches) == changes


def test_the_overlap_takes_as_long_as_the_plan_says_at_least(world):
    plan = world.with_plan(traffic={"entry_seconds": 20.0})

    async def switch(kube):
        return {m.what: m.value for m in await cutover(world, kube, plan=plan).run()}

    assert world.run(switch)["switch_seconds"] == pytest.approx(20.0, abs=1.0)


def test_a_new_version_that_the_public_address_never_shows_is_not_promoted(world):
    world.service.behind_a_balancer(lambda _pod: 1e9)
    short = world.with_plan(traffic={"public_timeout_seconds": 60.0})
    seen = (
        r"new connections still reach v1\.0\.0 \((\d+) of \1\) instead of v1\.1\.0 after 60\.\d s; if something before "
        r"the service keeps a client with its pod, it has to be told not to; traffic is on blue again"
    )

    async def never(kube):
        with pytest.raises(CutoverFailed, match=seen):
            await cutover(world, kube, plan=short).run()
        assert await world.where(kube) == ("blue", Stage.STABLE)

    with world.guests() as guests:
        world.run(never)
    assert (guests.failed, guests.bad) == ([], 0)


def test_one_pod_of_many_that_is_let_in_is_not_enough(world):
    """The others take longer than twice that: only the share of the answers shows it."""

    async def six(kube):
        for colour in ("blue", "green"):
            await world.scale(kube, colour, 6)

    world.run(six)
    first: list[str] = []

    def entry(pod):
        if not first:
            first.append(pod.name)
        return 2.0 if pod.name == first[0] else 9.0

    balancer = world.service.behind_a_balancer(entry)

    with world.guests() as guests:
        world.run(lambda kube: cutover(world, kube).run())
    assert (guests.failed, guests.bad) == ([], 0)
    assert balancer.fewest == 6


def test_a_way_back_that_was_killed_half_way_is_finished_by_whoever_comes_next(slow):
    async def killed(kube):
        await cutover(slow, kube).run()
        dying = asyncio.create_task(bring_back(slow, kube))
        await asyncio.sleep(2.0)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        route = await slow.router(kube).read()
        assert (route.weights, route.stage) == (both("blue", "green"), Stage.ABORTED)
        await bring_back(slow, kube)
        assert await slow.where(kube) == ("blue", Stage.ABORTED)

    with slow.guests() as guests:
        slow.run(killed)
    assert (guests.failed, guests.bad) == ([], 0)


def test_several_who_go_back_at_the_same_time_agree(slow):
    async def together(kube):
        await cutover(slow, kube).run()
        took = await asyncio.gather(*(bring_back(slow, kube) for _ in range(4)))
        assert await slow.where(kube) == ("blue", Stage.ABORTED)
        return took

    with slow.guests() as guests:
        assert max(slow.run(together)) < ENTRY_SECONDS + 1.0
    assert (guests.failed, guests.bad) == ([], 0)


def test_a_stable_colour_that_was_woken_is_let_in_before_it_serves_alone(slow):
    async def asleep(kube):
        await cutover(slow, kube).run()
        await slow.scale(kube, "blue", 0)
        slow.service.cluster.start_seconds = 3.0
        router = slow.router(kube)
        _, position = await look(kube, router, slow.plan)
        await abort_or_wake(kube, router, slow.plan, position, "a test")
        assert await slow.where(kube) == ("blue", Stage.ABORTED)

    with slow.guests() as guests:
        slow.run(asleep)
    assert (guests.failed, guests.bad) == ([], 0)


def test_a_cutover_that_is_resumed_keeps_the_most_that_it_can_have_taken(slow):
    async def resumed(kube):
        at = asyncio.get_running_loop().time() + 1_800_000_000.0
        await move(slow.router(kube), partial(promotion.overlap, token=slow.token, at=at))
        await asyncio.sleep(ENTRY_SECONDS + 2)
        await cutover(slow, kube).run()
        assert ENTRY_SECONDS < (await slow.router(kube).read()).entry_seconds < ENTRY_SECONDS + 3

    with slow.guests():
        slow.run(resumed)


def test_a_service_that_keeps_clients_with_their_pods_cannot_show_both_and_is_switched_by_its_endpoints(world):
    """One client sees one pod, until that is behind the Service no more."""

    class Sticky:
        token = "drain-token"

        async def get(self, path, timeout):
            pods = {pod.name: pod for pod in world.service.serving()}
            self.pod = getattr(self, "pod", None) if getattr(self, "pod", None) in pods else min(pods)
            return world.service.app(pods[self.pod]).serve(path)

    async def switch(kube):
        await kube.merge("services", "pms-api", {"spec": {"sessionAffinity": "ClientIP"}})
        run = Cutover(kube, world.router(kube), world.plan, world.token, "v1.1.0", Sticky(), nothing)
        measured = {m.what for m in await run.run()}
        assert "entry_seconds" not in measured
        assert (await world.router(kube).read()).entry_seconds is None

    world.run(switch)
    assert world.run(world.where) == ("green", Stage.PROMOTED)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pods=st.integers(1, 6),
    least=st.one_of(st.just(0.0), st.floats(2.0, 8.0)),
    spread=st.lists(st.floats(1.0, 2.0), min_size=12, max_size=12),
    back_after=st.floats(0.0, 40.0),
)
def test_whoever_goes_back_whenever_nobody_meets_nobody(virtual_time, quick_plan, pods, least, spread, back_after):
    """And no fewer targets than before while the version goes forward, where the last pod takes twice as long."""
    plan = quick_plan.model_copy(update={"cluster": quick_plan.cluster.model_copy(update={"replicas": 1})})

    async def begin() -> World:
        service = TwinService(plan, replicas=pods)
        return World(virtual_time, service, await opened(service.kube(), plan.lock_name, "registry.example.com/web:1"))

    world = asyncio.run(begin())
    order: list[str] = []

    def entry(pod):
        if pod.name not in order:
            order.append(pod.name)
        return least * spread[order.index(pod.name) % len(spread)]

    balancer = world.service.behind_a_balancer(entry)

    async def there_and_back(kube):
        moving = asyncio.create_task(cutover(world, kube).run())
        await asyncio.sleep(back_after)
        fewest = balancer.fewest
        address = partial(_public, world)
        _, position = await look(kube, world.router(kube), world.plan)
        await abort(world.router(kube), world.plan, position, "a test", address=address)
        await asyncio.gather(moving, return_exceptions=True)
        assert await world.where(kube) == ("blue", Stage.ABORTED)
        return fewest

    seen = Guests()
    with world.time.beside(lambda: ask_for_ever(world.service, seen)):
        world.time.pass_by(0.2)
        assert world.run(there_and_back) >= pods
        world.time.pass_by(0.3)
    assert (seen.failed, seen.bad) == ([], 0)


def _public(world: World, plan):
    return world.service.outside().public(plan.traffic.api_connection)
