"""The steps on a release, against a real cluster and a real registry, as Airflow runs them."""

from __future__ import annotations

import time

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover.coordination import lock, state
from handover.coordination.lock import FencedOut
from handover.kube import jobs
from handover.models.deployment import MigrationRecord
from handover.models.evidence import Verdict
from handover.workload.image import ImagePresent
from handover.workload.manifests import DEPLOYMENTS, deployment
from handover.workload.operators import DeployIdleColour, ReleaseCommand, RemoveIdleColour, RetireColour
from handover.workload.sensors import RolloutComplete
from tests.support.cluster import REPOSITORY, digest, image
from tests.support.steps import RUN_ID, Ti, connect_to, opened, release, run
from tests.support.web import Answer, serving

pytestmark = pytest.mark.sandbox


@pytest.fixture
def registry(monkeypatch):
    """Knows v1.1.0 only."""

    def answer(asked):
        known = asked.path in (f"/v2/shop/web/manifests/{reference}" for reference in ("v1.1.0", digest("v1.1.0")))
        return Answer(200, headers={"Docker-Content-Digest": digest("v1.1.0")}) if known else Answer(404)

    with serving(answer) as web:
        connect_to(monkeypatch, "pms_registry", host=web.host, port=web.port)
        yield web


@pytest.fixture
def token(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, f"{REPOSITORY}:v1.1.0"))


@pytest.fixture
def pinned(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), previous_image=image("v1.0.0")))


def known(in_cluster, plan):
    return in_cluster(lambda kube: state.read(kube, plan.lock_name))


def serve(in_cluster, selector):
    in_cluster(lambda kube: kube.merge("services", "pms-api", {"spec": {"selector": selector}}))


def replicas(in_cluster, name):
    return in_cluster(lambda kube: kube.get(DEPLOYMENTS, name))["spec"]["replicas"]


# --- the image


@pytest.mark.parametrize("asked", [f"{REPOSITORY}:v1.1.0", f"{REPOSITORY}@{digest('v1.1.0')}"])
def test_an_image_is_kept_by_digest(in_cluster, plan, token, registry, asked):
    ran = run(ImagePresent(task_id="image", plan=plan), token, release(asked))
    assert ran.evidence.passed
    assert ran.xcom["image"] == image("v1.1.0")
    assert known(in_cluster, plan).image == image("v1.1.0")


def test_a_missing_image_fails_for_good(in_cluster, plan, token, registry):
    ran = run(ImagePresent(task_id="image", plan=plan), token, release(f"{REPOSITORY}:v9.9.9"))
    assert ran.evidence.verdict is Verdict.FAIL
    assert "push it, or correct the release" in str(ran.error)
    assert known(in_cluster, plan).image == f"{REPOSITORY}:v1.1.0"


# --- the idle colour


def deploy(plan):
    return DeployIdleColour(task_id="deploy", plan=plan)


def test_the_idle_colour_is_deployed_once(in_cluster, plan, pinned):
    assert run(deploy(plan), pinned, release("unused:tag")).evidence.passed
    first = in_cluster(lambda kube: kube.get(DEPLOYMENTS, "pms-green"))
    assert run(deploy(plan), pinned, release("unused:tag")).evidence.passed
    second = in_cluster(lambda kube: kube.get(DEPLOYMENTS, "pms-green"))
    assert first["spec"]["template"]["spec"]["containers"][0]["image"] == image("v1.1.0")
    assert first["metadata"]["generation"] == second["metadata"]["generation"]


def test_without_a_kept_digest_it_is_resolved(in_cluster, plan, token, registry):
    assert run(deploy(plan), token, release("unused:tag")).evidence.passed
    found = in_cluster(lambda kube: kube.get(DEPLOYMENTS, "pms-green"))
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == image("v1.1.0")


@pytest.mark.parametrize("selector", [{"app": "pms", "version": "green"}, {"app": "pms", "version": None}])
def test_never_onto_the_colour_that_serves(in_cluster, plan, pinned, selector):
    serve(in_cluster, selector)
    ran = run(deploy(plan), pinned, release("unused:tag"))
    assert ran.evidence.verdict is Verdict.FAIL
    assert "Service pms-api sends traffic to green" in ran.evidence.reason
    assert in_cluster(lambda kube: kube.find(DEPLOYMENTS, "pms-green")) is None


def test_a_late_step_is_fenced_out(in_cluster, plan, pinned):
    in_cluster(lambda kube: lock.acquire(kube, plan.lock_name, "rollback", "late", take_over=True))
    with pytest.raises(FencedOut):
        run(deploy(plan), pinned, release("unused:tag"))
    assert in_cluster(lambda kube: kube.find(DEPLOYMENTS, "pms-green")) is None


def test_a_rollout_defers_first_and_is_done_at_once_later(plan, pinned):
    run(deploy(plan), pinned, release("unused:tag"))
    first = run(RolloutComplete(task_id="rollout", plan=plan), pinned, release("unused:tag"))
    assert (first.evidence.passed, len(first.triggers)) == (True, 1)
    second = run(RolloutComplete(task_id="rollout", plan=plan), pinned, release("unused:tag"))
    assert (second.evidence.passed, len(second.triggers)) == (True, 0)


def test_a_release_that_does_not_start_fails_its_rollout(in_cluster, plan):
    crashing = in_cluster(lambda kube: opened(kube, plan.lock_name, image("crash")))
    run(deploy(plan), crashing, release("unused:tag"))
    begun = time.monotonic()
    ran = run(RolloutComplete(task_id="rollout", plan=plan), crashing, release("unused:tag"))
    assert time.monotonic() - begun < 15
    assert "restarts" in ran.evidence.reason
    assert "DATABASE_URL is wrong" in str(ran.error)


# --- a release's commands


def command(plan, *argv, **more):
    return ReleaseCommand(task_id=more.pop("task_id", "phase.smoke"), plan=plan, command=argv, **more)


def test_a_command_passes_with_its_last_words(plan, pinned):
    ran = run(command(plan, "sh", "-c", "echo one; echo all 2 passed"), pinned, release("unused:tag"))
    assert ran.evidence.passed
    assert ran.evidence.reason == "one | all 2 passed"
    (seen,) = ran.evidence.measurements
    assert (seen.what, seen.value) == ("phase.smoke", 1.0)
    assert seen.source.startswith("job pms-smoke-")


def test_a_command_fails_with_its_last_words(plan, pinned):
    ran = run(command(plan, "sh", "-c", "echo the banner is gone; exit 1", check="smoke"), pinned, release("u:t"))
    assert (ran.evidence.check, ran.evidence.verdict) == ("smoke", Verdict.FAIL)
    assert "it printed: the banner is gone" in str(ran.error)


def test_a_command_that_cannot_run_is_unknown(in_cluster, plan, monkeypatch):
    monkeypatch.setattr("handover.workload.rollout.PATIENCE_SECONDS", 1.0)
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, f"{REPOSITORY}@sha256:{'0' * 64}"))
    ran = run(command(plan, "true"), token, release("unused:tag"))
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert "ImagePull" in ran.evidence.reason


@pytest.mark.parametrize(("which", "version"), [("new", "v1.1.0"), ("old", "v1.0.0")])
def test_new_and_old_image(plan, pinned, which, version):
    ran = run(command(plan, "sh", "-c", "echo $VERSION", image=which), pinned, release("unused:tag"))
    assert ran.evidence.reason == version


def test_the_url_reaches_arguments_and_environment(plan, pinned, monkeypatch):
    connect_to(monkeypatch, "pms_preview", host="preview.internal", port=8080, schema="http")
    step = command(
        plan, "sh", "-c", 'echo "$0" "$TARGET"', "--url={url}", url_connection="pms_preview", env={"TARGET": "{url}/a"}
    )
    assert run(step, pinned, release("u:t")).evidence.reason == (
        "--url=http://preview.internal:8080 http://preview.internal:8080/a"
    )


def test_another_namespace(cluster, in_cluster, plan, pinned):
    name = f"{plan.cluster.namespace}-staging"
    cluster.make("", "namespaces", {"metadata": {"name": name}})
    cluster.make(name, "secrets", {"metadata": {"name": "pms-secrets"}, "stringData": {"SETTING": "of staging"}})
    step = command(plan, "sh", "-c", "echo $SETTING", namespace=name)
    assert run(step, pinned, release("unused:tag")).evidence.reason == "of staging"
    assert in_cluster(lambda kube: kube.list(jobs.JOBS)) == []


def test_a_killed_try_is_found_again_and_a_later_run_asks_anew(in_cluster, plan, pinned, tmp_path):
    script = f"echo x >> {tmp_path}/ran; wc -l < {tmp_path}/ran"
    step = command(plan, "sh", "-c", script)

    context = {"run_id": RUN_ID, "ti": Ti(pinned, release("unused:tag"))}
    with pytest.raises(TaskDeferred):
        step.execute(context)  # and then nobody resumes this try
    assert run(step, pinned, release("unused:tag")).evidence.reason == "1"
    assert run(step, pinned, release("unused:tag")).evidence.reason == "2"
    assert len(in_cluster(lambda kube: kube.list(jobs.JOBS))) == 2


@pytest.mark.parametrize(("argv", "compatible"), [(("true",), True), (("sh", "-c", "echo no column; exit 1"), False)])
def test_whether_the_old_version_runs_on_the_new_schema_is_kept(in_cluster, plan, argv, compatible):
    facts = {"previous_image": image("v1.0.0"), "migration": MigrationRecord(applied=("a",), started=True)}
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), **facts))
    ran = run(command(plan, *argv, image="old", remember_compatible=True), token, release("unused:tag"))
    assert ran.evidence.passed
    assert known(in_cluster, plan).migration == MigrationRecord(applied=("a",), started=True, compatible=compatible)
    assert ("warning" in ran.evidence.reason) is not compatible


def test_no_answer_about_the_schema_is_not_kept_as_one(in_cluster, plan, monkeypatch):
    monkeypatch.setattr("handover.workload.rollout.PATIENCE_SECONDS", 1.0)
    absent = f"{REPOSITORY}@sha256:{'0' * 64}"
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), previous_image=absent))
    ran = run(command(plan, "true", image="old", remember_compatible=True), token, release("unused:tag"))
    assert ran.evidence.verdict is Verdict.UNKNOWN
    assert known(in_cluster, plan).migration.compatible is None


# --- the colour that is no longer needed


def made(in_cluster, plan, colour):
    body = deployment(plan, colour, "v1.1.0", image("v1.1.0"))
    in_cluster(lambda kube: kube.apply(DEPLOYMENTS, body))


def retire(plan):
    return RetireColour(task_id="retire", plan=plan, quiet_seconds=1.0)


def remove(plan):
    return RemoveIdleColour(task_id="remove", plan=plan, quiet_seconds=1.0)


def test_the_old_colour_is_retired_when_it_serves_nothing(in_cluster, plan, pinned):
    made(in_cluster, plan, "blue")
    serve(in_cluster, {"version": "green"})
    assert run(retire(plan), pinned, release("unused:tag")).evidence.passed
    assert replicas(in_cluster, "pms-blue") == 0
    again = run(retire(plan), pinned, release("unused:tag"))
    assert (again.evidence.passed, again.triggers) == (True, [])


@pytest.mark.parametrize("selector", [{"version": "blue"}, {"version": None}])
def test_the_old_colour_is_never_retired_while_selected(in_cluster, plan, pinned, selector):
    made(in_cluster, plan, "blue")
    serve(in_cluster, selector)
    assert run(retire(plan), pinned, release("unused:tag")).evidence.verdict is Verdict.FAIL
    assert replicas(in_cluster, "pms-blue") == 1


@pytest.mark.parametrize("step", [retire, remove])
def test_the_selector_is_looked_at_again_right_before_the_change(in_cluster, plan, pinned, step):
    colour = "blue" if step is retire else "green"
    made(in_cluster, plan, colour)
    serve(in_cluster, {"version": "green" if colour == "blue" else "blue"})
    one = step(plan)
    context = {"run_id": RUN_ID, "ti": Ti(pinned, release("unused:tag"))}
    serve(in_cluster, {"version": colour})
    with pytest.raises(AirflowFailException, match=f"sends traffic to {colour}"):
        one.resume(context, {"quiet": True, "reason": "no request in 3 s"})
    assert replicas(in_cluster, f"pms-{colour}") == 1


def test_a_busy_old_colour_is_left_running_with_a_warning(in_cluster, plan, pinned):
    made(in_cluster, plan, "blue")
    serve(in_cluster, {"version": "green"})
    ti = Ti(pinned, release("unused:tag"))
    said = retire(plan).resume({"run_id": RUN_ID, "ti": ti}, {"quiet": False, "reason": "4.0 requests/s"})
    assert said == "warning: blue is left running, it is not idle after 3 s: 4.0 requests/s"
    assert replicas(in_cluster, "pms-blue") == 1


def test_a_rollback_removes_the_new_colour_even_when_it_is_busy(in_cluster, plan, pinned):
    made(in_cluster, plan, "green")
    ti = Ti(pinned, release("unused:tag"))
    remove(plan).resume({"run_id": RUN_ID, "ti": ti}, {"quiet": False, "reason": "4.0 requests/s"})
    assert replicas(in_cluster, "pms-green") == 0


def test_a_rollback_before_anything_was_deployed_removes_nothing(plan, pinned):
    ran = run(remove(plan), pinned, release("unused:tag"))
    assert (ran.evidence.passed, ran.evidence.reason) == (True, "there is no pms-green")


def test_a_crashing_new_colour_is_removed(in_cluster, plan, pinned):
    body = deployment(plan, "green", "v1.1.0", image("crash"))
    in_cluster(lambda kube: kube.apply(DEPLOYMENTS, body))
    assert run(remove(plan), pinned, release("unused:tag")).evidence.passed
    assert replicas(in_cluster, "pms-green") == 0


def test_the_new_colour_is_not_removed_while_it_serves(in_cluster, plan, pinned):
    made(in_cluster, plan, "green")
    serve(in_cluster, {"version": "green"})
    ran = run(remove(plan), pinned, release("unused:tag"))
    assert "move traffic first" in ran.evidence.reason
    assert replicas(in_cluster, "pms-green") == 1
