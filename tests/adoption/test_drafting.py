"""What is drafted can be used: the plan loads, its manifest makes the Deployment that was found, in another colour."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil

import pytest
import yaml

from handover.adoption import drafting
from handover.adoption.findings import NotAdoptable, as_asked, find
from handover.kube import jobs, permissions
from handover.models.containers import find_container
from handover.plan.load import load_plan
from handover.plan.parts import INCLUDE, PLANS_VARIABLE
from handover.plan.text import documents
from handover.plan.traffic import Origin
from handover.workload import manifests
from tests.adoption.objects import DEPLOYMENT, SERVICE, changed
from tests.adoption.test_findings import WEB, seen


@pytest.fixture
def include(tmp_path, monkeypatch):
    """A folder of its own for what is written."""
    shutil.copytree(INCLUDE, tmp_path / "include")
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "include" / "plans"))
    return tmp_path / "include"


def drafted(include, found, name="web"):
    (include / "k8s" / f"{name}.yaml").write_text(drafting.manifest(found))
    (include / "plans" / f"{name}.yaml").write_text(drafting.plan(found, name))
    return load_plan(include / "plans" / f"{name}.yaml")


def test_the_drafted_plan_can_be_used(include):
    plan = drafted(include, find(seen()))
    assert (plan.cluster.service, plan.cluster.replicas, plan.cluster.port) == ("web", 6, 8081)
    assert plan.cluster.selector_of("blue") == {"app": "web", "version": "blue"}
    assert plan.image.repository == "registry:5000/shop/web"
    assert plan.pod_metrics.path == "/actuator/prometheus"


@pytest.mark.parametrize(("origin", "entry_seconds"), [(Origin(field="version", path="/"), None), (None, 10.0)])
def test_where_answers_say_their_version_is_drafted_or_how_long_both_serve(include, origin, entry_seconds):
    traffic = drafted(include, dataclasses.replace(find(seen()), origin=origin)).traffic
    assert (traffic.origin, traffic.entry_seconds) == (origin, entry_seconds)


@pytest.mark.parametrize(("tag", "release"), [("v1.4.2", "v1.5.0"), ("1.4.2", "1.5.0"), ("latest", "v1.5.0")])
def test_a_release_is_tagged_as_what_serves(include, tag, release):
    deployment = changed(DEPLOYMENT, f"{WEB}.image", f"registry:5000/shop/web:{tag}")
    plan = drafted(include, find(seen(deployments=[deployment])))
    assert plan.image.of("v1.5.0") == f"registry:5000/shop/web:{release}"


def test_both_colours_are_what_serves_but_for_name_labels_image_and_size(include):
    plan = drafted(include, find(seen()))
    made = manifests.deployment(plan, "green", "v1.5.0", "registry:5000/shop/web@sha256:" + "1" * 64, 7)
    old, new = DEPLOYMENT["spec"]["template"]["spec"], made["spec"]["template"]["spec"]
    assert made["metadata"]["name"] == "web-green"
    assert made["spec"]["selector"]["matchLabels"] == {"app": "web", "version": "green"}
    assert made["spec"]["template"]["metadata"]["labels"] == {"app": "web", "team": "shop", "version": "green"}
    assert "kubectl.kubernetes.io/restartedAt" not in made["spec"]["template"]["metadata"]["annotations"]
    assert new["containers"][0] == old["containers"][0]
    assert new["containers"][1] == old["containers"][1] | {"image": "registry:5000/shop/web@sha256:" + "1" * 64}
    assert "status" not in made


def test_what_is_applied_once_serves_beside_what_was_there():
    found = find(seen())
    preview, first = yaml.safe_load_all(drafting.to_apply(found))
    assert preview["spec"]["selector"] == {"app": "web", "version": "blue"}
    assert "nodePort" not in preview["spec"]["ports"][0]
    assert first["metadata"]["name"] == "web-blue"
    assert SERVICE["spec"]["selector"].items() <= first["spec"]["template"]["metadata"]["labels"].items()
    assert first["spec"]["template"]["spec"] == DEPLOYMENT["spec"]["template"]["spec"]
    assert first["metadata"]["annotations"] == {"handover/instead-of": "web"}


def named(what, value):
    """The service with one of its names changed, wherever that stands."""
    service, deployment = SERVICE, DEPLOYMENT
    if what == "app":
        service = changed(service, "spec.selector.app", value)
        return seen(service, [changed(deployment, "spec.template.metadata.labels.app", value)])
    path = {
        "container": f"{WEB}.name", "deployment": "metadata.name", "secret": f"{WEB}.envFrom.0.secretRef.name",
        "health_path": f"{WEB}.readinessProbe.httpGet.path", "memory": f"{WEB}.resources.limits.memory",
        "cpu": f"{WEB}.resources.limits.cpu",
    }  # fmt: skip
    if what in path:
        return seen(deployments=[changed(deployment, path[what], value)])
    return seen(changed(service, f"metadata.{what}", value))


@pytest.mark.parametrize(("what", "value", "key", "read"), [
    ("memory", "1073741824", "memory_limit", "1073741824"), ("memory", "1e9", "memory_limit", "1e9"),
    ("cpu", 2, "cpu_limit", "2"), ("cpu", "1.0", "cpu_limit", "1.0"), ("name", "2048", "service", "2048"),
    ("name", "no", "service", "no"), ("namespace", "123", "namespace", "123"), ("container", "1", "container", "1"),
    ("deployment", "web.v1", "deployment", "web.v1-{colour}"),
    ("secret", "web.settings", "settings_secret", "web.settings"),
    *[("app", app, "app", app) for app in ("12345", "true", "1.0", "1e3", "on", "Web_Shop", "web.v1", "2026-11-29")],
])  # fmt: skip
def test_whatever_kubernetes_takes_for_a_name_can_be_drafted(include, what, value, key, read):
    plan = drafted(include, find(named(what, value)))
    assert getattr(plan.cluster, key) == read
    made = manifests.deployment(plan, "green", "v1.5.0", "registry:5000/shop/web@sha256:" + "1" * 64, 7)
    assert made["metadata"]["labels"] == plan.cluster.selector_of("green")
    assert made["metadata"]["name"] == plan.cluster.deployment_of("green")
    assert find_container(made["spec"]["template"]["spec"], plan.cluster.container)["image"].startswith(
        "registry:5000/"
    )
    job = jobs.manifest(plan.cluster, jobs.Command("test", "k", "web:v1", ("true",)))
    assert job["metadata"]["labels"]["app.kubernetes.io/part-of"] == plan.cluster.app
    for role in documents(permissions.rendered(plan)):
        assert all(isinstance(one, str) for one in role["metadata"].get("labels", {}).values())
    assert re.fullmatch(r"[a-z0-9][-a-z0-9.]*", plan.lock_name)


@pytest.mark.parametrize("path", ["/h,x", "/a:b", "/h?a=#", "/[x]", "/{x}", "/h?a=1&b='2'", "/*", "/h, ok: {yes}"])
def test_a_path_of_any_characters_is_read_back_as_it_is_asked(include, path):
    plan = drafted(include, find(named("health_path", path)))
    assert plan.health.path == plan.health.key_endpoints[0] == plan.performance.paths[0] == as_asked(path)


@pytest.mark.parametrize("name", ["2048", "web-shop", "", "w" * 41])
def test_a_name_that_no_plan_can_have_is_refused(name):
    with pytest.raises(NotAdoptable, match="give it another with --name"):
        drafting.plan(find(seen()), name)


@pytest.mark.parametrize("name", ["no", "on", "null", "y"])
def test_a_plan_may_be_called_what_yaml_takes_for_something_else(include, name):
    assert drafted(include, find(seen()), name).name == name


def test_a_long_name_leaves_room_for_that_of_the_preview():
    assert drafting.preview_name(find(seen(changed(SERVICE, "metadata.name", "w" * 63)))) == "w" * 55 + "-preview"


@pytest.mark.parametrize(("image", "host"), [
    ("shop/web:1.4.2", "https://registry-1.docker.io"), ("docker.io/shop/web:1.4.2", "https://registry-1.docker.io"),
    ("registry:5000/shop/web:1.4.2", "https://registry:5000"),
])  # fmt: skip
def test_the_registry_is_the_one_that_the_image_is_from(image, host):
    found = find(seen(deployments=[changed(DEPLOYMENT, f"{WEB}.image", image)]))
    assert json.loads(drafting.connections(found, "web", "config"))["web_registry"]["host"] == host


def test_who_is_outside_of_the_cluster_reaches_the_preview_as_the_service():
    service = changed(SERVICE, "spec.type", "NodePort")
    preview, _ = yaml.safe_load_all(drafting.to_apply(find(seen(service=service))))
    assert preview["spec"]["type"] == "NodePort"


def test_a_service_that_is_blue_green_lacks_a_preview_and_nothing_else():
    labels = {"app": "web", "version": "green"}
    deployment = changed(changed(DEPLOYMENT, "metadata.name", "web-green"), "spec.template.metadata.labels", labels)
    found = find(seen(changed(SERVICE, "spec.selector", labels), [deployment]))
    assert [one["kind"] for one in yaml.safe_load_all(drafting.to_apply(found))] == ["Service"]
