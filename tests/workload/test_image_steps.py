"""Building, scanning and verifying the image of a release: Jobs on the stand-in cluster, and a registry."""

from __future__ import annotations

import json
import sys
import time

import pytest
from airflow.sdk.exceptions import TaskDeferred

from handover.coordination import state
from handover.kube import jobs
from handover.kube.jobs import Command
from handover.models.evidence import Verdict
from handover.plan.load import PlanError, load_plan
from handover.plan.model import INCLUDE
from handover.step import EVIDENCE_KEY
from handover.workload import manifests
from handover.workload.image import BuildImage, ImagePresent, ScanImage, VerifySignature
from sandbox.hotel.build import TRIVY, VULNERABILITIES
from tests.support.cluster import REPOSITORY, digest, image, plan_with
from tests.support.steps import RUN_ID, Ti, connect_to, opened, release, run
from tests.support.web import Answer, serving

TOOLS = "registry.example.com/shop/tools"
TAGGED = f"{REPOSITORY}:v1.1.0"
SCAN = {
    "image": f"{TOOLS}:v1",
    "command": ["trivy", "image", "--severity", "CRITICAL,HIGH", "--exit-code", "10", "{image}"],
    "fails_with": [10],
    "env_secret": "pms-scanner",
}
LOGIN = {"TRIVY_USERNAME": "scanner", "TRIVY_PASSWORD": "s3cret"}


class Registry:
    """Has v1.1.0, by tag and digest; ``annotation`` is what a scanner finds in it."""

    annotation = ""
    has_image = True
    pushed_by = None
    """A file: the image is there as soon as this exists."""

    def answer(self, asked):
        there = self.pushed_by.exists() if self.pushed_by else self.has_image
        known = asked.path in (f"/v2/shop/web/manifests/{ref}" for ref in ("v1.1.0", digest("v1.1.0")))
        if not (there and known):
            return Answer(404)
        return Answer(
            200, {"annotations": {VULNERABILITIES: self.annotation}}, {"Docker-Content-Digest": digest("v1.1.0")}
        )


@pytest.fixture
def registry(cluster, namespace, monkeypatch):
    found = Registry()
    with serving(found.answer) as web:
        connect_to(monkeypatch, "pms_registry", host=web.host, port=web.port)
        values = LOGIN | {"REGISTRY_MIRROR": web.url}
        cluster.make(namespace, "secrets", {"metadata": {"name": "pms-scanner"}, "stringData": values})
        found.asked = web.asked
        yield found


@pytest.fixture(scope="module")
def tools(cluster):
    """The catalogue with an image that has `trivy`."""
    folder = cluster.kubeconfig.parent / "tools"
    folder.mkdir()
    (folder / "trivy").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{TRIVY}" "$@"\n')
    (folder / "trivy").chmod(0o755)
    cluster.images.append(
        {"repository": TOOLS, "tag": "v1", "digest": digest("tools"), "argv": ["true"], "workdir": str(folder),
         "env": {}, "path": [str(folder)]}
    )  # fmt: skip
    (cluster.kubeconfig.parent / "images.json").write_text(json.dumps({"images": cluster.images}))


@pytest.fixture
def with_image(plan, tmp_path):
    """The test's plan with another ``image`` section."""

    def change(**image_section):
        clean = {"scan": None} | image_section
        where = plan.cluster.model_dump(mode="json", include={"namespace", "staging_namespace", "job_timeout_seconds"})
        return plan_with(tmp_path, image={"repository": REPOSITORY} | clean, cluster=where)

    return change


@pytest.fixture
def token(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0")))


@pytest.fixture
def unpinned(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, TAGGED))


def known(in_cluster, plan):
    return in_cluster(lambda kube: state.read(kube, plan.lock_name))


def step(kind, plan):
    return kind(task_id=f"phase.{kind.__name__.lower()}", plan=plan)


# --- the plan


def test_without_settings_nothing_is_new():
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    assert (plan.image.build, plan.image.signature, plan.image.pull_secret) == (None, None, None)
    assert plan.image.scan.command == tuple(SCAN["command"])


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"scan": SCAN | {"command": ["trivy", "image"]}}, "examines no image"),
        ({"scan": SCAN | {"fails_with": [0]}}, "greater than or equal to 1"),
        ({"scan": SCAN | {"fails_with": []}}, "at least 1"),
        ({"signature": {"command": ["cosign", "{image}"]}}, "image.signature.image: Field required"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, section, says):
    with pytest.raises(PlanError, match=says):
        plan_with(tmp_path, image=section)


# --- what a foreign program gets


def test_a_foreign_program_gets_the_registrys_login_and_none_of_the_applications_settings(tmp_path):
    plan = plan_with(tmp_path, image={"pull_secret": "pms-registry"})
    command = Command("scan", "k", "tools:v1", ("trivy",), pull_secret="pms-registry", foreign=True, env_secret="mine")
    pod = jobs.manifest(plan.cluster, command)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "mine"}}]
    assert {"name": "DOCKER_CONFIG", "value": "/run/registry"} in container["env"]
    assert pod["volumes"][0]["secret"] == {
        "secretName": "pms-registry", "items": [{"key": ".dockerconfigjson", "path": "config.json"}],
    }  # fmt: skip
    assert container["volumeMounts"] == [{"name": "login", "mountPath": "/run/registry", "readOnly": True}]
    assert pod["imagePullSecrets"] == [{"name": "pms-registry"}]
    assert pod["automountServiceAccountToken"] is False


def test_without_secrets_a_foreign_program_gets_nothing(plan):
    pod = jobs.manifest(plan.cluster, Command("scan", "k", "tools:v1", ("trivy",), foreign=True))
    pod = pod["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == []
    assert not {"volumes", "imagePullSecrets"} & pod.keys()


def test_the_release_itself_is_pulled_with_the_secret_too(tmp_path):
    plan = plan_with(tmp_path, image={"pull_secret": "pms-registry"})
    body = manifests.deployment(plan, "green", "v1.1.0", image("v1.1.0"))
    assert body["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pms-registry"}]
    own = jobs.manifest(plan.cluster, Command("smoke", "k", "i", ("x",), pull_secret="pms-registry"))
    assert own["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pms-registry"}]
    assert own["spec"]["template"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "pms-secrets"}}]


# --- not configured


@pytest.mark.sandbox
@pytest.mark.parametrize("kind", [BuildImage, ScanImage, VerifySignature])
def test_what_is_not_configured_passes_and_says_so(in_cluster, with_image, token, kind):
    ran = run(step(kind, with_image()), token, release(TAGGED))
    assert ran.evidence.passed
    assert ran.evidence.reason.startswith("not configured: ")
    assert (ran.triggers, in_cluster(lambda kube: kube.list(jobs.JOBS))) == ([], [])


# --- scanning


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("annotation", ["", "LOW:CVE-1,MEDIUM:CVE-2"])
def test_an_image_without_bad_findings_passes(in_cluster, with_image, token, registry, annotation):
    registry.annotation = annotation
    ran = run(step(ScanImage, with_image(scan=SCAN)), token, release(TAGGED))
    assert ran.evidence.passed, ran.evidence
    assert "Total: 0 (HIGH: 0, CRITICAL: 0)" in ran.evidence.reason
    (asked,) = registry.asked
    assert asked.path == f"/v2/shop/web/manifests/{digest('v1.1.0')}"  # by digest, whatever the tag says
    assert asked.headers["authorization"].startswith("Basic ")


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
def test_findings_refuse_the_release_with_the_scanners_last_words(with_image, token, registry):
    registry.annotation = "CRITICAL:CVE-2026-0001,LOW:CVE-2026-0002"
    ran = run(step(ScanImage, with_image(scan=SCAN)), token, release(TAGGED))
    assert ran.evidence.verdict is Verdict.FAIL
    assert ran.evidence.reason.startswith("trivy refuses the image (exit code 10): ")
    assert ran.evidence.reason.endswith("Total: 1 (HIGH: 0, CRITICAL: 1) | CVE-2026-0001 CRITICAL")
    assert [(m.what, m.value) for m in ran.evidence.measurements] == [("scanimage", 0.0)]


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
def test_a_scanner_that_cannot_look_is_no_pass(with_image, token, registry):
    registry.has_image = False
    ran = run(step(ScanImage, with_image(scan=SCAN)), token, release(TAGGED))
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert "trivy gave no answer: " in ran.evidence.reason
    assert "exit code 1; it printed: FATAL" in ran.evidence.reason


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": f"{TOOLS}:v9"}, "ImagePull"),
        ({"env_secret": "nobody-made-it"}, 'secret "nobody-made-it" not found'),
        ({"command": ["grype", "{image}"]}, "grype"),
    ],
)
def test_a_scanner_that_does_not_start_is_no_pass(with_image, token, registry, monkeypatch, change, says):
    monkeypatch.setattr("handover.workload.rollout.PATIENCE_SECONDS", 1.0)
    ran = run(step(ScanImage, with_image(scan=SCAN | change)), token, release(TAGGED))
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert "gave no answer: " in ran.evidence.reason
    assert says in ran.evidence.reason


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
def test_a_scan_that_takes_too_long_is_no_pass(in_cluster, plan, tmp_path, token):
    slow = {"image": f"{TOOLS}:v1", "command": ["sh", "-c", "sleep 60", "{image}"]}
    where = {"namespace": plan.cluster.namespace, "staging_namespace": plan.cluster.namespace}
    short = plan_with(
        tmp_path, image={"repository": REPOSITORY, "scan": slow}, cluster=where | {"job_timeout_seconds": 2}
    )
    begun = time.monotonic()
    ran = run(step(ScanImage, short), token, release(TAGGED))
    assert time.monotonic() - begun < 15
    assert ran.evidence.verdict is Verdict.UNKNOWN


@pytest.mark.sandbox
@pytest.mark.usefixtures("tools")
def test_a_killed_try_is_found_again(in_cluster, with_image, token, registry):
    one = step(ScanImage, with_image(scan=SCAN))
    with pytest.raises(TaskDeferred):
        one.execute({"run_id": RUN_ID, "ti": Ti(token, release(TAGGED))})  # and then nobody resumes this try
    assert run(one, token, release(TAGGED)).evidence.passed
    assert len(in_cluster(lambda kube: kube.list(jobs.JOBS))) == 1


# --- the signature


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("code", "verdict"), [(0, Verdict.PASS), (10, Verdict.FAIL), (12, Verdict.FAIL), (1, Verdict.UNKNOWN)]
)
def test_the_exit_code_of_a_signature_check(with_image, token, code, verdict):
    said = f'echo "verified $0?"; exit {code}'
    check = {"image": image("v1.0.0"), "command": ["sh", "-c", said, "{image}"], "fails_with": [10, 12]}
    ran = run(step(VerifySignature, with_image(signature=check)), token, release(TAGGED))
    assert ran.evidence.verdict is verdict
    assert f"verified {image('v1.1.0')}?" in ran.evidence.reason


# --- building


def builder(script):
    return {"image": image("v1.0.0"), "command": ["sh", "-c", script, "{version}", "{image}"]}


@pytest.mark.sandbox
def test_a_build_is_pushed_and_pinned_and_stays_pinned(in_cluster, with_image, unpinned, registry, tmp_path):
    registry.pushed_by = tmp_path / "pushed"
    plan = with_image(build=builder(f'echo "$0 $1" > {registry.pushed_by}'))
    ran = run(step(BuildImage, plan), unpinned, release(TAGGED))
    assert ran.evidence.reason == f"built and pushed {TAGGED} as {image('v1.1.0')}"
    assert registry.pushed_by.read_text() == f"v1.1.0 {TAGGED}\n"
    assert known(in_cluster, plan).image == image("v1.1.0")
    registry.asked.clear()
    assert run(step(ImagePresent, plan), unpinned, release(TAGGED)).evidence.passed
    assert [asked.path.rpartition("/")[2] for asked in registry.asked] == [digest("v1.1.0")]


@pytest.mark.sandbox
def test_a_build_that_pushes_nothing_fails(in_cluster, with_image, unpinned, registry):
    registry.has_image = False
    plan = with_image(build=builder("true"))
    ran = run(step(BuildImage, plan), unpinned, release(TAGGED))
    assert ran.evidence.verdict is Verdict.FAIL
    assert ran.evidence.reason.startswith("built, but not pushed: the registry has no ")
    assert known(in_cluster, plan).image == TAGGED


@pytest.mark.sandbox
def test_a_build_that_fails_says_why(with_image, unpinned, registry):
    ran = run(step(BuildImage, with_image(build=builder("echo no space left; exit 3"))), unpinned, release(TAGGED))
    assert not ran.evidence.passed
    assert ran.evidence.reason.startswith("nothing was built; ")
    assert "exit code 3; it printed: no space left" in ran.evidence.reason


@pytest.mark.sandbox
def test_a_release_by_digest_is_not_built(in_cluster, with_image, token):
    ran = run(step(BuildImage, with_image(build=builder("exit 1"))), token, release(image("v1.1.0")))
    assert (ran.evidence.passed, ran.triggers) == (True, [])


@pytest.mark.sandbox
def test_a_build_of_a_deployment_that_is_over_does_not_begin(in_cluster, with_image, unpinned):
    from handover.coordination import lock

    plan = with_image(build=builder("true"))
    in_cluster(lambda kube: lock.acquire(kube, plan.lock_name, "rollback", "late", take_over=True))
    ti = Ti(unpinned, release(TAGGED))
    with pytest.raises(lock.FencedOut):
        step(BuildImage, plan).execute({"run_id": RUN_ID, "ti": ti})
    assert EVIDENCE_KEY not in ti.pushed
    assert in_cluster(lambda kube: kube.list(jobs.JOBS)) == []
