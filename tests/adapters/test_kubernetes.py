"""The cluster client; what it promises is in tests/contracts, here is what only it has: paths, words, connections."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from kubernetes_asyncio import client

from handover.adapters.kubernetes import KubeClient, _message, connect
from handover.models.annotations import AGENT, FORMER_AGENT
from handover.ports.kube import KubeError
from tests.support.cluster import in_cluster, namespace, plan  # noqa: F401 - fixtures
from tests.support.web import nobody


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
    assert KubeClient(SimpleNamespace(), "n").path(*arguments) == path


@pytest.mark.parametrize(("text", "message"), [('{"message": "no"}', "no"), ("plain", "plain"), ("[]", "[]")])
def test_the_message_of_an_error(text, message):
    assert _message(text) == message


@pytest.mark.sandbox
def test_an_airflow_connection_leads_to_the_cluster(plan):  # noqa: F811
    async def work():
        async with connect(plan.cluster.connection, plan.cluster.namespace) as kube:
            return await kube.get("services", plan.cluster.service)

    assert asyncio.run(work())["spec"]["selector"] == {"app": "pms", "version": "blue"}


@pytest.mark.sandbox
def test_a_wrong_token_is_an_error_that_says_so(cluster):
    async def work():
        settings = client.Configuration(host=cluster.url, api_key={"BearerToken": "Bearer wrong"})
        async with client.ApiClient(configuration=settings) as api:
            await KubeClient(api, "default").list("pods")

    with pytest.raises(KubeError, match="401"):
        asyncio.run(work())


def test_no_answer_has_status_0():
    async def work(where):
        async with client.ApiClient(configuration=client.Configuration(host=where)) as api:
            await KubeClient(api, "default").list("pods")

    with nobody() as (host, port), pytest.raises(KubeError) as error:
        asyncio.run(work(f"http://{host}:{port}"))
    assert (error.value.status, error.value.passing) == (0, True)


@pytest.mark.sandbox
def test_what_was_applied_under_the_former_name_goes_when_it_is_not_applied_any_more(in_cluster):  # noqa: F811
    def config_map(**data: str) -> dict:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}

    async def work(kube):
        await kube._apply("configmaps", config_map(kept="1", gone="1"), FORMER_AGENT)
        assert (await kube.apply("configmaps", config_map(kept="1")))["data"] == {"kept": "1"}
        found = await kube.get("configmaps", "a")
        assert found["data"] == {"kept": "1"}
        assert [one["manager"] for one in found["metadata"]["managedFields"]] == [AGENT]

    in_cluster(work)
