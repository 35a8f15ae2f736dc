"""How many pods a colour needs."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.coordination import size
from handover.coordination.routing import DEPLOYMENTS, NotReady
from handover.models.annotations import notes
from handover.models.deployment import FencingToken
from handover.ports.kube import KubeError, NotFound
from tests.twins.service import TwinService

TOKEN = FencingToken(deployment="run", generation=1, stable="blue", preview="green")


async def nothing() -> None:
    pass


async def declared(kube, name="pms-green") -> int:
    return size.declared(await kube.get(DEPLOYMENTS, name))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.integers(1, 9), has=st.integers(0, 9), extra=st.integers(0, 3))
def test_as_many_as_serve_and_no_fewer_than_the_plan_says(virtual_time, quick_plan, said, has, extra):
    """``extra``: pods with the colour's labels that another Deployment has made."""
    cluster = quick_plan.cluster.model_copy(update={"replicas": said})

    async def ask() -> int:
        service = TwinService(quick_plan, replicas=has)
        kube = service.kube()
        other = await kube.get(DEPLOYMENTS, "pms-blue")
        other["metadata"] = {"name": "more"}
        await kube.create(DEPLOYMENTS, other | {"spec": other["spec"] | {"replicas": extra}})
        return await size.needed(kube, cluster, "blue")

    assert asyncio.run(ask()) == max(said, has + extra)


def test_pods_that_are_to_be_there_count_before_they_are_ready(twin, in_cluster):
    async def ask(kube):
        twin.cluster.start_seconds = 60.0
        twin.scale("blue", 6)
        return await size.needed(kube, twin.plan.cluster, "blue")

    assert in_cluster(ask) == 6


def test_a_colour_without_a_deployment_needs_what_the_plan_says(twin, in_cluster):
    async def ask(kube):
        await kube.delete(DEPLOYMENTS, "pms-blue")
        return await size.needed(kube, twin.plan.cluster, "blue")

    assert in_cluster(ask) == twin.plan.cluster.replicas


@pytest.mark.parametrize(("pods", "had", "then"), [(6, 2, 6), (2, None, 2), (1, None, 2)])
def test_it_grows_and_never_shrinks(in_cluster, pods, had, then):
    async def grown(kube):
        return await size.grow(kube, "pms-green", pods, nothing, woken_by="run"), await declared(kube)

    assert in_cluster(grown) == (had, then)


def test_whoever_changes_it_meanwhile_is_looked_at_again(in_cluster):
    async def grown(kube):
        asked = []

        async def fence():
            asked.append(1)
            if len(asked) == 1:
                await kube.merge(DEPLOYMENTS, "pms-green", {"spec": {"replicas": 4}})

        had = await size.grow(kube, "pms-green", 6, fence, generation="1")
        return had, len(asked), notes(await kube.get(DEPLOYMENTS, "pms-green"))["generation"]

    assert in_cluster(grown) == (4, 2, "1")


def test_who_may_not_change_it_any_more_changes_nothing(in_cluster):
    async def grown(kube):
        async def fence():
            raise RuntimeError("fenced out")

        with pytest.raises(RuntimeError):
            await size.grow(kube, "pms-green", 6, fence)
        return await declared(kube)

    assert in_cluster(grown) == 2


def test_it_is_waited_for_until_it_is_full(twin, in_cluster, virtual_time):
    async def full(kube):
        twin.cluster.start_seconds = 20.0
        twin.scale("green", 6)
        with pytest.raises(NotReady, match="2 of 6 replicas"):
            await size.until_full(kube, "pms-green", 6, 10.0)
        await size.until_full(kube, "pms-green", 6, 30.0)

    in_cluster(full)
    assert 20 <= virtual_time.now < 21


async def six(twin):
    twin.scale("blue", 6)


def autoscaler(twin, name: str, target: dict, least: int | None) -> None:
    spec = {"scaleTargetRef": target, "maxReplicas": 10} | ({"minReplicas": least} if least else {})
    twin.cluster.write((size.AUTOSCALERS, twin.namespace, name), {"spec": spec})


def test_an_autoscaler_that_may_take_what_a_rollback_needs_is_named(twin, in_cluster):
    autoscaler(twin, "web", {"kind": "Deployment", "name": "pms-blue"}, None)
    autoscaler(twin, "next", {"kind": "Deployment", "name": "pms-green"}, 3)
    in_cluster(lambda kube: six(twin))
    said = in_cluster(lambda kube: size.autoscaled(kube, twin.plan.cluster, TOKEN))
    assert said == (
        "warning: HorizontalPodAutoscaler web may shrink pms-blue to 1 pods while it serves nobody, and 6 serve now: a "
        "rollback would go at once to what is left; "
        "warning: HorizontalPodAutoscaler next may shrink pms-green to 3 pods while it serves nobody, and 6 serve now"
    )


@pytest.mark.parametrize(
    ("target", "least"),
    [
        ({"kind": "Deployment", "name": "pms-blue"}, 6),
        ({"kind": "Deployment", "name": "other"}, 1),
        ({"kind": "StatefulSet", "name": "pms-blue"}, 1),
        ({}, 1),
    ],
)
def test_others_are_not(twin, in_cluster, target, least):
    autoscaler(twin, "web", target, least)
    in_cluster(lambda kube: six(twin))
    assert in_cluster(lambda kube: size.autoscaled(kube, twin.plan.cluster, TOKEN)) == ""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotFound(404, "the server could not find the requested resource"), ""),
        (KubeError(503, "away"), "warning: whether an autoscaler sizes one of the colours is not known: away"),
    ],
)
def test_what_is_not_known_of_autoscalers_is_said(twin, error, said):
    class Refuses:
        async def list(self, resource):
            raise error

    assert asyncio.run(size.autoscaled(Refuses(), twin.plan.cluster, TOKEN)) == said
