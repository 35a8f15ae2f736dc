"""Triggers: stored and revived, then run against a real cluster, with their exact events."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from handover.kube import jobs
from handover.kube.jobs import Command
from handover.models.evidence import Verdict
from handover.workload.manifests import DEPLOYMENTS, deployment
from handover.workload.triggers import JobTrigger, QuietTrigger, RolloutTrigger
from tests.support.cluster import REPOSITORY, image
from tests.support.steps import connect_to, events, revived

pytestmark = pytest.mark.sandbox


def common(plan, seconds: float = 20) -> dict:
    where = {"connection": plan.cluster.connection, "namespace": plan.cluster.namespace}
    return {**where, "deadline": time.time() + seconds}


def job_event(in_cluster, plan, argv, *, tag="v1.0.0", seconds=20.0, made_from: str | None = None):
    command = Command("c", "1", made_from or image(tag), argv)
    name = in_cluster(lambda kube: jobs.submit(kube, plan.cluster, command))
    (event,) = asyncio.run(events(JobTrigger(**common(plan, seconds), job=name)))
    assert event.pop("job") == name
    return event


def test_a_job_that_succeeds(in_cluster, plan):
    assert job_event(in_cluster, plan, ("true",)) == {"succeeded": True, "reason": ""}


def test_a_job_that_fails(in_cluster, plan):
    event = job_event(in_cluster, plan, ("false",))
    assert event == {"succeeded": False, "reason": "Job has reached the specified backoff limit"}


def test_a_job_that_is_gone_gives_no_answer(plan):
    (event,) = asyncio.run(events(JobTrigger(**common(plan), job="gone")))
    assert event == {"job": "gone", "succeeded": None, "reason": "the Job is gone"}


def test_a_job_that_takes_too_long_gives_no_answer(in_cluster, plan):
    event = job_event(in_cluster, plan, ("sleep", "30"), seconds=0.2)
    assert event == {"succeeded": None, "reason": "no answer in time"}


def test_a_job_that_its_deadline_stopped_gives_no_answer(in_cluster, plan):
    short = plan.model_copy(update={"cluster": plan.cluster.model_copy(update={"job_timeout_seconds": 1})})
    assert job_event(in_cluster, short, ("sleep", "30"))["succeeded"] is None


def test_a_job_whose_image_cannot_be_pulled_gives_no_answer(in_cluster, plan, monkeypatch):
    monkeypatch.setattr("handover.workload.rollout.PATIENCE_SECONDS", 1.0)
    event = job_event(in_cluster, plan, ("true",), made_from=f"{REPOSITORY}:none")
    assert event["succeeded"] is None
    assert "ImagePull" in event["reason"]


def test_a_cluster_that_does_not_answer_is_asked_until_the_deadline(monkeypatch, plan):
    kubeconfig = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c", "users": [{"name": "u", "user": {}}],
        "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:9"}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }  # fmt: skip
    connect_to(
        monkeypatch, plan.cluster.connection, conn_type="kubernetes", extra={"kube_config": json.dumps(kubeconfig)}
    )
    (event,) = asyncio.run(events(JobTrigger(**common(plan, 1.2), job="j")))
    assert event["succeeded"] is None
    assert "did not answer" in event["reason"]


def rolled(in_cluster, plan, made_from: str, seconds: float = 25):
    in_cluster(lambda kube: kube.apply(DEPLOYMENTS, deployment(plan, "green", "v1.1.0", made_from)))
    labels = plan.cluster.selector_of("green")
    trigger = RolloutTrigger(**common(plan, seconds), check="rollout", deployment="pms-green", labels=labels)
    (event,) = asyncio.run(events(trigger))
    return event


def test_a_rollout_that_completes(in_cluster, plan):
    event = rolled(in_cluster, plan, image("v1.1.0"))
    assert event["verdict"] == Verdict.PASS
    assert event["reason"] == "pms-green: 1 of 1 replicas are available"


def test_a_release_that_does_not_start_fails_within_seconds_and_says_why(in_cluster, plan):
    begun = time.monotonic()
    event = rolled(in_cluster, plan, image("crash"))
    assert time.monotonic() - begun < 12
    assert event["verdict"] == Verdict.FAIL
    assert "2 restarts, exit code 3" in event["reason"]
    assert event["reason"].endswith("it printed: warming up | DATABASE_URL is wrong")


def test_a_rollout_without_its_image_tells_at_its_end_what_kept_it(in_cluster, plan):
    event = rolled(in_cluster, plan, f"{REPOSITORY}:none", seconds=3)
    assert event["verdict"] == Verdict.FAIL
    assert "pms-green is not rolled out in time" in event["reason"]
    assert "ImagePull" in event["reason"]


def test_a_rollout_of_nothing_fails(plan):
    (event,) = asyncio.run(events(RolloutTrigger(**common(plan), check="c", deployment="none", labels={})))
    assert (event["check"], event["verdict"]) == ("c", Verdict.FAIL)
    assert "404" in event["reason"]


def quiet_trigger(plan, seconds: float = 10) -> QuietTrigger:
    labels = plan.cluster.selector_of("green")
    return QuietTrigger(**common(plan, seconds), labels=labels, port=8080, quiet_seconds=1.0)


def test_no_pods_are_quiet(plan):
    assert asyncio.run(events(quiet_trigger(plan))) == [{"quiet": True, "reason": "no pod is ready"}]


def test_pods_are_quiet_once_nobody_asks_them(in_cluster, plan):
    rolled(in_cluster, plan, image("v1.1.0"))

    async def work(kube):
        (pod,) = await kube.list("pods", plan.cluster.selector_of("green"))

        async def ask():
            while True:
                await kube.proxy(pod["metadata"]["name"], 8080, "/health")
                await asyncio.sleep(0.1)

        asking = asyncio.create_task(ask())
        (busy,) = await events(quiet_trigger(plan, 2.5))
        asking.cancel()
        (idle,) = await events(quiet_trigger(plan))
        return busy, idle

    busy, idle = in_cluster(work)
    assert not busy["quiet"]
    assert "requests/s" in busy["reason"]
    assert idle["quiet"]
    assert idle["reason"].startswith("no request in 1.")


def test_what_is_stored_of_a_trigger_revives_it(plan):
    for trigger in (
        JobTrigger(**common(plan), job="j"),
        RolloutTrigger(**common(plan), check="c", deployment="d", labels={"a": "b"}),
        quiet_trigger(plan),
    ):
        assert revived(trigger).serialize() == trigger.serialize()
