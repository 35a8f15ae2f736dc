"""What only real processes show: what they print and exit with, what they are given, and pods that really serve."""

from __future__ import annotations

import math
import sys

import pytest

from handover.coordination.routing import DEPLOYMENTS
from handover.kube.events import Events
from handover.kube.reasons import SETTLE_SECONDS, told
from handover.models.evidence import Verdict
from handover.workload import rollout
from handover.workload.image import BuildImage, ScanImage
from handover.workload.operators import DeployIdleColour, ReleaseCommand
from handover.workload.scale_down import RemoveIdleColour
from handover.workload.sensors import RolloutComplete
from sandbox.hotel.build import TRIVY
from tests.support.cluster import (
    REPOSITORY,
    digest,
    image,
    in_cluster,  # noqa: F401 - fixtures
    looks_often,  # noqa: F401
    namespace,  # noqa: F401
    plan,  # noqa: F401
    plan_with,
)
from tests.support.steps import connect_to, opened, release, run
from tests.support.until import until_async

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("looks_often")]
TOOLS = "registry.example.com/shop/tools"
ASKED = release(f"{REPOSITORY}:v1.1.0")
SCAN = {
    "image": f"{TOOLS}:v1",
    "command": ["trivy", "image", "--severity", "CRITICAL,HIGH", "--exit-code", "10", "{image}"],
    "fails_with": [10],
    "env_secret": "pms-scanner",
}


@pytest.fixture
def begin(in_cluster, plan):  # noqa: F811
    """A deployment of an image; gives its token."""

    def of(tag="v1.1.0", **known):
        return in_cluster(lambda kube: opened(kube, plan.lock_name, image(tag), **known))

    return of


@pytest.fixture
def with_image(plan, tmp_path):  # noqa: F811
    """The test's plan with another ``image`` section."""

    def change(**section):
        where = plan.cluster.model_dump(mode="json", include={"namespace", "staging_namespace", "job_timeout_seconds"})
        return plan_with(tmp_path, image={"repository": REPOSITORY, "scan": None} | section, cluster=where)

    return change


# --- the idle colour


def replicas(in_cluster):  # noqa: F811
    return in_cluster(lambda kube: kube.get(DEPLOYMENTS, "pms-green"))["spec"]["replicas"]


def test_a_colour_is_deployed_serves_and_is_scaled_down_at_once_when_no_client_has_met_it(in_cluster, plan, begin):  # noqa: F811
    token = begin()
    for kind in (DeployIdleColour, RolloutComplete):
        assert run(kind(task_id="step", plan=plan), token, ASKED).evidence.passed
    assert replicas(in_cluster) == 1
    ran = run(RemoveIdleColour(task_id="step", plan=plan, quiet_seconds=0.2), token, ASKED)
    assert ran.evidence.reason == "pms-green is scaled to 0: no client ever met it"
    assert replicas(in_cluster) == 0


@pytest.mark.plan("Green environment health checks pass", "kubectl rollout status deployment/pms-green -n production")
def test_a_release_that_does_not_start_fails_its_rollout_with_its_own_words(plan, begin, monkeypatch):  # noqa: F811
    monkeypatch.setattr("handover.kube.reasons.MAX_RESTARTS", 1)
    token = begin("crash")
    assert run(DeployIdleColour(task_id="deploy", plan=plan), token, ASKED).evidence.passed
    ran = run(RolloutComplete(task_id="rollout", plan=plan), token, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert "1 restarts, exit code 3" in ran.evidence.reason
    assert str(ran.error).endswith("it printed: warming up | DATABASE_URL is wrong")


def looked_at(plan, in_cluster, token, says):  # noqa: F811
    """What keeps the idle colour of a plan, once it is said."""
    assert run(DeployIdleColour(task_id="deploy", plan=plan), token, ASKED).evidence.passed
    name, labels = plan.cluster.deployment_of("green"), plan.cluster.selector_of("green")
    found = []

    async def look(kube):
        found[:] = (await rollout.look(kube, name, labels, Events()))[1]
        return says in told(found)

    in_cluster(lambda kube: until_async(lambda: look(kube), says))
    return found[0]


def test_a_secret_that_is_not_there_is_named_and_not_waited_for(plan, in_cluster, begin):  # noqa: F811
    says = 'CreateContainerConfigError: Error: secret "nobody-made-it" not found'
    other = plan.cluster.model_copy(update={"settings_secret": "nobody-made-it"})
    found = looked_at(plan.model_copy(update={"cluster": other}), in_cluster, begin(), says)
    assert found.patience == SETTLE_SECONDS


def test_a_release_that_never_gets_ready_is_told_with_its_probes_last_answer(plan, in_cluster, begin):  # noqa: F811
    says = f"its readiness probe (GET {plan.health.path} on port http) does not pass: Readiness probe failed: "
    found = looked_at(plan, in_cluster, begin("deaf"), says)
    assert found.patience == math.inf


# --- a release's commands


def test_a_command_is_given_its_image_the_settings_and_the_url(plan, begin, monkeypatch):  # noqa: F811
    connect_to(monkeypatch, "pms_preview", host="preview.internal", port=8080, schema="http")
    step = ReleaseCommand(
        task_id="phase.smoke", plan=plan, image="old", url_connection="pms_preview", env={"TARGET": "{url}/a"},
        command=("sh", "-c", 'echo "$0"; echo $TARGET; echo $VERSION $SETTING', "--url={url}"),
    )  # fmt: skip
    ran = run(step, begin(previous_image=image("v1.0.0")), ASKED)
    url = "http://preview.internal:8080"
    assert ran.evidence.reason == f"--url={url} | {url}/a | v1.0.0 from the secret"


def test_a_command_fails_with_its_exit_code_and_last_words(plan, begin):  # noqa: F811
    step = ReleaseCommand(task_id="smoke", plan=plan, command=("sh", "-c", "echo the banner is gone >&2; exit 4"))
    ran = run(step, begin(), ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert ran.evidence.reason.endswith("exit code 4; it printed: the banner is gone")


# --- foreign programs


@pytest.fixture(scope="module")
def tools(cluster):
    """The catalogue with an image that has `trivy`."""
    folder = cluster.kubeconfig.parent / "tools"
    folder.mkdir(exist_ok=True)
    (folder / "trivy").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TRIVY}" "$@"\n')
    (folder / "trivy").chmod(0o755)
    cluster.know(
        {"repository": TOOLS, "tag": "v1", "digest": digest("tools"), "argv": ["true"], "workdir": str(folder),
         "env": {}, "path": [str(folder)]}
    )  # fmt: skip


@pytest.fixture
def scanner(tools, cluster, namespace, registry):  # noqa: F811
    """The Secret that is the environment of `trivy`."""
    values = {"TRIVY_USERNAME": "scanner", "TRIVY_PASSWORD": "s3cret", "REGISTRY_MIRROR": registry.url}
    cluster.make(namespace, "secrets", {"metadata": {"name": "pms-scanner"}, "stringData": values})


@pytest.mark.plan("Image passes security scanning (Trivy)")
@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("annotation", "verdict", "words"),
    [
        ("LOW:CVE-1,MEDIUM:CVE-2", Verdict.PASS, "Total: 0 (HIGH: 0, CRITICAL: 0)"),
        ("CRITICAL:CVE-1,LOW:CVE-2", Verdict.FAIL, "Total: 1 (HIGH: 0, CRITICAL: 1) | CVE-1 CRITICAL"),
    ],
)
def test_a_scanner_asks_the_registry_with_the_login_of_its_secret(
    with_image, begin, registry, annotation, verdict, words
):  # fmt: skip
    registry.annotation = annotation
    ran = run(ScanImage(task_id="scan", plan=with_image(scan=SCAN)), begin(), ASKED)
    assert ran.evidence.verdict is verdict
    assert words in ran.evidence.reason
    (asked,) = registry.asked
    assert asked.path == f"/v2/shop/web/manifests/{digest('v1.1.0')}"
    assert asked.headers["authorization"].startswith("Basic ")


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": f"{TOOLS}:v9"}, "ImagePull"),
        ({"env_secret": "nobody-made-it"}, 'secret "nobody-made-it" not found'),
        ({"command": ["grype", "{image}"]}, "grype"),
    ],
)
def test_a_scanner_that_does_not_start_is_no_pass(with_image, begin, monkeypatch, change, says):
    monkeypatch.setattr("handover.kube.reasons.PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr("handover.kube.reasons.SETTLE_SECONDS", 0.0)
    ran = run(ScanImage(task_id="scan", plan=with_image(scan=SCAN | change)), begin(), ASKED)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert says in ran.evidence.reason


def test_what_a_build_pushes_is_what_the_registry_is_asked_for(with_image, begin, registry, tmp_path):
    registry.pushed_by = tmp_path / "pushed"
    script = f'echo "$0 $1" > {registry.pushed_by}'
    build = {"image": image("v1.0.0"), "command": ["sh", "-c", script, "{version}", "{image}"]}
    ran = run(BuildImage(task_id="build", plan=with_image(build=build)), begin(), ASKED)
    assert ran.evidence.passed
    assert registry.pushed_by.read_text() == f"v1.1.0 {REPOSITORY}:v1.1.0\n"
