"""What a deployment is aimed at, on Services and Deployments that others made, and with a manifest of one's own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException

from handover.coordination import lock
from handover.models.deployment import Release
from handover.plan.model import INCLUDE, Plan
from handover.plan.parts import PLANS_VARIABLE
from handover.workflows.deployment import target
from handover.workflows.deployment.opening import Open
from tests.twins.kube import DEPLOYMENTS, SERVICES, TwinCluster

FILE, JOB = INCLUDE / "k8s" / "deployment.yaml", INCLUDE / "k8s" / "job.yaml"


class Place:
    """The plan's two Services and a Deployment on blue, as somebody made them."""

    def __init__(self, twin: TwinCluster, plan: Plan) -> None:
        self.twin, self.plan, self.here = twin, plan, plan.cluster.namespace

    def make(self, service: Any = (), preview: Any = (), deployment: bool = True, **template: Any) -> None:
        cluster = self.plan.cluster
        labels = cluster.selector_of("blue")
        for name, spec in ((cluster.service, service), (cluster.preview_service, preview)):
            if spec is not None:
                self.twin.write((SERVICES, self.here, name), {"spec": {"selector": labels, **dict(spec)}})
        container = {"name": cluster.container, "image": f"{self.plan.image.repository}:v1.0.0"}
        pods = {"metadata": {"labels": labels}, "spec": {"containers": [container], **template}}
        if deployment:
            self.twin.write((DEPLOYMENTS, self.here, cluster.deployment_of("blue")), {"spec": {"template": pods}})

    def problem(self, **made: Any) -> str:
        async def work() -> str:
            self.make(**made)
            return await target.problem(self.twin.client(), self.plan)

        return asyncio.run(work())


@pytest.fixture
def place(twin, plan) -> Place:
    return Place(twin, plan)


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts another text in the place of the repository's manifest."""

    def lay(**replaced: str) -> None:
        text = FILE.read_text()
        for one, other in replaced.items():
            assert f"${one}" in text
            text = text.replace(f"${one}", other)
        (tmp_path / "k8s").mkdir(exist_ok=True)
        (tmp_path / "k8s" / "deployment.yaml").write_text(text)
        (tmp_path / "k8s" / "job.yaml").write_text(JOB.read_text())
        monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))

    return lay


def test_nothing_is_against_what_the_docs_say(place):
    assert place.problem() == ""


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"service": None}, "there is no Service pms-api: make it, or name another in cluster.service"),
        ({"preview": None}, "there is no Service pms-preview: make it, or name another in cluster.preview_service"),
        ({"deployment": False}, "name what runs the service in cluster.deployment"),
        ({"service": {"selector": {}}}, "Service pms-api: it has no selector"),
        (
            {"preview": {"type": "ExternalName", "externalName": "x"}},
            "that selects the pods in cluster.preview_service",
        ),
        ({"service": {"clusterIP": "None"}}, "Service pms-api: it is headless"),
        (
            {"service": {"selector": {"app": "pms", "version": "blue", "tier": "front"}}},
            "gives its pods no tier: front",
        ),
        (
            {"preview": {"selector": {"app": "pms", "version": "blue", "tier": "front"}}},
            "gives its pods no tier: front",
        ),
        ({"containers": [{"name": "istio-proxy", "image": "proxy:1"}]}, "has no container pms (there: istio-proxy)"),
    ],
)
def test_what_is_missing_or_of_another_kind_is_named_with_what_to_do(place, made, said):
    assert said in place.problem(**made)


def test_everything_is_told_at_once(place):
    said = place.problem(service={"selector": {}}, preview=None)
    assert "Service pms-api: it has no selector" in said and "there is no Service pms-preview" in said


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({"container": "app"}, "has no container pms: write $container"),
        ({"image": "web:v1.0.0"}, "container pms does not run the release: write $image"),
        ({"name": "web"}, "its name is not that of cluster.deployment: write $name"),
        ({"app": "shop"}, "gives its pods no app: pms"),
        ({"colour_key": "colour"}, "gives its pods no version: blue"),
    ],
)
def test_a_manifest_that_does_not_run_the_release_where_it_is_looked_for(place, manifest, replaced, said):
    manifest(**replaced)
    assert said in place.problem()


def test_a_job_manifest_without_the_plans_container(place, tmp_path, monkeypatch):
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "job.yaml").write_text(JOB.read_text().replace("$container", "runner"))
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    assert "include/k8s/job.yaml: it has no container pms (there: runner)" in place.problem()


def test_a_sidecar_in_the_manifest_is_no_problem(place, manifest, tmp_path):
    manifest()
    file = tmp_path / "k8s" / "deployment.yaml"
    body = yaml.safe_load(file.read_text())
    body["spec"]["template"]["spec"]["containers"].insert(0, {"name": "istio-proxy", "image": "proxy:1"})
    file.write_text(yaml.safe_dump(body))
    assert place.problem() == ""


def test_opening_refuses_before_anything_is_touched(place, monkeypatch):
    async def work() -> None:
        place.make(service={"selector": {}})
        step = Open(task_id="open", plan=place.plan)
        release = Release(version="v1.1.0", image="web:v1.1.0", reason="test", readiness_override_reason="a test")
        await step._open(step.step_run({"run_id": "run-1"}), release)

    with pytest.raises(
        AirflowFailException, match="nothing was touched: Service pms-api: it has no selector"
    ) as refused:
        asyncio.run(work())
    assert "rollback" not in str(refused.value)
    assert not [key for key in place.twin.objects if key[0] == lock.LEASES]
