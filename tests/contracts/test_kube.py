"""What every cluster promises to those who deploy: see `handover.ports.kube`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from handover import clock
from handover.coordination.routing import DEPLOYMENTS, NotReady, full, ready_pods
from handover.kube import jobs
from handover.models.annotations import notes
from handover.ports.kube import Conflict, KubeError, NotFound
from tests.contracts.conftest import MISSING

LEASES = "coordination.k8s.io/v1/leases"
JOBS = "batch/v1/jobs"


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": name}}, "data": data}


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
    """What it gives once that is true."""
    async with asyncio.timeout(seconds):
        while not (found := await condition()):
            await asyncio.sleep(0.1)
        return found


def test_an_object_is_made_read_listed_and_deleted(any_cluster):
    async def work(kube):
        await kube.create("configmaps", config_map("a", x="1"))
        await kube.create("configmaps", config_map("b"))
        assert (await kube.get("configmaps", "a"))["data"] == {"x": "1"}
        assert [item["metadata"]["name"] for item in await kube.list("configmaps", {"of": "a"})] == ["a"]
        assert {"a", "b"} <= {item["metadata"]["name"] for item in await kube.list("configmaps")}
        await kube.delete("configmaps", "a")
        await kube.delete("configmaps", "a")
        assert await kube.find("configmaps", "a") is None
        with pytest.raises(NotFound) as missing:
            await kube.get("configmaps", "a")
        assert (missing.value.status, missing.value.passing) == (404, False)

    any_cluster.run(work)


def test_making_it_twice_conflicts(any_cluster):
    async def work(kube):
        await kube.create("configmaps", config_map("a"))
        with pytest.raises(Conflict) as conflict:
            await kube.create("configmaps", config_map("a"))
        assert (conflict.value.status, conflict.value.passing) == (409, False)

    any_cluster.run(work)


def test_replace_is_compare_and_swap(any_cluster):
    async def work(kube):
        first = await kube.create("configmaps", config_map("a", x="1"))
        await kube.replace("configmaps", "a", first | {"data": {"x": "2"}})
        with pytest.raises(Conflict):
            await kube.replace("configmaps", "a", first | {"data": {"x": "3"}})
        assert (await kube.get("configmaps", "a"))["data"] == {"x": "2"}

    any_cluster.run(work)


def test_a_lease_is_compare_and_swap(any_cluster):
    async def work(kube):
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
                "spec": {"holderIdentity": "one", "leaseTransitions": 1}}  # fmt: skip
        first = await kube.create(LEASES, body)
        await kube.replace(LEASES, "a", first | {"spec": {"holderIdentity": "two", "leaseTransitions": 2}})
        with pytest.raises(Conflict):
            await kube.replace(LEASES, "a", first | {"spec": {"holderIdentity": "three", "leaseTransitions": 2}})
        assert (await kube.get(LEASES, "a"))["spec"]["holderIdentity"] == "two"

    any_cluster.run(work)


def test_merge_removes_by_null_and_swaps_with_a_version(any_cluster):
    async def work(kube):
        first = await kube.create("configmaps", config_map("a", x="1", y="1"))
        await kube.merge("configmaps", "a", {"data": {"x": None}})
        assert (await kube.get("configmaps", "a"))["data"] == {"y": "1"}
        old = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"y": "9"}}
        with pytest.raises(Conflict):
            await kube.merge("configmaps", "a", old)
        with pytest.raises(NotFound):
            await kube.merge("configmaps", "missing", {"data": {"x": "1"}})

    any_cluster.run(work)


def test_a_change_that_changes_nothing_keeps_the_version(any_cluster):
    async def work(kube):
        first = await kube.create("configmaps", config_map("a", x="1"))
        same = await kube.merge("configmaps", "a", {"data": {"x": "1"}})
        other = await kube.merge("configmaps", "a", {"data": {"x": "2"}})
        versions = [one["metadata"]["resourceVersion"] for one in (first, same, other)]
        assert versions[0] == versions[1] != versions[2]

    any_cluster.run(work)


def test_what_is_tried_is_told_and_not_kept(any_cluster):
    async def work(kube):
        dry = kube.rehearsing()
        assert (await dry.create("configmaps", config_map("a", x="1")))["data"] == {"x": "1"}
        assert await dry.find("configmaps", "a") is None
        first = await kube.create("configmaps", config_map("a", x="1"))
        assert (await dry.merge("configmaps", "a", {"data": {"x": "2"}}))["data"] == {"x": "2"}
        await dry.replace("configmaps", "a", {**first, "data": {"x": "3"}})
        await dry.delete("configmaps", "a")
        assert await kube.get("configmaps", "a") == first
        with pytest.raises(ValueError, match="a pod knows no dry run"):
            await dry.proxy("pod", 8080, "/-/drain", "POST")

    any_cluster.run(work)


def test_applying_twice_changes_nothing_and_what_is_not_applied_any_more_goes(any_cluster):
    async def work(kube):
        await kube.rehearsing().apply("configmaps", config_map("a", x="1"))
        assert await kube.find("configmaps", "a") is None
        first = await kube.apply("configmaps", config_map("a", x="1", y="1"))
        second = await kube.apply("configmaps", config_map("a", x="1", y="1"))
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]
        await kube.merge("configmaps", "a", {"data": {"z": "somebody else's"}})
        third = await kube.apply("configmaps", config_map("a", x="2"))
        assert third["data"] == {"x": "2", "z": "somebody else's"}

    any_cluster.run(work)


def test_apply_with_a_version_is_compare_and_swap(any_cluster):
    async def work(kube):
        first = await kube.apply("configmaps", config_map("a", x="1"))
        await kube.merge("configmaps", "a", {"data": {"y": "1"}})
        late = config_map("a", x="2")
        late["metadata"]["resourceVersion"] = first["metadata"]["resourceVersion"]
        with pytest.raises(Conflict):
            await kube.apply("configmaps", late)
        assert (await kube.get("configmaps", "a"))["data"] == {"x": "1", "y": "1"}

    any_cluster.run(work)


def test_a_deployment_becomes_ready_pods(any_cluster):
    async def work(kube):
        await kube.apply(DEPLOYMENTS, any_cluster.deployment("web-blue"))
        with pytest.raises(NotReady):
            await full(kube, "web-blue", 2)
        pods = await until(lambda: ready_pods(kube, {"app": "web", "version": "blue"}))
        await until(lambda: _is_full(kube, "web-blue"))
        assert len(await ready_pods(kube, {"app": "web", "version": "blue"})) == 2
        assert await ready_pods(kube, {"app": "web", "version": "green"}) == set()
        status = (await kube.get(DEPLOYMENTS, "web-blue"))["status"]
        assert (status["readyReplicas"], status["availableReplicas"], status["updatedReplicas"]) == (2, 2, 2)
        assert pods <= {pod["metadata"]["name"] for pod in await kube.list("pods", {"app": "web"})}

    any_cluster.run(work)


async def _is_full(kube: Any, name: str, replicas: int = 2) -> bool:
    try:
        await full(kube, name, replicas)
    except NotReady:
        return False
    return True


def test_a_deployment_is_scaled_down_and_up_again(any_cluster):
    async def work(kube):
        await kube.apply(DEPLOYMENTS, any_cluster.deployment("web-blue"))
        await until(lambda: _is_full(kube, "web-blue"))
        before = await kube.get(DEPLOYMENTS, "web-blue")
        after = await kube.merge(DEPLOYMENTS, "web-blue", {"spec": {"replicas": 0}})
        assert after["metadata"]["generation"] == before["metadata"]["generation"] + 1

        async def gone() -> bool:
            return not await kube.list("pods", {"app": "web"})

        await until(gone)
        await kube.merge(DEPLOYMENTS, "web-blue", {"spec": {"replicas": 1}})
        assert len(await until(lambda: ready_pods(kube, {"app": "web"}))) == 1

    any_cluster.run(work)


def test_what_becomes_of_a_deployment_changes_its_version(any_cluster):
    """Whoever read it before its pods were ready has to read it again before a compare and swap."""

    async def work(kube):
        first = await kube.apply(DEPLOYMENTS, any_cluster.deployment("web-blue"))
        await until(lambda: _is_full(kube, "web-blue"))
        read = {"resourceVersion": first["metadata"]["resourceVersion"]}
        with pytest.raises(Conflict):
            await kube.merge(DEPLOYMENTS, "web-blue", {"metadata": read, "spec": {"replicas": 0}})

    any_cluster.run(work)


def test_a_pod_answers_through_the_api_server_and_one_that_is_not_there_does_not(any_cluster):
    async def work(kube):
        await kube.apply(DEPLOYMENTS, any_cluster.deployment("web-blue"))
        await until(lambda: _is_full(kube, "web-blue"))
        name = sorted(await ready_pods(kube, {"app": "web"}))[0]
        assert isinstance(await kube.proxy(name, 8080, "/"), str)
        answer = await kube.proxied(name, 8080, "/")
        assert isinstance(answer.body, str) and all(header == header.lower() for header in answer.headers)
        with pytest.raises(KubeError) as missing:
            await kube.proxy("nobody", 8080, "/")
        assert missing.value.status in (404, 500)

    any_cluster.run(work)


@pytest.mark.parametrize("code", [0, 3])
def test_a_job_runs_to_its_end_and_its_words_are_kept(any_cluster, code):
    async def work(kube):
        await kube.create(JOBS, any_cluster.job("once", "something", code))
        with pytest.raises(Conflict):
            await kube.create(JOBS, any_cluster.job("once", "something", code))

        end = await jobs.wait(kube, "once", clock.epoch() + 60)
        assert end.succeeded is (code == 0)
        result = await jobs.result(kube, end, "main")
        assert (result.exit_code, result.output.strip()) == (code, "something")

    any_cluster.run(work)


def test_a_job_that_does_not_start_is_stopped_once_nobody_waits_for_it(any_cluster, monkeypatch):
    monkeypatch.setattr("handover.kube.reasons.PATIENCE_SECONDS", 1.0)

    async def work(kube):
        body = any_cluster.job("lost", "something")
        body["spec"]["template"]["spec"]["containers"][0]["image"] = MISSING
        await kube.create(JOBS, body)
        end = await jobs.wait(kube, "lost", clock.epoch() + 60)
        assert end.succeeded is None
        assert "ImagePull" in end.reason
        await jobs.answered(kube, end)

        async def stopped() -> bool:
            return jobs.ending(await kube.get(JOBS, "lost")) is not None

        await until(stopped)
        assert jobs.ANSWERED in notes(await kube.get(JOBS, "lost"))

    any_cluster.run(work)
