"""What serves now, on Deployments and Services that somebody else has made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.adapters.service_router import ServiceRouter
from handover.coordination.promotion import Refused
from handover.coordination.serving import Serving, serving
from handover.models.versions import same_version
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.ports.kube import KubeError
from handover.workload import manifests
from tests.twins.kube import DEPLOYMENTS, SERVICES, TwinCluster

_PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
PLAN: Plan = _PLAN.model_copy(
    update={
        "cluster": _PLAN.cluster.model_copy(update={"app": "web", "container": "web", "deployment": "web-{colour}"})
    }
)
HERE = PLAN.cluster.namespace
DIGEST = f"sha256:{'0' * 64}"
PROXY = {"name": "istio-proxy", "image": "docker.io/istio/proxyv2:1.27.0-distroless"}
HEADER = PLAN.traffic.origin.header.lower()


def cluster_with(
    image: str, says: str | list[str | None] | None = None, annotations: dict[str, str] | None = None,
    containers: list[dict[str, str]] | None = None, replicas: int = 2, **spec: Any,
) -> TwinCluster:  # fmt: skip
    """A Deployment web-blue that somebody made: a sidecar first, and pods that answer with these versions."""
    said = iter(says) if isinstance(says, list) else None
    each: dict[str, str | None] = {}

    def headers(pod: str) -> dict[str, str]:
        version = each.setdefault(pod, next(said) if said else says)  # type: ignore[arg-type]
        return {HEADER: version} if version is not None else {}

    cluster = TwinCluster(headers=headers)
    labels = PLAN.cluster.selector_of("blue")
    service = {"selector": labels} | spec
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": containers or [PROXY, {"name": "web", "image": image}]},
    }

    async def fill() -> None:
        cluster.write(
            (SERVICES, HERE, PLAN.cluster.service), {"spec": {k: v for k, v in service.items() if v is not None}}
        )
        body = {"metadata": {"annotations": annotations or {}}, "spec": {"replicas": replicas, "template": template}}
        cluster.write((DEPLOYMENTS, HERE, "web-blue"), body)

    asyncio.run(fill())
    return cluster


def found(cluster: TwinCluster) -> Serving:
    async def work() -> Serving:
        kube = cluster.client(HERE)
        return await serving(kube, ServiceRouter(kube, PLAN.cluster, PLAN.cluster.service), PLAN)

    return asyncio.run(work())


@pytest.mark.parametrize(
    ("image", "says", "version"),
    [
        ("web:v1.0.0", None, "v1.0.0"),
        ("web:v1.0.0", "v1.0.0", "v1.0.0"),
        ("web:v1.0.0", "1.0.0", "v1.0.0"),
        ("web:1.0.0", "v1.0.0+5f3a91c", "1.0.0"),
        (f"web:v1.0.0@{DIGEST}", None, "v1.0.0"),
        (f"web:v1.0.0@{DIGEST}", "v1.0.0", "v1.0.0"),
        (f"web@{DIGEST}", "v1.0.0", "v1.0.0"),
        (f"registry:5000/shop/web@{DIGEST}", "1.0.0+5f3a91c", "1.0.0+5f3a91c"),
        ("registry:5000/shop/web", "v1.0.0", "v1.0.0"),
        ("web", "v1.0.0", "v1.0.0"),
        ("web:latest", "v1.0.0", "v1.0.0"),
        ("web:v1.0.0-alpine", "v1.0.0", "v1.0.0"),
        ("web:v1.0.0-alpine", None, "v1.0.0-alpine"),
        ("web:2024.11.24.1", "v1.0.0", "v1.0.0"),
        ("web:v2.0.0", "v1.0.0", "v1.0.0"),
    ],
)
def test_what_serves_tells_its_version(image, says, version):
    assert found(cluster_with(image, says)) == Serving("blue", version, image)


@pytest.mark.parametrize(
    "image", ["web", "web:latest", f"web@{DIGEST}", "registry:5000/web", "web:5f3a91c", "web:2024.11.24.1"]
)
@pytest.mark.parametrize("says", [None, "", "unknown version", "<html>", "v" * 200])
def test_when_nothing_tells_the_version_it_is_refused_with_what_to_do(image, says):
    with pytest.raises(
        Refused, match=r"nobody knows which version serves.*none of its 2 ready pods.*X-Version.*annotate"
    ):
        found(cluster_with(image, says))
    with pytest.raises(Refused, match="none of its pods is ready"):
        found(cluster_with(image, says, replicas=0))


def test_a_pod_that_does_not_answer_leaves_the_word_to_the_others():
    assert found(cluster_with("web", ["v1.0.0", None])).version == "v1.0.0"

    def broken(pod: str, *_: Any) -> str:
        raise KubeError(503, "no endpoint")

    cluster = cluster_with("web:v1.0.0", "v9.9.9")
    cluster.app = broken
    assert found(cluster).version == "v1.0.0"


def test_pods_that_say_different_versions_are_refused():
    with pytest.raises(
        Refused, match=r"the pods of blue say different versions \(web-blue-1 v1.0.0, web-blue-2 v1.1.0\)"
    ):
        found(cluster_with("web", ["v1.0.0", "v1.1.0"]))


def test_what_we_wrote_counts_for_the_image_that_we_wrote_it_for():
    mine = {"handover/version": "v1.0.0", "handover/image": f"web@{DIGEST}"}
    assert found(cluster_with(f"web@{DIGEST}", None, mine)).version == "v1.0.0"
    assert found(cluster_with("web:v1.3.0", "v1.3.0", mine)).version == "v1.3.0", "kubectl set image"
    assert found(cluster_with("web:v1.3.0", None, mine)).version == "v1.3.0"
    assert found(cluster_with("web:v1.3.0", None, {"handover/version": "v1.0.0"})).version == "v1.3.0"
    assert found(cluster_with("web:v1.0.0-alpine", None, {"handover/version": "v1.0.0"})).version == "v1.0.0"
    assert found(cluster_with("web", None, {"handover/version": "v1.0.0"}, replicas=0)).version == "v1.0.0"
    with pytest.raises(Refused, match="nobody knows which version serves"):
        found(cluster_with(f"web@sha256:{'1' * 64}", None, mine))


def test_our_own_deployment_is_written_so():
    body = manifests.deployment(_PLAN, "green", "v1.1.0", f"web@{DIGEST}", 7)
    written = body["metadata"]["annotations"]
    assert (written["handover/version"], written["handover/image"]) == ("v1.1.0", f"web@{DIGEST}")


@pytest.mark.parametrize(
    ("containers", "there"),
    [([PROXY], "istio-proxy"), ([PROXY, {"name": "app", "image": "web:v1.0.0"}], "istio-proxy, app")],
)
def test_a_deployment_without_the_plans_container_is_refused_and_says_what_is_there(containers, there):
    with pytest.raises(Refused, match=rf"Deployment web-blue: it has no container web \(there: {there}\)"):
        found(cluster_with("web", "v1.0.0", containers=containers))


def test_an_image_that_is_none_is_refused():
    with pytest.raises(Refused, match="Deployment web-blue: 'Web:v1' is no image"):
        found(cluster_with("Web:v1", "v1.0.0"))


versions = st.from_regex(r"v?[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}(-rc\.[0-9])?(\+[0-9a-f]{7})?", fullmatch=True)


@given(versions, st.sampled_from(["", ":latest", ":v9.9.9", ":main", f":v3@{DIGEST}", f"@{DIGEST}"]),
       st.sampled_from(["web", "registry:5000/shop/web", "localhost/web"]), st.booleans())  # fmt: skip
def test_whatever_the_image_is_called_the_version_is_the_one_that_answers(version, reference, repository, first):
    one = {"name": "web", "image": f"{repository}{reference}"}
    cluster = cluster_with("", version, containers=[one, PROXY] if first else [PROXY, one])
    assert same_version(version, found(cluster).version)


# --- Services that somebody else has made


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"selector": None}, r"it has no selector.*app: web, version: <colour that serves>"),
        ({"selector": {}}, r"it has no selector"),
        ({"selector": None, "type": "ExternalName", "externalName": "web.example.com"},
         r"of type ExternalName and only stands for web.example.com: name the Service"),
        ({"clusterIP": "None"}, r"it is headless"),
        ({"selector": {"version": "blue"}}, r"its selector \(version: blue\) lacks app: web"),
        ({"selector": {"app": "shop", "version": "blue"}}, r"its selector \(app: shop, version: blue\) lacks app: web"),
        ({"selector": {"app": "web"}}, r"label the pods that serve with version: blue or green"),
        ({"selector": {"app": "web", "version": "1.0"}}, r"label the pods that serve with version: blue or green"),
    ],
)  # fmt: skip
def test_a_service_that_no_selector_moves_is_refused_with_the_right_advice(spec, said):
    with pytest.raises(Refused, match=said) as refused:
        found(cluster_with("web:v1.0.0", **spec))
    assert "rollback" not in str(refused.value)


def test_a_cutover_that_was_left_half_way_wants_a_rollback():
    cluster = cluster_with("web:v1.0.0", selector={"app": "web"})
    key = (SERVICES, HERE, PLAN.cluster.service)
    cluster.write(key, cluster.read(key) | {"metadata": {"annotations": {"handover/stage": "overlap"}}})
    with pytest.raises(Refused, match="left half-way, run pms_rollback first"):
        found(cluster)
