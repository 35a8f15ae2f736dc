"""What is found out of a service by looking, and what it cannot be deployed for."""

from __future__ import annotations

import re

import pytest

from handover.adoption.findings import NotAdoptable, ServiceObjects, find
from handover.plan.pod_metrics import PodMetricsRules
from handover.telemetry.counters import NoMetrics
from handover.telemetry.reader import Reader
from tests.adoption.objects import DEPLOYMENT, INGRESS, PAGE, SCALER, SERVICE, changed

METRICS = {"/actuator/prometheus": Reader(PodMetricsRules()).read(PAGE, 0.0)}
WEB = "spec.template.spec.containers.1"


def seen(service=SERVICE, deployments=(DEPLOYMENT,), **more) -> ServiceObjects:
    return ServiceObjects(service, deployments, **({"metrics": METRICS, "metrics_port": 8081} | more))


def test_a_service_that_was_never_blue_green():
    found = find(seen(scalers=[SCALER], ingresses=[INGRESS]))
    assert (found.app_label, found.app, found.colour, found.other) == ("app", "web", "", "green")
    assert (found.container, str(found.image), found.port, found.replicas) == (
        "web",
        "registry:5000/shop/web:v1.4.2",
        8081,
        6,
    )
    assert (found.cpu_limit, found.memory_limit, found.secret) == ("2", "1Gi", "web-settings")
    assert (found.health_path, found.metrics_path, found.metrics_port) == (
        "/actuator/health/readiness", "/actuator/prometheus", 8081
    )  # fmt: skip
    assert found.metrics == "http_server_requests_seconds_count"
    assert found.pattern == "web-{colour}"
    said = " ".join(found.notes)
    assert "HorizontalPodAutoscaler web scales web from 6 to 20 pods" in said
    assert "Ingress shop leads to it (shop.example.com)" in said


@pytest.mark.parametrize(("key", "colour", "name", "pattern"), [
    ("version", "blue", "web-blue", "web-{colour}"), ("slot", "green", "green-web", "{colour}-web"),
    ("deployment", "a", "web-a-main", "web-{colour}-main"), ("version", "blue", "web", "web-{colour}"),
])  # fmt: skip
def test_a_service_that_is_blue_green_already(key, colour, name, pattern):
    labels = {"app": "web", key: colour}
    service = changed(SERVICE, "spec.selector", labels)
    deployment = changed(changed(DEPLOYMENT, "metadata.name", name), "spec.template.metadata.labels", labels)
    found = find(seen(service, [deployment]))
    assert (found.colour_key, found.colour, found.pattern) == (key, colour, pattern)
    assert found.is_blue_green


@pytest.mark.parametrize(("service", "deployments", "said"), [
    (changed(SERVICE, "spec.selector", {}), [DEPLOYMENT], "Service web has no selector"),
    (SERVICE, [], "no Deployment with pods stands behind Service web"),
    (SERVICE, [changed(DEPLOYMENT, "spec.replicas", 0)], "no Deployment with pods"),
    (SERVICE, [DEPLOYMENT, changed(DEPLOYMENT, "metadata.name", "canary")], "several Deployments .*: canary, web"),
    (changed(SERVICE, "spec.selector", {"version": "blue", "x": "y"}), [DEPLOYMENT], "are not labelled x=y"),
    (changed(SERVICE, "spec.ports", []), [DEPLOYMENT], "which container is the service"),
    (changed(SERVICE, "spec.ports.0", {"port": 80, "targetPort": "grpc"}), [DEPLOYMENT], "which container"),
    (SERVICE, [changed(DEPLOYMENT, f"{WEB}.image", "Not An Image")], "is no image"),
])  # fmt: skip
def test_what_cannot_be_deployed_blue_green_as_it_is(service, deployments, said):
    with pytest.raises(NotAdoptable, match=said):
        find(seen(service, deployments))


def test_a_container_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(NotAdoptable, match="no container 'app'; there are istio-proxy, web"):
        find(seen(), container="app")
    with pytest.raises(NotAdoptable, match="the port 'http', which container istio-proxy does not name"):
        find(seen(), container="istio-proxy")


@pytest.mark.parametrize(("deployment", "more", "note"), [
    (changed(DEPLOYMENT, f"{WEB}.image", "web@sha256:" + "0" * 64), {}, r"The image's tag \(none\) is no version"),
    (changed(DEPLOYMENT, f"{WEB}.image", "web:latest"), {}, "The image's tag latest is no version"),
    (changed(DEPLOYMENT, f"{WEB}.readinessProbe", None), {}, "No probe asks over HTTP"),
    (changed(DEPLOYMENT, f"{WEB}.resources", None), {}, "The container has no limit of memory"),
    (DEPLOYMENT, {"metrics": {"/metrics": NoMetrics("no metrics: other text")}}, "No metrics were recognised"),
    (DEPLOYMENT, {"metrics": {}}, "No metrics were recognised .no pod could be asked"),
])  # fmt: skip
def test_what_could_not_be_known_is_a_note(deployment, more, note):
    found = find(seen(deployments=[deployment], **more))
    assert any(re.search(note, one) for one in found.notes), found.notes
