"""The cluster client against a real API."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace

import pytest
from kubernetes_asyncio import client

from handover.adapters.kubernetes import _message, connect
from handover.ports.kube import Conflict, Kube, KubeError, NotFound

pytestmark = pytest.mark.sandbox


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("services",), "/api/v1/namespaces/n/services"),
        (("services", "a"), "/api/v1/namespaces/n/services/a"),
        (("apps/v1/deployments", "a"), "/apis/apps/v1/namespaces/n/deployments/a"),
        (("apps/v1/deployments", "a", "scale"), "/apis/apps/v1/namespaces/n/deployments/a/scale"),
        (("pods", "a:80", "proxy"), "/api/v1/namespaces/n/pods/a:80/proxy"),
        (("pods", "a/../b"), "/api/v1/namespaces/n/pods/a%2F..%2Fb"),
    ],
)
def test_paths(arguments, path):
    assert Kube(SimpleNamespace(), "n").path(*arguments) == path


@pytest.mark.parametrize(("text", "message"), [('{"message": "no"}', "no"), ("plain", "plain"), ("[]", "[]")])
def test_the_message_of_an_error(text, message):
    assert _message(text) == message


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"of": name}}, "data": data}


def test_create_get_list_and_delete(in_cluster):
    async def work(kube):
        await kube.create("configmaps", config_map("a", x="1"))
        await kube.create("configmaps", config_map("b"))
        assert (await kube.get("configmaps", "a"))["data"] == {"x": "1"}
        assert [item["metadata"]["name"] for item in await kube.list("configmaps", {"of": "a"})] == ["a"]
        assert len(await kube.list("configmaps")) == 2
        await kube.delete("configmaps", "a")
        await kube.delete("configmaps", "a")
        assert await kube.find("configmaps", "a") is None
        with pytest.raises(NotFound):
            await kube.get("configmaps", "a")

    in_cluster(work)


def test_creating_twice_conflicts(in_cluster):
    async def work(kube):
        await kube.create("configmaps", config_map("a"))
        with pytest.raises(Conflict) as conflict:
            await kube.create("configmaps", config_map("a"))
        assert conflict.value.status == 409

    in_cluster(work)


def test_replace_is_compare_and_swap(in_cluster):
    async def work(kube):
        first = await kube.create("configmaps", config_map("a", x="1"))
        await kube.replace("configmaps", "a", first | {"data": {"x": "2"}})
        with pytest.raises(Conflict):
            await kube.replace("configmaps", "a", first | {"data": {"x": "3"}})
        assert (await kube.get("configmaps", "a"))["data"] == {"x": "2"}

    in_cluster(work)


def test_merge_removes_by_null_and_swaps_with_a_version(in_cluster):
    async def work(kube):
        first = await kube.create("configmaps", config_map("a", x="1", y="1"))
        await kube.merge("configmaps", "a", {"data": {"x": None}})
        assert (await kube.get("configmaps", "a"))["data"] == {"y": "1"}
        old = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"y": "9"}}
        with pytest.raises(Conflict):
            await kube.merge("configmaps", "a", old)

    in_cluster(work)


def test_a_rehearsing_client_keeps_nothing_and_reaches_no_pod(in_cluster):
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

    in_cluster(work)


def test_applying_twice_changes_nothing_and_a_dry_run_never_does(in_cluster):
    async def work(kube):
        await kube.rehearsing().apply("configmaps", config_map("a", x="1"))
        assert await kube.find("configmaps", "a") is None
        first = await kube.apply("configmaps", config_map("a", x="1"))
        second = await kube.apply("configmaps", config_map("a", x="1"))
        assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]

    in_cluster(work)


def test_an_airflow_connection_leads_to_the_cluster(plan):
    async def work():
        async with connect(plan.cluster.connection, plan.cluster.namespace) as kube:
            return await kube.get("services", plan.cluster.service)

    assert asyncio.run(work())["spec"]["selector"] == {"app": "pms", "version": "blue"}


def test_a_wrong_token_is_an_error_that_says_so(cluster):
    async def work():
        settings = client.Configuration(host=cluster.url, api_key={"BearerToken": "Bearer wrong"})
        async with client.ApiClient(configuration=settings) as api:
            await Kube(api, "default").list("pods")

    with pytest.raises(KubeError, match="401"):
        asyncio.run(work())


def test_no_answer_has_status_0():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{unused.getsockname()[1]}"

    async def work():
        async with client.ApiClient(configuration=client.Configuration(host=host)) as api:
            await Kube(api, "default").list("pods")

    with pytest.raises(KubeError) as error:
        asyncio.run(work())
    assert error.value.status == 0
