"""What is found out of a service by looking, and what it cannot be deployed for."""

from __future__ import annotations

import re

import pytest

from handover.adoption.findings import NotAdoptable, ServiceObjects, find, health_paths
from handover.plan.pod_metrics import PodMetricsRules
from handover.ports.kube import PodAnswer
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


def relabelled(labels, name="web"):
    service = changed(SERVICE, "spec.selector", labels)
    return seen(service, [changed(changed(DEPLOYMENT, "spec.template.metadata.labels", labels), "metadata.name", name)])


@pytest.mark.parametrize(("key", "value"), [("shard", "b"), ("variant", "a"), ("zone", "a")])
def test_a_part_of_a_service_is_not_taken_for_a_colour(key, value):
    with pytest.raises(NotAdoptable, match=f"selects {key}: {value}, which may be a colour, or one part"):
        find(relabelled({"app": "web", key: value}, f"web-{value}"))


def test_the_application_is_no_colour_though_it_is_called_like_one():
    found = find(relabelled({"app": "blue", "tier": "web"}))
    assert (found.app_label, found.app, found.colour_key, found.colour) == ("app", "blue", "version", "")


@pytest.mark.parametrize(("labels", "app", "colour"), [
    ({"shard": "b"}, ("shard", "b"), ("version", "")),
    ({"shard": "b", "version": "blue", "app": "web"}, ("app", "web"), ("version", "blue")),
    ({"track": "green", "app": "web"}, ("app", "web"), ("track", "green")),
], ids=["one_label", "both", "a_key_of_their_own"])  # fmt: skip
def test_what_else_may_be_in_a_selector(labels, app, colour):
    found = find(relabelled(labels))
    assert ((found.app_label, found.app), (found.colour_key, found.colour)) == (app, colour)


def test_a_colour_that_is_recognised_is_said_with_where_a_release_goes():
    said = " ".join(find(relabelled({"app": "web", "version": "blue"}, "web-blue")).notes)
    assert "a release replaces Deployment web-green" in said
    assert "does not show its colour" not in said
    assert "Deployment web does not show its colour" in " ".join(
        find(relabelled({"app": "web", "version": "blue"}, "web")).notes
    )


def test_a_version_that_pods_are_labelled_with_is_kept_and_the_colour_is_another_label():
    found = find(seen(deployments=[changed(DEPLOYMENT, "spec.template.metadata.labels.version", "v1.4.2")]))
    assert (found.colour_key, found.colour) == ("colour", "")
    assert "The pods have a label version: v1.4.2 already" in " ".join(found.notes)


PROBE = f"{WEB}.readinessProbe.httpGet"


@pytest.mark.parametrize(("get", "answers", "note"), [
    ({"path": "/live", "port": 9090}, {}, "asks port 9090 for /live, and at port 8081"),
    ({"path": "/live", "port": 9090, "scheme": "HTTPS"}, {}, "asks port 9090 for /live, and at port 8081"),
    ({"path": "/live", "port": "management"}, {}, "asks port management for /live"),
    ({"path": "/live", "port": 9090}, {"/live": PodAnswer("ok", {})}, ""),
    ({"path": "/live", "port": 8081}, {}, ""),
    ({"path": "/live", "port": "http"}, {}, ""),
    ({"path": "/live", "port": "http", "httpHeaders": [{"name": "X-Key", "value": "s3cr3t"}]}, {}, "sends X-Key"),
], ids=["number", "https_elsewhere", "name", "answered_here_too", "same_number", "same_name", "headers"])  # fmt: skip
def test_a_probe_that_asks_otherwise_than_clients_do_is_a_note(get, answers, note):
    found = find(seen(deployments=[changed(DEPLOYMENT, PROBE, get)], answers=answers))
    assert found.health_path == "/live"
    said = [one for one in found.notes if "Probe asks" in one or "Probe sends" in one]
    assert len(said) == bool(note)
    assert note in " ".join(said)
    assert "s3cr3t" not in " ".join(found.notes)


def test_pods_that_speak_nothing_but_https_are_refused():
    probe = {"path": "/live", "port": "http", "scheme": "HTTPS"}
    with pytest.raises(NotAdoptable, match=r"HTTPS at port 8081 .readinessProbe.*give the container a plain port"):
        find(seen(deployments=[changed(DEPLOYMENT, PROBE, probe)]))


@pytest.mark.parametrize(("written", "path"), [
    ("healthz", "/healthz"), ("", "/"), (None, "/"), ("/h?full=true&a=$b #c", "/h?full=true&a=$b"),
    ("/h, ok: {yes}", "/h,%20ok:%20{yes}"),
])  # fmt: skip
def test_a_path_is_asked_for_as_the_kubelet_does(written, path):
    deployment = changed(DEPLOYMENT, PROBE, {"path": written, "port": "http"})
    assert find(seen(deployments=[deployment])).health_path == path
    assert health_paths(deployment) == (path,)
