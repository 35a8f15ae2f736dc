"""Every pod that the Helm values and the product itself ask for, admitted by a real Kubernetes under Pod Security's
"restricted": the API server judges without keeping anything (``dryRun=All``). The service and a Job run under it, too.

The chart is the official one of ``CHART_VERSION``: a file or folder that HANDOVER_CHART names, or from its repository.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config
from kubernetes.utils import FailToCreateError, create_from_dict

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.kube import jobs
from handover.plan.load import load_plan
from handover.plan.model import Plan
from handover.workload.manifests import deployment
from sandbox.kubernetes.build import go
from sandbox.settings import REPOSITORY
from tests.support.chart import unknown
from tests.support.cluster import image
from tests.support.until import until

pytestmark = pytest.mark.cluster
CHART_VERSION, HELM = "1.22.0", "helm.sh/helm/v3/cmd/helm@v3.22.0"
CHART = Path(os.environ.get("HANDOVER_CHART", "chart"))
VALUES = REPOSITORY / "deploy" / "helm" / "values.yaml"
NAMESPACE = "restricted"
ENFORCED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}
CONFLICT = 409
PLAN: Plan = load_plan(REPOSITORY / "include" / "plans" / "pms.yaml")
Json = dict[str, Any]


@dataclass(frozen=True)
class Restricted:
    api: client.ApiClient

    def refuses(self, pod: Json) -> str:
        """Why a pod would not be admitted; empty when it would be. Whose token it has is not judged here."""
        body = {"metadata": {"name": "tried"}, "spec": {**pod["spec"], "serviceAccountName": "default"}}
        core = client.CoreV1Api(self.api)
        try:
            core.create_namespaced_pod(NAMESPACE, body, dry_run="All", field_validation="Strict")
        except client.ApiException as refused:
            return yaml.safe_load(refused.body)["message"]
        return ""


@pytest.fixture(scope="module")
def restricted(kubeconfig: Path) -> Iterator[Restricted]:
    api = config.new_client_from_config(str(kubeconfig))
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": NAMESPACE, "labels": ENFORCED}})
    try:  # admission looks it up before anything else, and the cluster makes it a little later
        core.create_namespaced_service_account(NAMESPACE, {"metadata": {"name": "default"}})
    except client.ApiException as error:
        if error.status != CONFLICT:
            raise
    yield Restricted(api)
    core.delete_namespace(NAMESPACE)


@pytest.fixture(scope="module")
def helm() -> Helm:
    here, command = CHART.exists(), go()
    if found := shutil.which("helm"):
        return Helm((found,), here)
    if here and command:
        return Helm((command, "run", HELM), here)
    pytest.skip(f"no helm here: install it, or Go and the chart {CHART_VERSION} as HANDOVER_CHART=FILE")


@dataclass(frozen=True)
class Helm:
    argv: tuple[str, ...]
    here: bool
    """The chart, too."""

    def says(self, *asked: str, more: tuple[str, ...] = ()) -> list[Json]:
        of = (
            [str(CHART)]
            if self.here
            else ["airflow", "--repo", "https://airflow.apache.org", "--version", CHART_VERSION]
        )
        ran = subprocess.run([*self.argv, *asked, *of, *more], capture_output=True, text=True, check=False)
        if ran.returncode and not self.here:
            pytest.skip(
                f"the chart {CHART_VERSION} cannot be had (HANDOVER_CHART=FILE names one): {ran.stderr.strip()}"
            )
        assert ran.returncode == 0, ran.stderr
        return [one for one in yaml.safe_load_all(ran.stdout) if one]


@pytest.fixture(scope="module")
def rendered(helm) -> list[Json]:
    """What ``helm install`` would send."""
    options = ("--namespace", NAMESPACE, "--values", str(VALUES), "--kube-version", "1.36.0")
    return helm.says("template", "airflow", more=options)


def templates(documents: list[Json]) -> dict[str, Json]:
    """Every pod that comes of them, by whose it is: also of the file from which Airflow makes the pods of steps."""
    found = {}
    for one in documents:
        kind, name, spec = one["kind"], one["metadata"]["name"], one.get("spec") or {}
        if "template" in spec:
            found[f"{kind} {name}"] = spec["template"]
        elif "jobTemplate" in spec:
            found[f"{kind} {name}"] = spec["jobTemplate"]["spec"]["template"]
        elif kind == "ConfigMap" and "pod_template_file.yaml" in one["data"]:
            found["step"] = yaml.safe_load(one["data"]["pod_template_file.yaml"])
    return found


def test_the_chart_is_the_one_that_the_values_are_for(rendered):
    charts = {one["metadata"].get("labels", {}).get("chart", "airflow") for one in rendered}
    assert charts == {"airflow", f"airflow-{CHART_VERSION}"}  # some of it bears no version
    assert f"--version {CHART_VERSION} " in VALUES.read_text()


def test_the_chart_has_every_key_of_the_values(helm):
    """Neither it nor Helm would say that one is passed over."""
    (chart,) = helm.says("show", "values")
    assert list(unknown(yaml.safe_load(VALUES.read_text()), chart | {"config": {}})) == []
    assert list(unknown({"workers": {"kubernetes": {"mistyped": 1}}}, chart)) == ["workers.kubernetes.mistyped"]


def test_every_pod_of_the_chart_is_admitted(rendered, restricted):
    pods = templates(rendered)
    assert {"step", "Deployment airflow-scheduler", "Job airflow-create-user"} <= set(pods)
    assert {name: said for name, pod in pods.items() if (said := restricted.refuses(pod))} == {}


def test_kubernetes_knows_every_field_that_the_chart_sends(rendered, restricted):
    refused = {}
    for one in rendered:
        try:
            create_from_dict(restricted.api, one, namespace=NAMESPACE, dry_run="All", field_validation="Strict")
        except FailToCreateError as error:
            refused[f"{one['kind']} {one['metadata']['name']}"] = str(error)
    assert refused == {}


def test_every_pod_of_the_chart_runs_the_image_by_its_digest_and_only_steps_have_the_key_of_evidence(rendered):
    pods = templates(rendered)
    containers = {
        name: [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]] for name, pod in pods.items()
    }
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", one["image"]) for each in containers.values() for one in each)
    assert [name for name, each in containers.items() if "HANDOVER_EVIDENCE_KEY" in str(each)] == ["step"]


COMMANDS = {
    "a release's command": {},
    "the command that reads migrations": {"settings": False},
    "a scan": {"foreign": True, "pull_secret": "pms-registry", "env_secret": "pms-scanner"},
}


def job(**more: Any) -> Json:
    asked = jobs.Command("tried", "key", image("v1.1.0"), ("true",), **more)
    return jobs.manifest(PLAN.cluster, asked)["spec"]["template"]


def test_every_pod_that_the_product_makes_is_admitted(restricted):
    pods = {name: job(**more) for name, more in COMMANDS.items()}
    pods["a colour"] = deployment(PLAN, "green", "v1.1.0", image("v1.1.0"), 1)["spec"]["template"]
    pods["the watch"] = yaml.safe_load((REPOSITORY / "deploy" / "kubernetes" / "watch.yaml").read_text())["spec"][
        "template"
    ]
    assert {name: said for name, pod in pods.items() if (said := restricted.refuses(pod))} == {}


def test_what_builds_images_alone_needs_a_namespace_that_admits_it(restricted):
    said = restricted.refuses(job(foreign=True, builds=True))
    assert 'violates PodSecurity "restricted:latest"' in said
    assert "runAsNonRoot" in said and "capabilities" in said and "seccompProfile" not in said


def test_a_pod_as_anybody_writes_it_is_refused(restricted):
    """Or the tests above would show nothing."""
    said = restricted.refuses({"spec": {"containers": [{"name": "a", "image": "a:1"}]}})
    assert 'violates PodSecurity "restricted:latest"' in said


def test_the_service_and_its_commands_run_where_it_is_enforced(hotel, kubeconfig):
    """With the images that they have, which say no user but a number."""
    api = config.new_client_from_config(str(kubeconfig))
    core, plan = client.CoreV1Api(api), hotel.plan
    core.patch_namespace(plan.cluster.namespace, {"metadata": {"labels": ENFORCED}})
    before = {pod.metadata.uid: pod for pod in core.list_namespaced_pod(plan.cluster.namespace).items}
    for pod in before.values():
        core.delete_namespaced_pod(pod.metadata.name, plan.cluster.namespace, grace_period_seconds=0)

    def ready() -> set[str]:
        pods = core.list_namespaced_pod(plan.cluster.namespace).items
        new = (pod for pod in pods if pod.metadata.uid not in before and pod.status.container_statuses)
        return {pod.metadata.uid for pod in new if all(one.ready for one in pod.status.container_statuses)}

    until(lambda: len(ready()) == len(before), "that pods are ready again")
    running = next(iter(before.values())).spec.containers[0].image

    async def run_a_job() -> jobs.JobResult:
        async with connect_with_kubeconfig(str(kubeconfig), plan.cluster.namespace) as kube:
            return await jobs.run(kube, plan.cluster, jobs.Command("tried", "key", running, ("id", "-u")))

    result = asyncio.run(run_a_job())
    assert result.succeeded, result
    assert int(result.printed) > 0
