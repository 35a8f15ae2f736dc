"""A command as a Job: found again, waited for and told of on a twin of the cluster; on the stand-in a real process."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from handover import clock
from handover.kube import jobs
from handover.kube.events import EVERY_SECONDS
from handover.kube.jobs import Command, JobEnd
from handover.kube.reasons import PATIENCE_SECONDS, SETTLE_SECONDS
from handover.models.annotations import FORMER_PREFIX
from handover.plan.parts import PLANS_VARIABLE, included
from handover.ports.kube import MAX_LOG_LINES, MAX_POD_BYTES, KubeError
from tests.support.cluster import image

IMAGE = "registry.example.com/shop/web@sha256:1"
SAY = ("sh", "-c", "echo out; echo $SETTING; echo $EXTRA; echo err >&2")


def command(*argv: str, key: str = "k", name: str = "say", **more) -> Command:
    return Command(name, key, more.pop("image", IMAGE), argv or ("true",), **more)


def run(twin, asked: Command):
    return asyncio.run(jobs.run(twin.kube(), twin.plan.cluster, asked))


def made(twin) -> list[str]:
    return [one["metadata"]["name"] for one in asyncio.run(twin.kube().list(jobs.JOBS))]


# --- the object


@pytest.mark.parametrize("name", ["pms-smoke", "PMS Smoke!", "x" * 90, "--", "unit_tests", "a-"])
def test_job_names_are_labels(name):
    found = command(name=name).job_name()
    assert len(found) <= 63
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", found), found


def test_job_names_follow_key_and_attempt_and_nothing_else():
    assert command("x").job_name() == command("y", image="another").job_name(1)
    names = {command().job_name(), command().job_name(2), command(key="l").job_name(), command(name="b").job_name()}
    assert len(names) == 4


def test_a_sidecar_of_the_job_is_left_alone(quick_plan, tmp_path, monkeypatch):
    (tmp_path / "k8s").mkdir()
    made = included("k8s", quick_plan.cluster.job_manifest).read_text()
    sidecar = "      containers:\n        - {name: proxy, image: p:1}\n"
    (tmp_path / "k8s" / quick_plan.cluster.job_manifest).write_text(made.replace("      containers:\n", sidecar))
    monkeypatch.setenv(PLANS_VARIABLE, str(tmp_path / "plans"))
    proxy, own = jobs.manifest(quick_plan.cluster, command("npm", "test"))["spec"]["template"]["spec"]["containers"]
    assert proxy == {"name": "proxy", "image": "p:1"}
    assert own["command"] == ["npm", "test"]


def test_the_manifest_holds_command_variables_and_secret(quick_plan):
    job = jobs.manifest(quick_plan.cluster, command("npm", "test", env={"URL": "http://x"}))
    container = job["spec"]["template"]["spec"]["containers"][0]
    assert container["command"] == ["npm", "test"]
    assert {"name": "URL", "value": "http://x"} in container["env"]
    assert container["envFrom"] == [{"secretRef": {"name": "pms-secrets"}}]
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["activeDeadlineSeconds"] == quick_plan.cluster.job_timeout_seconds


def test_a_job_may_do_nothing_that_its_command_does_not_need(quick_plan):
    pod = jobs.manifest(quick_plan.cluster, command())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName", "volumes"} & set(pod)


def test_a_job_that_needs_no_settings_has_no_secret(quick_plan):
    job = jobs.manifest(quick_plan.cluster, command(settings=False))
    assert "pms-secrets" not in json.dumps(job)


def test_what_builds_images_has_a_containers_usual_user_and_capabilities_and_still_no_token(quick_plan):
    pod = jobs.manifest(quick_plan.cluster, command(foreign=True, builds=True))["spec"]["template"]["spec"]
    assert "securityContext" not in pod["containers"][0] and "runAsNonRoot" not in pod["securityContext"]
    assert pod["automountServiceAccountToken"] is False


# --- how it ended, from the JSON alone


def job(*conditions: tuple[str, str, str, str]) -> dict:
    fields = ("type", "status", "reason", "message")
    status = {"conditions": [dict(zip(fields, one, strict=True)) for one in conditions]} if conditions else {}
    containers = [{"name": "pms", "image": IMAGE}]
    return {"metadata": {"name": "j"}, "spec": {"template": {"spec": {"containers": containers}}}, "status": status}


@pytest.mark.parametrize(
    ("conditions", "end"),
    [
        ((), None),
        ((("SuccessCriteriaMet", "True", "", ""),), None),
        ((("Failed", "False", "", ""),), None),
        ((("Complete", "True", "CompletionsReached", "1 pod"),), JobEnd("j", True)),
        ((("FailureTarget", "True", "B", "m"), ("Failed", "True", "B", "m")), JobEnd("j", False, "m")),
        ((("Failed", "True", "PodFailurePolicy", ""),), JobEnd("j", False, "PodFailurePolicy")),
        ((("Failed", "True", "DeadlineExceeded", "too long"),), JobEnd("j", None, "too long")),
    ],
)
def test_how_a_job_has_ended(conditions, end):
    assert jobs.ending(job(*conditions)) == end


def test_a_job_without_a_status_goes_on():
    assert jobs.ending({"metadata": {"name": "j"}}) is None
    assert jobs.ending({"metadata": {"name": "j"}, "status": None}) is None


class Shown:
    """A cluster that shows one Job with these pods and events; ``ends_at``: when its deadline stops it, and its pods
    are gone. A text instead of events: whoever asks for them may not.
    """

    def __init__(self, pods=(), events=(), ends_at=float("inf"), **spec):
        self.pods, self.said, self.ends_at, self.asked, self.spec = pods, events, ends_at, 0, spec

    @property
    def _ended(self):
        return clock.epoch() >= self.ends_at

    async def find(self, _kind, _name):
        stopped = ("Failed", "True", "DeadlineExceeded", "Job was active longer than specified deadline")
        found = job(*([stopped] if self._ended else []))
        return found | {"spec": found["spec"] | self.spec}

    async def list(self, _kind, _labels):
        return [] if self._ended else list(self.pods)

    async def events(self, _about):
        self.asked += 1
        if isinstance(self.said, str):
            raise KubeError(403, self.said)
        return list(self.said)


def pod(phase="Pending", conditions=(), **state: dict) -> dict:
    statuses = [{"name": "pms", "state": state, "restartCount": 0}] if state else []
    return {
        "metadata": {"name": "p", "creationTimestamp": "1"}, "spec": {"containers": [{"name": "pms", "image": IMAGE}]},
        "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": statuses},
    }  # fmt: skip


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "3 Insufficient cpu."}
QUOTA = 'Error creating: pods "j-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4'


def waited(shown, seconds=600.0):
    return asyncio.run(jobs.wait(shown, "j", clock.epoch() + seconds))


@pytest.mark.parametrize(
    ("shown", "reason", "seconds"),
    [
        (Shown([pod(waiting={"reason": "ErrImagePull", "message": "not found"})]),
         "container pms of pod p is in ErrImagePull: not found", PATIENCE_SECONDS),
        (Shown([pod(waiting={"reason": "CreateContainerConfigError", "message": 'secret "x" not found'})]),
         'container pms of pod p is in CreateContainerConfigError: secret "x" not found', SETTLE_SECONDS),
        (Shown([], [{"reason": "FailedCreate", "type": "Warning", "message": QUOTA}]),
         f"Job j gets no pod: FailedCreate: {QUOTA}", SETTLE_SECONDS),
    ],
)  # fmt: skip
def test_a_pod_that_does_not_start_is_no_answer_as_soon_as_waiting_does_not_help(virtual_time, shown, reason, seconds):
    assert waited(shown) == JobEnd("j", None, reason)
    assert seconds <= virtual_time.now < seconds + 1


@pytest.mark.parametrize(
    ("shown", "kept"),
    [
        (Shown([pod(conditions=[UNSCHEDULABLE])]), "pod p is Unschedulable: 3 Insufficient cpu."),
        (Shown([]), "Job j has no pod yet"),
        (Shown([], "you may not"), "Job j has no pod yet"),
        (Shown([], suspend=True), "Job j is suspended"),
    ],
)
def test_what_may_pass_is_waited_for_and_told_in_the_end_and_on_the_way(virtual_time, shown, kept, caplog):
    with caplog.at_level("INFO"):
        assert waited(shown, 60) == JobEnd("j", None, f"no answer in time: {kept}")
    assert [r.getMessage() for r in caplog.records if "Job j" in r.getMessage()] == [f"Job j: {kept}"]
    assert shown.asked <= 60 / EVERY_SECONDS + 1


def test_whoever_may_not_read_events_does_not_ask_again(virtual_time):
    shown = Shown([], "you may not")
    waited(shown, 60)
    assert shown.asked == 1


def test_a_job_that_its_deadline_stopped_tells_what_kept_it_from_running(virtual_time):
    end = waited(Shown([pod(conditions=[UNSCHEDULABLE])], ends_at=clock.epoch() + 30))
    never = "it never ran: pod p is Unschedulable: 3 Insufficient cpu."
    assert end == JobEnd("j", None, f"Job was active longer than specified deadline; {never}")


def test_a_job_that_ran_into_its_deadline_is_not_said_to_have_waited(virtual_time):
    end = waited(Shown([pod("Running", running={})], ends_at=clock.epoch() + 30))
    assert end == JobEnd("j", None, "Job was active longer than specified deadline")


def test_a_program_that_failed_is_left_to_fail_its_job(virtual_time):
    shown = Shown([pod("Failed", terminated={"exitCode": 1, "reason": "Error"})])
    assert waited(shown, 60) == JobEnd("j", None, "no answer in time")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (pod("Failed", terminated={"exitCode": 137, "reason": "OOMKilled"}),
         "failed; container pms was ended by OOMKilled"),
        (pod("Failed", terminated={"exitCode": 1, "reason": "Error"}), "failed"),
        (pod("Failed") | {"status": {"reason": "Evicted", "message": "low on memory"}},
         "failed; pod p was ended by Evicted: low on memory"),
    ],
)  # fmt: skip
def test_what_ended_a_program_from_outside_is_told_beside_its_exit_code(found, says):
    class Kept(Shown):
        async def logs(self, *_):
            return ""

    assert asyncio.run(jobs.result(Kept([found]), JobEnd("j", False, "failed"), "pms")).reason == says


# --- submitted, waited for and read


def test_a_job_that_succeeds_gives_its_output(twin):
    twin.cluster.program = lambda image, argv: (0, f"{image} ran {' '.join(argv)}\n")
    result = run(twin, command("npm", "test"))
    assert (result.succeeded, result.reason, result.exit_code) == (True, "", 0)
    assert result.output == f"{IMAGE} ran npm test\n"


def test_what_a_job_prints_is_for_people_without_secrets_and_for_us_to_the_letter(twin):
    twin.cluster.program = lambda _image, _argv: (0, "postgres://app:s3cr3t@db/x\nTOKEN=s3cr3t\n")
    result = run(twin, command())
    assert result.output == "postgres://app:***@db/x\nTOKEN=***\n"
    assert result.printed == "postgres://app:s3cr3t@db/x\nTOKEN=s3cr3t\n"
    assert "s3cr3t" not in repr(result)


def test_of_a_log_without_end_the_end_is_read_and_that_it_is_cut_is_said(twin):
    twin.cluster.program = lambda _image, _argv: (0, "a" * 99 + "\n" + ("b" * 99 + "\n") * (MAX_LOG_LINES + 10))
    result = run(twin, command())
    assert len(result.printed) < MAX_POD_BYTES + 200
    assert "a" not in result.printed.partition("\nthe log")[0]
    assert result.output.endswith("-pod goes on; no more of it is read")


def test_a_job_that_fails_tells_the_clusters_reason_and_its_exit_code(twin):
    twin.cluster.program = lambda _image, _argv: (3, "no\n")
    result = run(twin, command())
    assert (result.succeeded, result.exit_code, result.output) == (False, 3, "no\n")
    assert result.reason == "Job has reached the specified backoff limit"


def forged(twin, **change) -> str:
    """A Job of somebody else, under the name that the command's would have; gives the name."""
    body = jobs.manifest(twin.plan.cluster, command("npm", "test", image=change.pop("mirror", IMAGE)))
    body["spec"]["template"]["spec"]["containers"][0] |= change
    return asyncio.run(twin.kube().create(jobs.JOBS, body))["metadata"]["name"]


@pytest.mark.parametrize(
    "change",
    [
        {"command": ["true"]}, {"args": ["--version"]}, {"image": "registry.example.com/shop/web@sha256:2"},
        {"name": "other"}, {"image": "registry.example.com/shop/other:v1"},
    ],
)  # fmt: skip
def test_a_job_that_somebody_else_made_under_its_name_is_not_believed(twin, change):
    twin.cluster.program = lambda _image, argv: (0 if argv == ["true"] else 3, "")
    name = forged(twin, **change)
    result = run(twin, command("npm", "test"))
    assert (result.job != name, result.exit_code) == (True, 3)


def test_a_job_of_which_an_admission_took_the_image_from_a_mirror_is_found_again(twin):
    name = forged(twin, mirror=f"mirror.example.com/all/{IMAGE}")
    assert run(twin, command("npm", "test")).job == name
    assert made(twin) == [name]


def test_it_waits_until_the_job_has_ended(twin, virtual_time):
    twin.cluster.job_seconds = 90.0
    assert run(twin, command()).succeeded
    assert 90.0 <= virtual_time.now < 91.0


def test_a_job_that_its_deadline_stopped_gives_no_answer(twin):
    twin.cluster.job_seconds = 1e9
    result = run(twin, command())
    assert (result.succeeded, result.exit_code, result.output) == (None, None, "")
    assert result.reason == "Job was active longer than specified deadline"


def test_a_job_that_nobody_stops_gives_no_answer_in_time(twin, virtual_time):
    twin.cluster.job_seconds = 1e9
    name = asyncio.run(jobs.submit(twin.kube(), twin.plan.cluster, command()))
    end = asyncio.run(jobs.wait(twin.kube(), name, clock.epoch() + 20))
    assert end == JobEnd(name, None, "no answer in time")
    assert virtual_time.now < 21


def test_a_job_whose_image_cannot_be_pulled_gives_no_answer_within_seconds(twin, virtual_time):
    twin.cluster.missing_images.add(IMAGE)
    result = run(twin, command())
    assert (result.succeeded, result.output) == (None, "")
    assert "is in ImagePullBackOff" in result.reason
    assert PATIENCE_SECONDS <= virtual_time.now < PATIENCE_SECONDS + 1


def test_a_job_that_is_gone_gives_no_answer_and_nothing_was_printed(twin):
    async def work(kube):
        end = await jobs.wait(kube, "gone", clock.epoch() + 5)
        await jobs.answered(kube, end)
        return await jobs.result(kube, end, "pms")

    result = asyncio.run(work(twin.kube()))
    assert (result.succeeded, result.reason, result.exit_code, result.output) == (None, "the Job is gone", None, "")


def test_a_log_that_cannot_be_read_says_so_and_changes_nothing_of_the_end(twin, monkeypatch):
    async def refuse(*_arguments):
        raise KubeError(500, "the kubelet is away")

    monkeypatch.setattr("tests.twins.kube.TwinKube.logs", refuse)
    result = run(twin, command())
    assert result.succeeded
    assert result.output.endswith("cannot be read: the kubelet is away")


def test_the_same_key_runs_once_until_its_answer_was_read(twin):
    first, again = run(twin, command()), run(twin, command())
    assert first == again
    assert made(twin) == [first.job]
    asyncio.run(jobs.answered(twin.kube(), first))
    assert run(twin, command()).job != first.job
    assert len(made(twin)) == 2


def test_an_answer_that_was_marked_under_the_former_name_counts(twin):
    first = run(twin, command())
    mark = {"metadata": {"annotations": {f"{FORMER_PREFIX}answered": "true"}}}
    asyncio.run(twin.kube().merge(jobs.JOBS, first.job, mark))
    assert run(twin, command()).job != first.job


def test_what_nobody_waits_for_any_more_is_stopped(twin):
    twin.cluster.missing_images.add(IMAGE)
    result = run(twin, command())
    asyncio.run(jobs.answered(twin.kube(), result))
    (found,) = asyncio.run(twin.kube().list(jobs.JOBS))
    assert jobs.ending(found) == JobEnd(result.job, None, "Job was active longer than specified deadline")


# --- a real process


@pytest.mark.sandbox
@pytest.mark.usefixtures("looks_often")
def test_it_runs_with_the_settings_and_gives_its_output(in_cluster, plan):
    asked = command(*SAY, image=image("v1.0.0"), env={"EXTRA": "more"})
    result = in_cluster(lambda kube: jobs.run(kube, plan.cluster, asked))
    assert (result.succeeded, result.exit_code) == (True, 0)
    assert sorted(result.printed.split("\n")) == sorted(["out", "from the secret", "more", "err", ""])


@pytest.mark.sandbox
@pytest.mark.usefixtures("looks_often")
def test_a_failure_is_told_with_its_exit_code_and_output(in_cluster, plan):
    asked = command("sh", "-c", "echo why; exit 7", image=image("v1.0.0"))
    result = in_cluster(lambda kube: jobs.run(kube, plan.cluster, asked))
    assert (result.succeeded, result.exit_code, result.output) == (False, 7, "why\n")


@pytest.mark.sandbox
@pytest.mark.usefixtures("looks_often")
def test_a_command_that_does_not_end_is_stopped(in_cluster, plan):
    cluster = plan.cluster.model_copy(update={"job_timeout_seconds": 1})
    asked = command("sleep", "60", image=image("v1.0.0"))
    assert in_cluster(lambda kube: jobs.run(kube, cluster, asked)).succeeded is None
