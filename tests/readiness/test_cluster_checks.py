"""Checks of the cluster, against the stand-in cluster and in their pure parts."""

from __future__ import annotations

import json
import time

import pytest

from handover.models.evidence import Verdict
from handover.ports.kube import Kube
from handover.readiness import kubernetes as module
from handover.readiness.check import NoAnswer, Scope
from tests.readiness.conftest import SUBJECT, look
from tests.support.cluster import image, in_cluster, namespace, plan  # noqa: F401 - fixtures
from tests.support.until import until, until_async
from tests.support.web import Answer, serving

READY = {"type": "Ready", "status": "True"}


def node(name, *conditions):
    return {"metadata": {"name": name}, "status": {"conditions": list(conditions)}}


def deployment(replicas=1):
    labels = {"app": "pms", "version": "blue"}
    container = {
        "name": "pms", "image": image("v1.0.0"), "ports": [{"containerPort": 8080}],
        "env": [
            {"name": "PORT", "value": "8080"},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        ],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 1},
    }  # fmt: skip
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "pms-blue"}, "spec": spec}


@pytest.fixture
def here(plan):  # noqa: F811
    return Scope(plan, SUBJECT, time.time())


@pytest.fixture
def blue(in_cluster, here):  # noqa: F811
    """Blue serves, and answers as `pms_api`."""

    async def start(kube: Kube):
        async def available() -> bool:
            found = await kube.get("apps/v1/deployments", "pms-blue")
            return found.get("status", {}).get("availableReplicas") == 1

        await kube.create("apps/v1/deployments", deployment())
        await until_async(available, "the pod of blue")
        return (await kube.get("services", "pms-api"))["spec"]["clusterIP"]

    return in_cluster(start)


@pytest.mark.plan("Production environment provisioned and verified", "Production environment healthy")
def test_what_serves_is_whole_or_not(in_cluster, here, blue):  # noqa: F811
    assert look(here, kind="production_serves").passed
    in_cluster(lambda kube: kube.merge("apps/v1/deployments", "pms-blue", {"spec": {"replicas": 0}}))
    assert look(here, kind="production_serves").verdict is Verdict.FAIL


def test_production_that_is_not_there_is_unknown(here):
    found = look(here, kind="production_serves")
    assert (found.verdict, "404" in found.reason) == (Verdict.UNKNOWN, True)


def test_a_service_that_selects_no_colour_fails(in_cluster, here):  # noqa: F811
    in_cluster(lambda kube: kube.merge("services", "pms-api", {"spec": {"selector": {"version": "pink"}}}))
    assert look(here, kind="production_serves").verdict is Verdict.FAIL


@pytest.mark.plan("Load balancers configured")
def test_the_load_balancer_has_endpoints_and_answers(in_cluster, here, blue, monkeypatch):  # noqa: F811
    api = {"conn_type": "http", "schema": "http", "host": blue, "port": 8080}
    monkeypatch.setenv("AIRFLOW_CONN_PMS_API", json.dumps(api))
    found = look(here, kind="load_balancer")
    assert found.passed, found
    in_cluster(lambda kube: kube.merge("apps/v1/deployments", "pms-blue", {"spec": {"replicas": 0}}))
    until(lambda: not look(here, kind="load_balancer").passed, "the end of its pod")


def slice_of(address, pod=None, *, ready=True):
    endpoint = {"addresses": [address], "conditions": {"ready": ready}} | ({"targetRef": pod} if pod else {})
    return {"addressType": "IPv6" if ":" in address else "IPv4", "endpoints": [endpoint]}


@pytest.mark.parametrize(("slices", "count"), [
    ([slice_of("10.0.0.1", {"name": "web-1"}), slice_of("fd00::1", {"name": "web-1"})], 1),
    ([slice_of("10.0.0.1", {"name": "web-1"}), slice_of("10.0.0.2", {"name": "web-2"})], 2),
    ([slice_of("10.0.0.1"), slice_of("10.0.0.2"), slice_of("10.0.0.2")], 2),
    ([slice_of("10.0.0.1", {"name": "web-1"}), slice_of("10.0.0.2", {"name": "web-2"}, ready=False)], 1),
], ids=["one_pod_of_both_families", "two_pods", "no_pods", "one_not_ready"])  # fmt: skip
def test_a_pod_is_one_endpoint_however_many_addresses_it_has(slices, count):
    found = module.endpoints("endpoints", slices, 2)
    assert (found.passed, found.reason) == (count >= 2, f"{count} ready, 2 wanted")


def test_a_load_balancer_without_an_address_fails():
    service = {"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {}}}
    assert module.addressed("a", service).verdict is Verdict.FAIL
    service["status"]["loadBalancer"]["ingress"] = [{"hostname": "lb.example.com"}]
    assert module.addressed("a", service).passed


@pytest.mark.plan("All compute instances healthy")
@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([node("a", READY), node("b", {"type": "Ready", "status": "Unknown"})], "b: not ready"),
        ([node("a", READY, {"type": "DiskPressure", "status": "True"})], "a: DiskPressure"),
        ([node("a")], "a: not ready"),
    ],
)
def test_nodes_that_are_not_well_fail(nodes, reason):
    found = module.nodes_ready("nodes", nodes)
    assert (found.verdict, found.reason) == (Verdict.FAIL, reason)


def test_nodes_that_are_well_pass_and_no_node_is_no_answer():
    assert module.nodes_ready("nodes", [node("a", READY, {"type": "DiskPressure", "status": "False"})]).passed
    with pytest.raises(NoAnswer):
        module.nodes_ready("nodes", [])


def test_the_clusters_own_list_of_nodes_is_read(cluster, here):
    assert look(here, kind="nodes_ready").verdict is Verdict.UNKNOWN  # a stand-in without any
    cluster.make("", "nodes", node("tests", READY))
    assert look(here, kind="nodes_ready").reason == "1 nodes ready"


@pytest.mark.parametrize("kind", ["nodes_ready", "production_serves", "load_balancer"])
@pytest.mark.parametrize("status", [403, 500, 200])
def test_a_cluster_that_refuses_or_talks_nonsense_is_unknown(here, tmp_path, monkeypatch, kind, status):
    from tests.support.rbac import kubeconfig

    monkeypatch.setattr("handover.adapters.kubernetes.ROLES_SECONDS", 0.0)
    with serving(lambda asked: Answer(status, ["nonsense"])) as web:
        extra = {"kube_config_path": str(kubeconfig(tmp_path, web.url))}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_KUBERNETES", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        assert look(here, kind=kind).verdict is Verdict.UNKNOWN
    assert look(here, kind=kind).verdict is Verdict.UNKNOWN  # nobody there any more
