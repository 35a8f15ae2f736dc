"""Whether the quotas of a namespace leave room for a colour: said by name before anything is changed, or not at all."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import Verdict
from handover.ports.kube import Forbidden, KubeError
from handover.workload import quota
from handover.workload.operators import DeployIdleColour
from tests.support.cluster import image
from tests.support.steps import RUN_ID, Ti, opened, release, run

LITTLE = {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}
IMAGE = image("v1.1.0")


def limit(used: dict, hard: dict, **spec) -> dict:
    return {"metadata": {"name": "compute"}, "spec": {"hard": hard} | spec, "status": {"hard": hard, "used": used}}


def pod(*resources: dict, phase="Running", **more) -> dict:
    return {"spec": {"containers": [{"resources": one} for one in resources or (LITTLE,)]} | more,
            "status": {"phase": phase}}  # fmt: skip


def deployment(replicas=4, **spec) -> dict:
    return {
        "metadata": {"name": "pms-green"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "pms"}}, "template": pod(**spec)},
    }


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (limit({"requests.cpu": "2"}, {"requests.cpu": "3"}), "leaves 1 of requests.cpu 3, and pms-green asks for 2"),
        (limit({"cpu": "2500m"}, {"cpu": "4"}), "leaves 1.5 of cpu 4, and pms-green asks for 2 (4 pods)"),
        (limit({"limits.memory": "1Gi"}, {"limits.memory": "1.5Gi"}), "leaves 512Mi of limits.memory 1.5Gi"),
        (limit({"pods": "4"}, {"pods": "6"}), "leaves 2 of pods 6, and pms-green asks for 4"),
        (limit({"count/pods": "9"}, {"count/pods": "6"}), "leaves 0 of count/pods 6"),
        (limit({"pods": "4"}, {"pods": "6"}, scopes=["NotTerminating"]), "leaves 2 of pods 6"),
        (limit({"pods": "4"}, {"pods": "8"}), ""),
        (limit({"requests.memory": "0"}, {"requests.memory": "512Mi"}), ""),
        (limit({"services": "5"}, {"services": "5"}), ""),
        (limit({"count/deployments.apps": "5"}, {"count/deployments.apps": "5"}), ""),
        (limit({"pods": "4"}, {"pods": "6"}, scopes=["BestEffort"]), ""),
        (limit({"pods": "4"}, {"pods": "6"}, scopeSelector={"matchExpressions": []}), "leaves 2 of pods 6"),
        (limit({"pods": "4"}, {"pods": "6"}, scopeSelector={"matchExpressions": [{"scopeName": "PriorityClass"}]}), ""),
        (limit({}, {"pods": "1"}), ""),
        ({"metadata": {"name": "new"}, "spec": {"hard": {"pods": "1"}}}, ""),
    ],
)
def test_a_quota_with_too_little_room_is_named_with_what_it_leaves(found, says):
    said = quota.refusal([found], deployment(), [])
    assert said.startswith("quota compute ") and says in said if says else said == ""


def test_what_an_admission_fills_in_is_not_held_against_a_release():
    full = limit({"requests.cpu": "3", "limits.cpu": "3"}, {"requests.cpu": "3", "limits.cpu": "3"})
    empty = deployment()
    empty["spec"]["template"] = pod({})
    assert quota.refusal([full], empty, []) == ""


def test_sidecars_count_and_a_limit_is_a_request_where_there_is_none():
    sidecar = {"restartPolicy": "Always", "resources": {"limits": {"cpu": "250m"}}}
    asked = deployment(initContainers=[sidecar, {"resources": LITTLE}])
    assert "asks for 3 " in quota.refusal([limit({"requests.cpu": "1"}, {"requests.cpu": "3"})], asked, [])


def test_pods_that_are_replaced_make_room_and_those_that_have_ended_do_not():
    tight = limit({"pods": "6"}, {"pods": "6"})
    assert quota.refusal([tight], deployment(), [pod() for _ in range(4)]) == ""
    assert "leaves 3 of pods" in quota.refusal([tight], deployment(), [pod() for _ in range(3)])
    assert "leaves 3 of pods" in quota.refusal(
        [tight], deployment(), [*(pod() for _ in range(3)), pod(phase="Succeeded")]
    )


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20), st.integers(0, 20))
def test_it_is_refused_exactly_when_the_pods_do_not_fit(used, hard, replicas, running):
    running = min(running, used)
    said = quota.refusal([limit({"pods": str(used)}, {"pods": str(hard)})], deployment(replicas), [pod()] * running)
    assert bool(said) == (used - running + replicas > hard)


class Cluster:
    def __init__(self, quotas):
        self.quotas = quotas

    async def list(self, resource, _labels=None):
        if resource == "pods":
            return []
        if isinstance(self.quotas, Exception):
            raise self.quotas
        return self.quotas


@pytest.mark.parametrize("quotas", [[], Forbidden(403, "you may not"), [limit({"pods": "four"}, {"pods": "six"})]])
def test_who_may_not_read_quotas_or_does_not_understand_them_says_nothing(quotas):
    assert asyncio.run(quota.lacking(Cluster(quotas), deployment())) == ""


def test_a_colour_that_does_not_fit_is_refused_before_anything_is_changed(twin, in_cluster, plan):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE))
    key = ("resourcequotas", plan.cluster.namespace, "compute")
    twin.cluster.objects[key] = limit({"pods": "6"}, {"pods": "4"})
    before = dict(twin.cluster.objects)
    evidence = run(DeployIdleColour(task_id="deploy", plan=plan), token, release(IMAGE)).evidence
    assert evidence.verdict is Verdict.FAIL
    assert evidence.reason.startswith("nothing was changed: quota compute leaves 0 of pods 4, and pms-green asks for ")
    assert twin.cluster.objects == before
    twin.cluster.objects.pop(key)
    assert run(DeployIdleColour(task_id="deploy", plan=plan), token, release(IMAGE)).evidence.passed


def test_what_an_admission_refuses_is_the_steps_own_reason(twin, in_cluster, plan, monkeypatch):
    token = in_cluster(lambda kube: opened(kube, plan.lock_name, IMAGE))
    denied = 'admission webhook "v.kyverno.svc" denied the request: no label team'

    async def refuse(*_):
        raise KubeError(400, denied)

    monkeypatch.setattr("tests.twins.kube.TwinKube.apply", refuse)
    ti = Ti(token, release(IMAGE))
    with pytest.raises(KubeError):
        DeployIdleColour(task_id="deploy", plan=plan).execute({"run_id": RUN_ID, "ti": ti})
    assert (ti.pushed[EVIDENCE_KEY]["verdict"], ti.pushed[EVIDENCE_KEY]["reason"]) == ("fail", denied)
