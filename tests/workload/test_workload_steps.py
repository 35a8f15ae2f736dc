"""The steps on a release as Airflow runs them, in a cluster in memory."""

from __future__ import annotations

import asyncio

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover.coordination import lock, state
from handover.coordination.lock import FencedOut
from handover.coordination.routing import DEPLOYMENTS
from handover.coordination.size import AUTOSCALERS
from handover.kube import jobs
from handover.models.annotations import notes
from handover.models.deployment import MigrationRecord
from handover.models.evidence import Verdict
from handover.workload.image import ImagePresent
from handover.workload.operators import DeployIdleColour, ReleaseCommand
from handover.workload.sensors import RolloutComplete
from tests.support.cluster import REPOSITORY, digest, image
from tests.support.steps import RUN_ID, Ti, connect_to, events, opened, release, run

ASKED = release("unused:tag")


@pytest.fixture
def token(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, f"{REPOSITORY}:v1.1.0"))


@pytest.fixture
def pinned(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), previous_image=image("v1.0.0")))


def known(in_cluster, plan):
    return in_cluster(lambda kube: state.read(kube, plan.lock_name))


def green(in_cluster):
    return in_cluster(lambda kube: kube.find(DEPLOYMENTS, "pms-green"))


def image_of(deployment):
    return deployment["spec"]["template"]["spec"]["containers"][0]["image"]


# --- the image


@pytest.mark.parametrize("asked", [f"{REPOSITORY}:v1.1.0", f"{REPOSITORY}@{digest('v1.1.0')}"])
def test_an_image_is_kept_by_digest(in_cluster, plan, registry, asked):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, asked))
    ran = run(ImagePresent(task_id="image", plan=plan), token, release(asked))
    assert ran.evidence.passed
    assert ran.xcom["image"] == image("v1.1.0")
    assert known(in_cluster, plan).image == image("v1.1.0")


def test_an_image_that_somebody_swaps_in_the_release_is_not_the_one_that_was_opened(in_cluster, plan, token, registry):
    ran = run(ImagePresent(task_id="image", plan=plan), token, release(f"{REPOSITORY}:v1.0.0"))
    assert ran.evidence.passed and known(in_cluster, plan).image == image("v1.1.0")


def test_a_missing_image_fails_for_good(in_cluster, plan, registry):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, f"{REPOSITORY}:v9.9.9"))
    ran = run(ImagePresent(task_id="image", plan=plan), token, release(f"{REPOSITORY}:v9.9.9"))
    assert ran.evidence.verdict is Verdict.FAIL
    assert "push it, or correct the release" in str(ran.error)
    assert known(in_cluster, plan).image == f"{REPOSITORY}:v9.9.9"


# --- the idle colour


def deploy(plan):
    return DeployIdleColour(task_id="deploy", plan=plan)


@pytest.mark.plan(
    "Backend Engineer | Application deployment",
    "Frontend Engineer | Asset deployment",
    "kubectl apply -f k8s/deployment-green.yaml --image",
    "Phase 2: Application deployed",
    "kubectl apply -f k8s/deployment-green.yaml",
)
def test_the_idle_colour_is_deployed_once(in_cluster, plan, pinned):
    assert run(deploy(plan), pinned, ASKED).evidence.passed
    first = green(in_cluster)
    assert run(deploy(plan), pinned, ASKED).evidence.passed
    assert image_of(first) == image("v1.1.0")
    written = {"version": "v1.1.0", "generation": str(pinned.generation), "image": image("v1.1.0")}
    assert notes(first) == written
    assert green(in_cluster) == first


def test_a_colour_that_was_never_there_is_made(in_cluster, plan, pinned):
    in_cluster(lambda kube: kube.delete(DEPLOYMENTS, "pms-green"))
    assert run(deploy(plan), pinned, ASKED).evidence.passed
    assert image_of(green(in_cluster)) == image("v1.1.0")


def test_without_a_kept_digest_it_is_resolved(in_cluster, plan, token, registry):
    assert run(deploy(plan), token, ASKED).evidence.passed
    assert image_of(green(in_cluster)) == image("v1.1.0")


def test_an_image_that_is_gone_by_now_is_not_deployed(in_cluster, plan, token, registry):
    registry.has_image, before = False, green(in_cluster)
    ran = run(deploy(plan), token, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert "the registry has no " in ran.evidence.reason
    assert green(in_cluster) == before


@pytest.mark.plan("Strategy: Blue-Green Deployment")
@pytest.mark.parametrize("selector", [{"app": "pms", "version": "green"}, {"app": "pms", "version": None}])
def test_never_onto_the_colour_that_serves(in_cluster, plan, pinned, selector):
    before = green(in_cluster)
    in_cluster(lambda kube: kube.merge("services", "pms-api", {"spec": {"selector": selector}}))
    ran = run(deploy(plan), pinned, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert "a release is never deployed onto the colour that serves" in ran.evidence.reason
    assert green(in_cluster) == before


def test_a_late_step_is_fenced_out(in_cluster, plan, pinned):
    before = green(in_cluster)
    in_cluster(lambda kube: lock.acquire(kube, plan.lock_name, "rollback", "late", take_over=True))
    with pytest.raises(FencedOut):
        run(deploy(plan), pinned, ASKED)
    assert green(in_cluster) == before


def test_a_step_that_was_held_up_does_not_overwrite_who_deployed_meanwhile(in_cluster, plan, pinned, monkeypatch):
    """It is fenced and late by one breath: the Deployment it read is not the Deployment any more, so it looks again."""
    fenced, asked = lock.fence, []

    async def held_up(kube, name, shown):
        await fenced(kube, name, shown)
        asked.append(name)
        if len(asked) == 1:
            await kube.merge(DEPLOYMENTS, "pms-green", {"metadata": {"labels": {"touched": "meanwhile"}}})

    monkeypatch.setattr(lock, "fence", held_up)
    assert run(deploy(plan), pinned, ASKED).evidence.passed
    assert len(asked) == 2
    assert green(in_cluster)["metadata"]["labels"]["touched"] == "meanwhile"


@pytest.mark.parametrize(("serve", "deployed"), [(6, 6), (1, 2), (2, 2)])
def test_as_many_pods_are_deployed_as_serve_and_no_fewer_than_the_plan_says(in_cluster, plan, pinned, serve, deployed):
    in_cluster(lambda kube: kube.merge(DEPLOYMENTS, "pms-blue", {"spec": {"replicas": serve}}))
    ran = run(deploy(plan), pinned, ASKED)
    assert ran.evidence.reason.endswith(f" in {deployed} pods")
    assert green(in_cluster)["spec"]["replicas"] == deployed


def test_an_autoscaler_that_may_shrink_a_colour_is_said_when_it_is_deployed(twin, in_cluster, plan, pinned):
    in_cluster(lambda kube: kube.merge(DEPLOYMENTS, "pms-blue", {"spec": {"replicas": 6}}))
    spec = {"scaleTargetRef": {"kind": "Deployment", "name": "pms-green"}, "minReplicas": 2, "maxReplicas": 9}
    twin.cluster.write((AUTOSCALERS, twin.namespace, "web"), {"spec": spec})
    assert (
        "HorizontalPodAutoscaler web may shrink pms-green to 2 pods" in run(deploy(plan), pinned, ASKED).evidence.reason
    )


def rollout(plan, token):
    return run(RolloutComplete(task_id="rollout", plan=plan), token, ASKED)


def test_a_rollout_defers_first_and_is_done_at_once_later(twin, plan, pinned):
    twin.cluster.start_seconds = 5.0
    run(deploy(plan), pinned, ASKED)
    first, second = rollout(plan, pinned), rollout(plan, pinned)
    assert (first.evidence.passed, len(first.triggers)) == (True, 1)
    assert (second.evidence.passed, len(second.triggers)) == (True, 0)


def test_a_release_that_does_not_start_fails_its_rollout_within_seconds(twin, plan, pinned, virtual_time):
    twin.cluster.missing_images.add(image("v1.1.0"))
    run(deploy(plan), pinned, ASKED)
    ran = rollout(plan, pinned)
    assert ran.evidence.verdict is Verdict.FAIL
    assert "ImagePullBackOff" in str(ran.error)
    assert virtual_time.now < 20


# --- a release's commands


@pytest.fixture
def programs(twin):
    """Every Job that ran: its image, command and environment; ``answer`` is its exit code and what it printed."""

    class Programs:
        answer = (0, "")

        @property
        def ran(self):
            made = asyncio.run(twin.kube().list(jobs.JOBS))
            return [one["spec"]["template"]["spec"]["containers"][0] for one in made]

    found = Programs()
    twin.cluster.program = lambda _image, _argv: found.answer
    return found


def command(plan, *argv, **more):
    return ReleaseCommand(task_id=more.pop("task_id", "phase.smoke"), plan=plan, command=argv, **more)


@pytest.mark.plan("npm run db:health-check")
def test_a_command_passes_with_its_last_words(plan, pinned, programs):
    programs.answer = (0, "one\nall 2 passed\n")
    ran = run(command(plan, "npm", "test"), pinned, ASKED)
    assert ran.evidence.passed
    assert ran.evidence.reason == "one | all 2 passed"
    (seen,) = ran.evidence.measurements
    assert (seen.what, seen.value) == ("phase.smoke", 1.0)
    assert seen.source.startswith("job pms-smoke-")
    (program,) = programs.ran
    assert program["command"] == ["npm", "test"]


def test_a_command_that_says_nothing_passes_too(plan, pinned, programs):
    assert run(command(plan, "true"), pinned, ASKED).evidence.reason == "exit code 0"


@pytest.mark.plan(
    "npm test # Unit tests",
    "npm run test:integration",
    "npm run test:e2e",
    "All tests passing",
    "Tests: 100% pass rate",
)
def test_a_command_fails_with_its_exit_code_and_last_words(plan, pinned, programs):
    programs.answer = (1, "the banner is gone\n")
    ran = run(command(plan, "npm", "test", check="smoke"), pinned, ASKED)
    assert (ran.evidence.check, ran.evidence.verdict) == ("smoke", Verdict.FAIL)
    assert str(ran.error).endswith("exit code 1; it printed: the banner is gone")
    assert [m.value for m in ran.evidence.measurements] == [0.0]


def test_a_command_that_cannot_run_is_unknown_and_is_stopped(twin, in_cluster, plan, pinned):
    twin.cluster.missing_images.add(image("v1.1.0"))
    ran = run(command(plan, "true"), pinned, ASKED)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert "ImagePull" in ran.evidence.reason
    assert [m.value for m in ran.evidence.measurements] == [None]
    (left,) = in_cluster(lambda kube: kube.list(jobs.JOBS))
    assert jobs.ending(left).reason == "Job was active longer than specified deadline"


def test_a_command_of_an_image_that_is_gone_fails(in_cluster, plan, token, registry, programs):
    registry.has_image = False
    ran = run(command(plan, "true"), token, ASKED)
    assert ran.evidence.verdict is Verdict.FAIL
    assert programs.ran == []


@pytest.mark.plan("npm run test:smoke")
@pytest.mark.parametrize(("which", "version"), [("new", "v1.1.0"), ("old", "v1.0.0")])
def test_new_and_old_image(plan, pinned, programs, which, version):
    assert run(command(plan, "true", image=which), pinned, ASKED).evidence.passed
    assert [program["image"] for program in programs.ran] == [image(version)]


@pytest.mark.plan("npm run test:smoke -- --url")
def test_the_url_reaches_arguments_and_environment(plan, pinned, programs, monkeypatch):
    connect_to(monkeypatch, "pms_preview", host="preview.internal", port=8080, schema="http")
    step = command(
        plan, "test", "--url={url}", url_connection="pms_preview", env={"TARGET": "{url}/a", "DEBUG": "{braces}"}
    )
    assert run(step, pinned, ASKED).evidence.passed
    (program,) = programs.ran
    assert program["command"] == ["test", "--url=http://preview.internal:8080"]
    given = {one["name"]: one.get("value") for one in program["env"]}
    assert (given["TARGET"], given["DEBUG"]) == ("http://preview.internal:8080/a", "{braces}")


def test_another_namespace(twin, in_cluster, plan, pinned, programs):
    assert run(command(plan, "true", namespace="elsewhere"), pinned, ASKED).evidence.passed
    (there,) = asyncio.run(twin.cluster.client("elsewhere").list(jobs.JOBS))
    assert jobs.ANSWERED in notes(there)
    assert programs.ran == []


def test_a_killed_try_is_found_again_and_a_later_run_asks_anew(in_cluster, plan, pinned, programs):
    step = command(plan, "true")
    with pytest.raises(TaskDeferred):
        step.execute({"run_id": RUN_ID, "ti": Ti(pinned, ASKED)})  # and then nobody resumes this try
    for made in (1, 2):
        assert run(step, pinned, ASKED).evidence.passed
        assert len(programs.ran) == made


def test_a_job_that_is_gone_when_the_step_wakes_is_unknown(in_cluster, plan, pinned, programs):
    context, step = {"run_id": RUN_ID, "ti": Ti(pinned, ASKED)}, command(plan, "true")
    with pytest.raises(TaskDeferred) as deferred:
        step.execute(context)
    trigger = deferred.value.trigger
    in_cluster(lambda kube: kube.delete(jobs.JOBS, trigger.job))
    (event,) = asyncio.run(events(trigger))
    with pytest.raises(AirflowFailException, match="unknown: the Job is gone"):
        step.resumed(context, event)


@pytest.mark.plan("Application continues running on current schema", "New schema deployed alongside")
@pytest.mark.parametrize(("code", "compatible"), [(0, True), (1, False)])
def test_whether_the_old_version_runs_on_the_new_schema_is_kept(in_cluster, plan, programs, code, compatible):
    facts = {"previous_image": image("v1.0.0"), "migration": MigrationRecord(applied=("a",), started=True)}
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), **facts))
    programs.answer = (code, "no column\n")
    ran = run(command(plan, "npm", "test", image="old", remember_compatible=True), token, ASKED)
    assert ran.evidence.passed
    assert known(in_cluster, plan).migration == MigrationRecord(applied=("a",), started=True, compatible=compatible)
    assert ("warning" in ran.evidence.reason) is not compatible


def test_no_answer_about_the_schema_is_not_kept_as_one(twin, in_cluster, plan, pinned):
    twin.cluster.missing_images.add(image("v1.0.0"))
    ran = run(command(plan, "true", image="old", remember_compatible=True), pinned, ASKED)
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert known(in_cluster, plan).migration.compatible is None
