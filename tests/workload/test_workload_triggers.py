"""Triggers: stored and revived, then run against a cluster in memory, with their exact events."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from handover import clock
from handover.coordination.routing import DEPLOYMENTS
from handover.kube import jobs
from handover.kube.jobs import Command
from handover.models.evidence import Verdict
from handover.outside import Outside, standing_in
from handover.plan.pod_metrics import PodMetricsRules
from handover.ports.kube import KubeError
from handover.workload.manifests import deployment
from handover.workload.triggers import JobTrigger, QuietTrigger, RolloutTrigger
from tests.support.cluster import REPOSITORY, image
from tests.support.steps import events, revived


def common(plan, seconds: float = 20) -> dict:
    where = {"connection": plan.cluster.connection, "namespace": plan.cluster.namespace}
    return {**where, "deadline": clock.epoch() + seconds}


def told(trigger):
    (event,) = asyncio.run(events(trigger, seconds=1e6))
    return event


# --- a Job


def job_event(in_cluster, plan, seconds=20.0):
    command = Command("c", "1", image("v1.0.0"), ("true",))
    name = in_cluster(lambda kube: jobs.submit(kube, plan.cluster, command))
    event = told(JobTrigger(**common(plan, seconds), job=name))
    assert event.pop("job") == name
    return event


def test_a_job_that_succeeds(twin, in_cluster, plan):
    twin.cluster.job_seconds = 10.0
    assert job_event(in_cluster, plan) == {"succeeded": True, "reason": ""}


def test_a_job_that_fails(twin, in_cluster, plan):
    twin.cluster.program = lambda _image, _argv: (1, "")
    assert job_event(in_cluster, plan) == {
        "succeeded": False, "reason": "Job has reached the specified backoff limit",
    }  # fmt: skip


def test_a_job_that_is_gone_gives_no_answer(plan):
    event = told(JobTrigger(**common(plan), job="gone"))
    assert event == {"job": "gone", "succeeded": None, "reason": "the Job is gone"}


def test_a_job_that_takes_too_long_gives_no_answer(twin, in_cluster, plan):
    twin.cluster.job_seconds = 1e6
    assert job_event(in_cluster, plan) == {"succeeded": None, "reason": "no answer in time"}


def test_a_job_that_its_deadline_stopped_gives_no_answer(twin, in_cluster, plan):
    twin.cluster.job_seconds = 1e6
    event = job_event(in_cluster, plan, seconds=plan.cluster.job_timeout_seconds + 10)
    assert event == {"succeeded": None, "reason": "Job was active longer than specified deadline"}


def test_a_job_whose_image_cannot_be_pulled_gives_no_answer(twin, in_cluster, plan):
    twin.cluster.missing_images.add(image("v1.0.0"))
    event = job_event(in_cluster, plan)
    assert event["succeeded"] is None
    assert "ImagePullBackOff" in event["reason"]


@pytest.fixture
def broken(virtual_time):
    """A cluster that answers every question with one error."""

    def answering(error):
        class Broken:
            async def find(self, *_):
                raise error

        @asynccontextmanager
        async def kube(_connection, _namespace):
            yield Broken()

        return standing_in(Outside(kube=kube))

    return answering


def test_a_cluster_that_does_not_answer_is_asked_until_the_deadline(broken, quick_plan, virtual_time):
    with broken(KubeError(0, "the API server did not answer")):
        event = told(JobTrigger(**common(quick_plan, 60), job="j"))
    assert event == {
        "job": "j", "succeeded": None, "reason": "no answer in time: the API server did not answer",
    }  # fmt: skip
    assert 60 <= virtual_time.now < 61


def test_a_cluster_that_refuses_is_not_asked_again(broken, quick_plan, virtual_time):
    with broken(KubeError(403, "you may not")):
        event = told(JobTrigger(**common(quick_plan, 60), job="j"))
    assert event == {"job": "j", "succeeded": None, "reason": "the Job cannot be looked at: you may not"}
    assert virtual_time.now < 1


# --- a rollout


def rolled(in_cluster, plan, made_from: str, seconds: float = 25):
    body = deployment(plan, "green", "v1.1.0", made_from, 1)
    in_cluster(lambda kube: kube.apply(DEPLOYMENTS, body))
    labels = plan.cluster.selector_of("green")
    return told(RolloutTrigger(**common(plan, seconds), check="rollout", deployment="pms-green", labels=labels))


@pytest.mark.plan(
    "DevOps/Operations | Infrastructure",
    "kubectl rollout status deployment/pms-green -n production",
    "Green environment health checks pass",
    "No infrastructure issues",
    "kubectl rollout status deployment/pms-green",
    "watch kubectl get pods -n production",
)
def test_a_rollout_that_completes(twin, in_cluster, plan):
    twin.cluster.start_seconds = 10.0
    event = rolled(in_cluster, plan, image("v1.1.0"))
    assert event["verdict"] == Verdict.PASS
    assert event["reason"] == "pms-green: 2 of 2 replicas are available"


def test_a_rollout_without_its_image_fails_within_seconds_and_says_why(twin, in_cluster, plan, virtual_time):
    twin.cluster.missing_images.add(f"{REPOSITORY}:none")
    event = rolled(in_cluster, plan, f"{REPOSITORY}:none", seconds=600)
    assert event["verdict"] == Verdict.FAIL
    assert "ImagePullBackOff" in event["reason"]
    assert virtual_time.now < 20


def test_a_rollout_that_is_not_done_in_time_tells_what_kept_it(twin, in_cluster, plan):
    twin.cluster.missing_images.add(f"{REPOSITORY}:none")
    event = rolled(in_cluster, plan, f"{REPOSITORY}:none", seconds=3)
    assert event["verdict"] == Verdict.FAIL
    assert "pms-green is not rolled out in time: 0 of 2 new replicas are available" in event["reason"]
    assert "ImagePullBackOff" in event["reason"]


def test_a_rollout_of_nothing_fails(plan):
    event = told(RolloutTrigger(**common(plan), check="c", deployment="none", labels={}))
    assert (event["check"], event["verdict"]) == ("c", Verdict.FAIL)
    assert "not found" in event["reason"]


# --- pods that fall silent


def quiet_trigger(plan, colour: str = "green", seconds: float = 10) -> QuietTrigger:
    dumped = plan.model_dump(mode="json")
    return QuietTrigger(**common(plan, seconds), plan=dumped, colour=colour, quiet_seconds=1.0)


def test_no_pods_are_quiet(in_cluster, plan):
    in_cluster(lambda kube: kube.delete(DEPLOYMENTS, "pms-green"))
    assert told(quiet_trigger(plan)) == {"quiet": True, "reason": "no pod is ready"}


def test_pods_are_quiet_once_nobody_asks_them(world):
    with world.guests():
        busy = told(quiet_trigger(world.plan, "blue"))
    idle = told(quiet_trigger(world.plan, "blue"))
    assert not busy["quiet"]
    assert busy["reason"].endswith(" requests/s")
    assert idle == {"quiet": True, "reason": "no request in 1.0 s"}


def test_pods_whose_clients_are_connected_still_are_quiet_once_these_have_left(world):
    told_by = PodMetricsRules(client_connections="server_open_connections", own_connections=2)
    plan = world.plan.model_copy(update={"pod_metrics": told_by})
    world.service.tell("blue", connected=5)
    late = told(quiet_trigger(plan, "blue"))
    world.service.tell("blue", connected=2)
    gone = told(quiet_trigger(plan, "blue"))
    assert late == {"quiet": True, "reason": "no request in 1.0 s; 6 open connections end with the pods"}
    assert gone == {"quiet": True, "reason": "no request in 1.0 s, and no client is connected"}


def test_pods_that_are_asked_still_are_busy_whoever_is_connected(world):
    told_by = PodMetricsRules(client_connections="server_open_connections")
    plan = world.plan.model_copy(update={"pod_metrics": told_by})
    with world.guests():
        assert not told(quiet_trigger(plan, "blue"))["quiet"]


def test_pods_that_do_not_tell_their_requests_are_not_called_quiet(world):
    world.service.tell("green", mode="mute")
    mute = told(quiet_trigger(world.plan))
    assert not mute["quiet"]
    assert mute["reason"].endswith(" does not tell its requests: broken")


def test_what_is_stored_of_a_trigger_revives_it(quick_plan):
    for trigger in (
        JobTrigger(**common(quick_plan), job="j"),
        RolloutTrigger(**common(quick_plan), check="c", deployment="d", labels={"a": "b"}),
        quiet_trigger(quick_plan),
    ):
        assert revived(trigger).serialize() == trigger.serialize()


class Shown:
    """A cluster that shows a Deployment that comes no further, its pods and what is said of them."""

    def __init__(self, conditions=(), pods=(), events=(), made=0):
        self.conditions, self.pods, self.said, self.made = conditions, pods, events, made

    async def get(self, _kind, name):
        container = {"name": "pms", "image": "i"}
        return {
            "metadata": {"name": name, "generation": 1},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [container]}}},
            "status": {"observedGeneration": 1, "updatedReplicas": self.made, "conditions": list(self.conditions)},
        }  # fmt: skip

    async def list(self, _kind, _labels):
        return list(self.pods)

    async def events(self, _about):
        return list(self.said)

    async def logs(self, _pod, _container):
        return "listening\nno DATABASE_URL\n"


def pods_with(conditions=(), phase="Running", **status):
    statuses = [{"name": "pms", "restartCount": 0, "state": {}} | status] if status else []
    probe = {"httpGet": {"path": "/readyz", "port": 8080}}
    return [
        {"metadata": {"name": f"pms-green-{n}"},
         "spec": {"containers": [{"name": "pms", "image": "i", "readinessProbe": probe}]},
         "status": {"phase": phase, "conditions": list(conditions), "containerStatuses": statuses}}
        for n in "ab"
    ]  # fmt: skip


def refused(message):
    return [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}]


def shown_to_the_end(plan, shown, seconds=600.0):
    @asynccontextmanager
    async def kube(_connection, _namespace):
        yield shown

    trigger = RolloutTrigger(**common(plan, seconds), check="rollout", deployment="pms-green", labels={})
    with standing_in(Outside(kube=kube)):
        return told(trigger)


QUOTA = 'pods "pms-green-x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4'
DENIED = 'admission webhook "v.kyverno.svc" denied the request: no label team'
SECURITY = 'pods "pms-green-x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (Shown(refused(QUOTA)), QUOTA),
        (Shown(refused(DENIED)), DENIED),
        (Shown(refused(SECURITY)), SECURITY),
        (Shown(pods=pods_with(state={"waiting": {"reason": "InvalidImageName", "message": "couldn't parse"}}), made=2),
         "InvalidImageName: couldn't parse"),
        (Shown(pods=pods_with(state={"waiting": {
            "reason": "CreateContainerConfigError", "message": 'secret "pms-secrets" not found'}}), made=2),
         'CreateContainerConfigError: secret "pms-secrets" not found'),
        (Shown(pods=pods_with(restartCount=3, state={"waiting": {"reason": "CrashLoopBackOff"}},
                              lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}}), made=2),
         "CrashLoopBackOff after 3 restarts, ended by OOMKilled, exit code 137; it printed: "
         "listening | no DATABASE_URL"),
        (Shown(pods=pods_with(state={"waiting": {"reason": "ContainerCreating"}}), made=2, events=[
            {"reason": "FailedMount", "type": "Warning", "message": 'secret "tls" not found'}]),
         'ContainerCreating: FailedMount: secret "tls" not found'),
    ],
)  # fmt: skip
def test_what_cannot_get_better_by_itself_ends_a_rollout_within_seconds(quick_plan, virtual_time, shown, says):
    event = shown_to_the_end(quick_plan, shown)
    assert event["verdict"] == Verdict.FAIL
    assert says in event["reason"] and event["reason"].startswith("pms-green: 0 of 2 new replicas ")
    assert virtual_time.now <= 5


UNSCHEDULABLE = {
    "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient cpu.",
}  # fmt: skip
NOT_READY = {"reason": "Unhealthy", "type": "Warning", "message": "Readiness probe failed: statuscode: 503"}


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (Shown(pods=pods_with([UNSCHEDULABLE], "Pending"), made=2),
         "pod pms-green-a is Unschedulable: 0/3 nodes are available: 3 Insufficient cpu. (and 1 more)"),
        (Shown(pods=pods_with(state={"running": {}}, ready=False), events=[NOT_READY], made=2),
         "its readiness probe (GET /readyz on port 8080) does not pass: Readiness probe failed: statuscode: 503"),
        (Shown(pods=pods_with(state={"waiting": {"reason": "ContainerCreating"}}), made=2, events=[
            {"reason": "FailedAttachVolume", "type": "Warning", "message": "Multi-Attach error"}]),
         "ContainerCreating: FailedAttachVolume: Multi-Attach error"),
        (Shown(refused('Internal error occurred: failed calling webhook "a.b": connection refused')),
         'gets no pods: FailedCreate: Internal error occurred: failed calling webhook "a.b": connection refused'),
    ],
)  # fmt: skip
def test_what_may_pass_is_waited_for_and_said_in_every_line(quick_plan, virtual_time, shown, says, capsys):
    event = shown_to_the_end(quick_plan, shown)
    assert event["reason"].startswith("pms-green is not rolled out in time: 0 of 2 new replicas ")
    assert says in event["reason"] and says in capsys.readouterr().out
    assert 600 <= virtual_time.now < 601


def test_a_cluster_that_stops_answering_does_not_hide_what_was_seen_before(quick_plan, virtual_time):
    class GoesAway(Shown):
        async def get(self, kind, name):
            if clock.monotonic() > 100:
                raise KubeError(0, "the API server did not answer")
            return await super().get(kind, name)

    event = shown_to_the_end(quick_plan, GoesAway(pods=pods_with([UNSCHEDULABLE], "Pending"), made=2))
    assert "the API server did not answer; 0 of 2 new replicas" in event["reason"]
    assert "3 Insufficient cpu." in event["reason"]
