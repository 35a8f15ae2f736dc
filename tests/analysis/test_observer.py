"""The observer on the twin of a service, in virtual time: what reaches the judge, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from handover import clock
from handover.analysis import judge
from handover.analysis.judge import Finding
from handover.analysis.observer import Observer
from handover.analysis.sources import learn
from handover.models import names
from handover.models.evidence import Verdict
from handover.ports.public import Answer
from tests.analysis.made import plan_with
from tests.twins.service import Guests as Seen
from tests.twins.service import TwinAddress, TwinService, ask_for_ever
from tests.twins.world import in_cluster, quick_plan, twin, virtual_time, world  # noqa: F401 - fixtures


class Edge:
    """What stands in front of the service: it answers ``status`` from the ``after``-th request on, ``until`` then."""

    token = ""

    def __init__(self, service: TwinService, status: int, after: int = 0, until: float = float("inf")) -> None:
        self._service, self._status, self._after, self._until = TwinAddress(service), status, after, until
        self.asked: list[float] = []

    async def get(self, path: str, timeout: float) -> Answer:
        self.asked.append(clock.monotonic())
        if len(self.asked) > self._after and clock.monotonic() < self._until:
            await asyncio.sleep(0.001)
            return Answer(0.001, self._status, {"server": "edge"})
        return await self._service.get(path, timeout)


class Turns(TwinAddress):
    """An address whose answers take some turns of our event loop, as real ones do."""

    async def get(self, path: str, timeout: float) -> Answer:
        begun = asyncio.get_running_loop().time()
        for _ in range(4):
            await asyncio.sleep(0.001)
        answer = await super().get(path, timeout)
        return replace(answer, seconds=asyncio.get_running_loop().time() - begun)


def restarted(observer: Observer, **counts: int) -> None:
    """The cluster says how often containers were started again, whoever lists the pods."""
    ready = observer._metrics.ready

    async def listed() -> Any:
        found = await ready()
        observer._metrics.restarts = counts
        return found

    observer._metrics.ready = listed  # type: ignore[method-assign]


def watched(
    world: Any, seconds: float, public: Any = None, *, guests: bool = True, normal: dict[str, float] | None = None,  # noqa: F811
    beside: Callable[[Observer], Coroutine[Any, Any, None]] | None = None, plan: Any = None,
) -> tuple[Finding | None, Observer, list[str]]:  # fmt: skip
    """Watches the colour that serves; gives what was found, and what was said."""
    said: list[str] = []

    async def run() -> tuple[Finding | None, Observer]:
        service = world.service
        crowd = asyncio.create_task(ask_for_ever(service, Seen(), 0.02)) if guests else None
        observer = Observer(
            service.kube(), plan or world.plan, public or TwinAddress(service), "blue", baseline=normal, say=said.append
        )
        other = asyncio.create_task(beside(observer)) if beside else None
        found = await observer.watch(seconds)
        for task in (crowd, other):
            if task:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        return found, observer

    found, observer = world.time.run(run())
    return found, observer, said


@pytest.mark.parametrize(("seconds", "told"), [(0.05, Verdict.PASS), (0.12, Verdict.UNKNOWN)])
def test_a_process_that_is_busy_all_the_time_does_not_blame_the_release(world, seconds, told):  # noqa: F811
    """Every turn of its event loop takes longer than the release does; beyond what can be told apart, nobody knows."""
    plan = world.with_plan(thresholds={"max_p50_seconds": 0.15})

    async def busy(_: Observer) -> None:
        while True:
            await asyncio.sleep(0.001)
            loop = asyncio.get_running_loop()
            loop.setup_looptime(start=loop.time() + seconds)  # type: ignore[attr-defined]

    found, observer, _ = watched(world, 40, Turns(world.service), beside=busy, plan=plan)
    assert found is None
    assert judge.conclude(observer.seen, world.time.now)[0] is told


def test_a_good_version_passes(world):  # noqa: F811
    found, observer, _ = watched(world, 20)
    assert found is None
    assert judge.conclude(observer.seen, world.time.now) == (Verdict.PASS, None)


@pytest.mark.parametrize("status", [429, 403])
def test_an_edge_that_refuses_our_probes_is_no_error_of_the_release(world, status):  # noqa: F811
    """Input 7: guests are served, and the pods count them."""
    found, observer, said = watched(world, 30, Edge(world.service, status, after=100))
    assert found is None
    seen = observer.seen
    assert seen.probed.bad == 0
    assert judge.conclude(seen, world.time.now) == (Verdict.PASS, None)
    (told,) = [one for one in said if one.startswith("incident: ")]
    assert told.startswith("incident: no_data: probe gave no data for ")
    assert f"(status {status}: the client is refused" in told


def test_an_edge_that_refuses_us_while_nobody_sees_guests_is_silence_as_any_other(world):  # noqa: F811
    found, observer, _ = watched(world, 30, Edge(world.service, 429, after=50), guests=False)
    assert found.rule == names.NO_DATA
    assert observer.seen.probed.bad == 0


def test_who_is_refused_asks_less_often_and_as_often_as_before_once_he_is_not(world):  # noqa: F811
    edge = Edge(world.service, 429, after=50, until=45)
    found, _, _ = watched(world, 60, edge)
    assert found is None
    begun = edge.asked[0]
    refused = [at for at in edge.asked if 10 < at - begun < 40]
    assert len(refused) <= 7, "every five seconds"
    after = [at for at in edge.asked if at - begun > 51]
    assert len(after) >= 80


@pytest.mark.parametrize(("status", "normal", "rule"), [
    (204, {}, None), (301, {}, None), (404, {}, names.NO_DATA), (404, {names.PROBE_STATUS: 404.0}, names.NO_DATA),
    (404, {names.PROBE_STATUS: 200.0}, names.ERROR_RATE), (500, {}, names.ERROR_RATE), (503, {}, names.ERROR_RATE),
])  # fmt: skip
def test_one_rule_for_a_good_answer(world, status, normal, rule):  # noqa: F811
    found, _, _ = watched(world, 10, Edge(world.service, status), guests=False, normal=normal)
    assert (found.rule if found else None) == rule


def test_a_container_that_is_started_again_is_a_finding(world):  # noqa: F811
    """Input 9: one of ten pods is killed for its memory, and back before anybody misses it."""

    async def killed(observer: Observer) -> None:
        restarted(observer, a=4, b=0)
        await asyncio.sleep(5)
        restarted(observer, a=4, b=1)

    found, _, _ = watched(world, 20, beside=killed)
    assert (found.rule, found.severity) == (names.RESTARTS, "high")
    assert found.reason == "pods: restarts 1 above 0"


def test_restarts_before_the_watch_are_no_finding(world):  # noqa: F811
    async def killed(observer: Observer) -> None:
        restarted(observer, a=4, b=17)

    found, observer, _ = watched(world, 20, beside=killed)
    assert found is None
    assert observer.seen.last[names.RESTARTS].value == 0


def test_a_pod_that_comes_later_has_every_restart_since_the_watch_began(world):  # noqa: F811
    async def killed(observer: Observer) -> None:
        restarted(observer, a=0)
        await asyncio.sleep(3)
        restarted(observer, a=0, b=2)

    found, _, _ = watched(world, 20, beside=killed)
    assert found.reason == "pods: restarts 2 above 0"


def test_a_service_that_is_seldom_started_again_may_say_so_in_its_plan(world):  # noqa: F811
    async def killed(observer: Observer) -> None:
        for count in range(4):
            restarted(observer, a=count)
            await asyncio.sleep(3)

    entry = plan_with({"name": "restarts", "source": "pods", "limit": {"above": 3}}).measures
    plan = world.plan.model_copy(update={"measures": entry})
    assert watched(world, 20, beside=killed, plan=plan)[0] is None


@pytest.mark.plan("Performance degradation >50%")
@pytest.mark.parametrize(("seconds", "rule"), [(0.0, None), (0.03, None), (0.12, names.P50)])
def test_the_stable_versions_response_times_are_learnt_and_compared_with(world, seconds, rule):  # noqa: F811
    """Its answers took 4 ms. In the twin's buckets 34 ms are as fast, and 124 ms are surely slower by 50 ms."""
    for pod in world.service.pods("green"):
        for _ in range(100):
            world.service.app(pod).serve("/")
    world.service.tell("blue", mode="slow", delay_seconds=seconds)

    async def learns(observer: Observer) -> None:
        await learn(observer.seen, world.service.kube(), world.plan, "green")
        assert observer.seen.stable == {(0.0, 0.05): 200}
        assert observer.seen.baseline[names.P50] == pytest.approx(0.025)

    found, _, _ = watched(world, 20, beside=learns)
    assert (found.rule if found else None) == rule
    assert not found or "than the stable version's by more than 50% and 0.05 s" in found.reason


def test_guests_that_all_fail_are_seen_beside_probes_that_are_all_good(world):  # noqa: F811
    """Input 8: twelve requests a minute, all of them 500, and nothing of ours mixed with them."""

    async def fails(observer: Observer) -> None:
        (pod, _) = world.service.pods("blue")
        while True:
            await asyncio.sleep(5)
            world.service.app(pod).answers[500] += 1

    class Healthy:
        token = ""

        async def get(self, path: str, timeout: float) -> Answer:
            await asyncio.sleep(0.004)
            return Answer(0.004, 200)

    found, observer, _ = watched(world, 120, Healthy(), guests=False, beside=fails)
    assert (found.rule, found.source) == (names.ERROR_RATE, "pods")
    assert found.reason.startswith("pods: 3 of 3 in 1")
    assert observer.seen.probed.bad == 0
