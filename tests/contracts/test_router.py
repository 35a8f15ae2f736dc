"""What every router promises: see `handover.ports.router`. Today there is one, a Service, on each kind of cluster."""

from __future__ import annotations

from dataclasses import replace

import pytest

from handover import clock
from handover.adapters.service_router import ServiceRouter
from handover.coordination.routing import DEPLOYMENTS, until_behind
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.kube import Conflict
from handover.ports.router import Stage, both, only
from tests.contracts.test_kube import _is_full, until

CLUSTER = load_plan(INCLUDE / "plans" / "pms.yaml").cluster.model_copy(update={"app": "web", "service": "web"})


@pytest.fixture
def routed(any_cluster):
    """Runs work with a client and the router of a Service that selects blue."""

    def run(work):
        async def with_router(kube):
            await kube.create("services", any_cluster.service("web", app="web", version="blue", tier="front"))
            return await work(kube, ServiceRouter(kube, CLUSTER, "web"))

        return any_cluster.run(with_router)

    return run


def test_a_route_that_nobody_has_moved_says_who_serves_and_nothing_else(routed):
    async def work(_, router):
        route = await router.read()
        assert (route.weights, route.colour, route.serving) == (only("blue"), "blue", {"blue"})
        assert (route.generation, route.stage, route.exposed_at) == (0, None, None)

    routed(work)


def test_what_is_written_is_read(routed):
    async def work(_, router):
        wanted = replace(
            await router.read(), weights=both("blue", "green"), generation=7, stage=Stage.OVERLAP, deployment="run-7",
            stable="blue", preview="green", reason="cutover", exposed_at=1_800_000_000.125, entry_seconds=5.25,
        )  # fmt: skip
        assert await router.swap(wanted) == wanted
        assert await router.read() == wanted
        alone = replace(await router.read(), weights=only("green"), stage=Stage.PROMOTED)
        assert await router.swap(alone) == await router.read() == alone

    routed(work)


def test_who_comes_second_conflicts_and_changes_nothing(routed):
    async def work(_, router):
        first = await router.read()
        await router.swap(replace(first, weights=only("green"), generation=1, stage=Stage.PROMOTED))
        with pytest.raises(Conflict):
            await router.swap(replace(first, weights=only("blue"), generation=1, stage=Stage.ABORTED))
        assert (await router.read()).stage is Stage.PROMOTED

    routed(work)


def test_other_keys_of_the_selector_and_other_annotations_stay(routed):
    async def work(kube, router):
        await kube.merge("services", "web", {"metadata": {"annotations": {"team": "front"}}})
        await router.swap(replace(await router.read(), weights=both("blue", "green"), generation=1))
        found = await kube.get("services", "web")
        assert found["spec"]["selector"] == {"app": "web", "tier": "front"}
        assert found["metadata"]["annotations"]["team"] == "front"

    routed(work)


def test_what_a_person_did_by_hand_is_seen(routed):
    async def work(kube, router):
        await router.swap(replace(await router.read(), weights=only("green"), generation=1, stage=Stage.PROMOTED))
        await kube.merge("services", "web", {"spec": {"selector": {"version": "blue"}}})
        route = await router.read()
        assert (route.colour, route.stage) == ("blue", Stage.PROMOTED)

    routed(work)


def test_since_when_traffic_goes_where_it_does_is_known_until_somebody_else_moves_it(routed):
    async def work(kube, router):
        assert (await router.read()).moved_at is None
        begun = clock.epoch()
        moved = await router.swap(replace(await router.read(), weights=only("green"), generation=1))
        assert begun - 0.01 <= (moved.moved_at or 0) <= clock.epoch() + 0.01  # it is written in hundredths
        noted = await router.swap(replace(moved, stage=Stage.PROMOTED))
        assert noted.moved_at == (await router.read()).moved_at == moved.moved_at
        await kube.merge("services", "web", {"spec": {"selector": {"version": "blue"}}})
        by_hand = await router.read()
        assert by_hand.moved_at is None
        assert (await router.swap(replace(by_hand, stage=Stage.ABORTED))).moved_at is None

    routed(work)


def test_notes_under_the_former_names_are_read_until_newer_ones_take_their_place(routed):
    async def work(kube, router):
        former = {"generation": "4", "traffic": "settled", "deployment": "run-4", "reason": "deployed",
                  "old-colour": "green", "new-colour": "blue"}  # fmt: skip
        notes = {f"pms.deploy/{key}": value for key, value in former.items()}
        await kube.merge("services", "web", {"metadata": {"annotations": notes}})
        route = await router.read()
        assert (route.generation, route.stage, route.deployment) == (4, Stage.FINALISED, "run-4")
        assert (route.stable, route.preview) == ("green", "blue")
        await router.swap(replace(route, generation=5, stage=Stage.OVERLAP, weights=both("blue", "green")))
        kept = (await kube.get("services", "web"))["metadata"]["annotations"]
        assert not [key for key in kept if key.startswith("pms.deploy/")]
        assert (await router.read()).generation == 5

    routed(work)


def test_notes_that_nobody_understands_are_no_notes(routed):
    async def work(kube, router):
        notes = {"stage": "sideways", "generation": "x", "entry-seconds": "soon", "exposed-at": "today"}
        annotations = {f"handover/{name}": value for name, value in notes.items()}
        await kube.merge("services", "web", {"metadata": {"annotations": annotations}})
        route = await router.read()
        assert (route.stage, route.generation, route.entry_seconds, route.exposed_at) == (None, 0, None, None)

    routed(work)


def test_whether_it_keeps_clients_with_their_pods_is_read_and_left_alone(routed):
    async def work(kube, router):
        assert not (await router.read()).sticky
        await kube.merge("services", "web", {"spec": {"sessionAffinity": "ClientIP"}})
        route = await router.swap(replace(await router.read(), weights=only("green"), generation=1))
        assert route.sticky
        assert (await kube.get("services", "web"))["spec"]["sessionAffinity"] == "ClientIP"

    routed(work)


def test_a_reason_of_any_length_fits(routed):
    async def work(_, router):
        route = await router.swap(replace(await router.read(), reason="x" * 100_000, generation=1))
        assert 100 < len(route.reason) < 1000

    routed(work)


def test_a_service_cannot_weigh(routed):
    async def work(_, router):
        with pytest.raises(ValueError, match="cannot weigh"):
            await router.swap(replace(await router.read(), weights={"blue": 90, "green": 10}))

    routed(work)


def test_who_is_behind_it_follows_the_route(any_cluster):
    async def work(kube):
        await kube.create("services", any_cluster.service("web", app="web", version="blue"))
        router = ServiceRouter(kube, CLUSTER, "web")
        for colour in ("blue", "green"):
            await kube.apply(DEPLOYMENTS, any_cluster.deployment(f"web-{colour}", version=colour))
            await until(lambda name=f"web-{colour}": _is_full(kube, name))
        blue, green = ({"app": "web", "version": colour} for colour in ("blue", "green"))
        assert len(await until_behind(kube, router, [blue], 30)) == 2
        await router.swap(replace(await router.read(), weights=both("blue", "green"), generation=1))
        assert len(await until_behind(kube, router, [blue, green], 30)) == 4
        await router.swap(replace(await router.read(), weights=only("green"), generation=1))
        assert await until_behind(kube, router, [green], 30) == await router.behind()

    any_cluster.run(work)
