"""Building, scanning and verifying the image of a release: Jobs in a cluster in memory, and a registry."""

from __future__ import annotations

import pytest
from airflow.sdk.exceptions import TaskDeferred

from handover.coordination import lock, state
from handover.foundation import EVIDENCE_KEY
from handover.kube import jobs
from handover.kube.jobs import Command
from handover.models.evidence import Verdict
from handover.plan.load import PlanError
from handover.workload import manifests
from handover.workload.image import BuildImage, ImagePresent, ScanImage, VerifySignature
from tests.support.cluster import REPOSITORY, digest, image
from tests.support.steps import RUN_ID, Ti, opened, release, run
from tests.twins.world import plan_with

TAGGED_TOOLS = "registry.example.com/shop/tools:v1"
TOOLS = f"{TAGGED_TOOLS}@sha256:{'5' * 64}"
TAGGED = f"{REPOSITORY}:v1.1.0"
SCAN = {
    "image": TOOLS,
    "command": ["trivy", "image", "--severity", "CRITICAL,HIGH", "--exit-code", "10", "{image}"],
    "fails_with": [10],
    "env_secret": "pms-scanner",
}
BUILD = {"image": TOOLS, "command": ["build", "{version}", "{image}"]}


@pytest.fixture
def with_image(plan, tmp_path):
    """The twin's plan with another ``image`` section."""

    def change(**image_section):
        clean = {"scan": None} | image_section
        return plan_with(tmp_path, image={"repository": REPOSITORY} | clean, cluster={"job_timeout_seconds": 20})

    return change


@pytest.fixture
def token(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0")))


@pytest.fixture
def unpinned(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, TAGGED))


@pytest.fixture
def says(twin):
    """What the program of every Job prints, and its exit code; gives the list of the command lines that ran."""
    ran = []

    def set_to(output, code=0, then=lambda: None):
        def program(_image, argv):
            ran.append(argv)
            then()
            return code, output

        twin.cluster.program = program
        return ran

    return set_to


def known(in_cluster, plan):
    return in_cluster(lambda kube: state.read(kube, plan.lock_name))


def made(in_cluster):
    return in_cluster(lambda kube: kube.list(jobs.JOBS))


def step(kind, plan):
    return kind(task_id=f"phase.{kind.__name__.lower()}", plan=plan)


# --- the plan


def test_without_settings_nothing_is_new(quick_plan):
    assert (quick_plan.image.build, quick_plan.image.signature, quick_plan.image.pull_secret) == (None, None, None)
    assert quick_plan.image.scan.command == tuple(SCAN["command"])


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


def test_without_secrets_a_foreign_program_gets_nothing(quick_plan):
    pod = jobs.manifest(quick_plan.cluster, Command("scan", "k", "tools:v1", ("trivy",), foreign=True))
    pod = pod["spec"]["template"]["spec"]
    assert pod["containers"][0]["envFrom"] == []
    assert not {"volumes", "imagePullSecrets"} & pod.keys()


def test_the_release_itself_is_pulled_with_the_secret_too(tmp_path):
    plan = plan_with(tmp_path, image={"pull_secret": "pms-registry"})
    body = manifests.deployment(plan, "green", "v1.1.0", image("v1.1.0"), 1)
    assert body["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pms-registry"}]
    own = jobs.manifest(plan.cluster, Command("smoke", "k", "i", ("x",), pull_secret="pms-registry"))
    assert own["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "pms-registry"}]
    assert own["spec"]["template"]["spec"]["containers"][0]["envFrom"] == [{"secretRef": {"name": "pms-secrets"}}]


# --- not configured


@pytest.mark.parametrize("kind", [BuildImage, ScanImage, VerifySignature])
def test_what_is_not_configured_passes_and_says_so(in_cluster, with_image, token, kind):
    ran = run(step(kind, with_image()), token, release(TAGGED))
    assert ran.evidence.passed
    assert ran.evidence.reason.startswith("not configured: ")
    assert (ran.triggers, made(in_cluster)) == ([], [])


# --- scanning


def scanned(plan, token):
    return run(step(ScanImage, plan), token, release(TAGGED))


def test_a_scan_examines_the_image_by_digest_whatever_the_tag_says(with_image, token, says):
    ran_with = says("Total: 0 (HIGH: 0, CRITICAL: 0)\n")
    ran = scanned(with_image(scan=SCAN), token)
    assert ran.evidence.passed
    assert ran.evidence.reason == "Total: 0 (HIGH: 0, CRITICAL: 0)"
    assert ran_with == [[*SCAN["command"][:-1], image("v1.1.0")]]


def test_a_judge_that_is_named_by_a_tag_may_be_another_one_tomorrow_and_each_pass_says_so(with_image, token, says):
    says("Total: 0")
    reason = scanned(with_image(scan=SCAN | {"image": TAGGED_TOOLS}), token).evidence.reason
    assert reason.startswith(f"Total: 0; {TAGGED_TOOLS} says so, which whoever may push there can replace")


@pytest.mark.plan("Image passes security scanning (Trivy)")
def test_findings_refuse_the_release_with_the_scanners_last_words(with_image, token, says):
    says("Total: 1 (HIGH: 0, CRITICAL: 1)\nCVE-2026-0001 CRITICAL\n", code=10)
    ran = scanned(with_image(scan=SCAN), token)
    assert ran.evidence.verdict is Verdict.FAIL
    assert ran.evidence.reason.startswith("trivy refuses the image (exit code 10): ")
    assert ran.evidence.reason.endswith("Total: 1 (HIGH: 0, CRITICAL: 1) | CVE-2026-0001 CRITICAL")
    assert [(m.what, m.value) for m in ran.evidence.measurements] == [("scanimage", 0.0)]


def test_a_scanner_that_cannot_look_is_no_pass(with_image, token, says):
    says("FATAL no such image\n", code=1)
    ran = scanned(with_image(scan=SCAN), token)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert ran.evidence.reason.startswith("trivy gave no answer: ")
    assert ran.evidence.reason.endswith("exit code 1; it printed: FATAL no such image")


def test_a_scanner_that_does_not_start_is_no_pass(twin, with_image, token):
    twin.cluster.missing_images.add(TOOLS)
    ran = scanned(with_image(scan=SCAN), token)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert ran.evidence.reason.startswith("trivy gave no answer: container ")
    assert "ImagePullBackOff" in ran.evidence.reason


def test_a_scan_that_takes_too_long_is_no_pass(twin, with_image, token):
    twin.cluster.job_seconds = 1e9
    ran = scanned(with_image(scan=SCAN), token)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert ran.evidence.reason == "trivy gave no answer: Job was active longer than specified deadline"


def test_a_killed_try_is_found_again(in_cluster, with_image, token, says):
    ran_with, one = says("good"), step(ScanImage, with_image(scan=SCAN))
    with pytest.raises(TaskDeferred):
        one.execute({"run_id": RUN_ID, "ti": Ti(token, release(TAGGED))})  # and then nobody resumes this try
    assert run(one, token, release(TAGGED)).evidence.passed
    assert len(ran_with) == len(made(in_cluster)) == 1


# --- the signature


@pytest.mark.parametrize(
    ("code", "verdict"), [(0, Verdict.PASS), (10, Verdict.FAIL), (12, Verdict.FAIL), (1, Verdict.UNKNOWN)]
)
def test_the_exit_code_of_a_signature_check(with_image, token, says, code, verdict):
    ran_with = says("verified?", code)
    check = {"image": TOOLS, "command": ["cosign", "{image}"], "fails_with": [10, 12]}
    ran = run(step(VerifySignature, with_image(signature=check)), token, release(TAGGED))
    assert ran.evidence.verdict is verdict
    assert "verified?" in ran.evidence.reason
    assert ran_with == [["cosign", image("v1.1.0")]]


# --- building


@pytest.mark.plan("docker build -t ghcr.io/ai-hotel/pms:v1.0.0 .", "docker push ghcr.io/ai-hotel/pms:v1.0.0")
def test_a_build_is_pushed_and_pinned_and_stays_pinned(in_cluster, with_image, unpinned, registry, says):
    registry.has_image, plan = False, with_image(build=BUILD)
    ran_with = says("", then=lambda: setattr(registry, "has_image", True))
    ran = run(step(BuildImage, plan), unpinned, release(TAGGED))
    assert ran.evidence.reason == f"built and pushed {TAGGED} as {image('v1.1.0')}"
    assert ran_with == [["build", "v1.1.0", TAGGED]]
    (job,) = in_cluster(lambda kube: kube.list(jobs.JOBS, {}))
    assert "securityContext" not in job["spec"]["template"]["spec"]["containers"][0]
    assert known(in_cluster, plan).image == image("v1.1.0")
    registry.asked.clear()
    assert run(step(ImagePresent, plan), unpinned, release(TAGGED)).evidence.passed
    assert [asked.path.rpartition("/")[2] for asked in registry.asked] == [digest("v1.1.0")]


@pytest.mark.plan("docker push ghcr.io/ai-hotel/pms:v1.0.0")
def test_a_build_that_pushes_nothing_fails(in_cluster, with_image, unpinned, registry):
    registry.has_image, plan = False, with_image(build=BUILD)
    ran = run(step(BuildImage, plan), unpinned, release(TAGGED))
    assert ran.evidence.verdict is Verdict.FAIL
    assert ran.evidence.reason.startswith("built, but not pushed: the registry has no ")
    assert known(in_cluster, plan).image == TAGGED


@pytest.mark.plan("Docker image builds successfully")
def test_a_build_that_fails_says_why(with_image, unpinned, registry, says):
    says("no space left\n", code=3)
    ran = run(step(BuildImage, with_image(build=BUILD)), unpinned, release(TAGGED))
    assert not ran.evidence.passed
    assert ran.evidence.reason.startswith("nothing was built; build gave no answer: ")
    assert ran.evidence.reason.endswith("exit code 3; it printed: no space left")


def test_a_release_by_digest_is_not_built(in_cluster, with_image, token):
    ran = run(step(BuildImage, with_image(build=BUILD)), token, release(image("v1.1.0")))
    assert (ran.evidence.passed, ran.triggers, made(in_cluster)) == (True, [], [])


def test_a_build_of_a_deployment_that_is_over_does_not_begin(in_cluster, with_image, unpinned):
    plan = with_image(build=BUILD)
    in_cluster(lambda kube: lock.acquire(kube, plan.lock_name, "rollback", "late", take_over=True))
    ti = Ti(unpinned, release(TAGGED))
    with pytest.raises(lock.FencedOut):
        step(BuildImage, plan).execute({"run_id": RUN_ID, "ti": ti})
    assert EVIDENCE_KEY not in ti.pushed
    assert made(in_cluster) == []
