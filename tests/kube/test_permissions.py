"""What the deployer may do: one list, asked for before anything is touched, and named when it is not enough."""

from __future__ import annotations

import asyncio
import json
import re
from functools import partial

import pytest
import yaml
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover.adapters.kubernetes import connect, connect_with_kubeconfig, denied
from handover.cli.permissions import main
from handover.coordination import lock
from handover.coordination.routing import DEPLOYMENTS, patiently
from handover.foundation import EVIDENCE_KEY
from handover.kube import permissions
from handover.kube.permissions import granted, rendered
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.ports.kube import Forbidden, Permission
from handover.workflows.deployment.opening import Open
from handover.workload.operators import DeployIdleColour, ReleaseCommand
from tests.support.cluster import image
from tests.support.rbac import guarded, kubeconfig, said
from tests.support.steps import RUN_ID, Ti, opened, release

PMS = load_plan(INCLUDE / "plans" / "pms.yaml")


class Guard:
    """What the deployer of the test may do; everything at first."""

    def __init__(self, plan):
        self.all = granted(rendered(plan))
        self.allowed = list(self.all)

    def without(self, verb, resource, sub=""):
        self.allowed = [p for p in self.all if (p.verb, p.resource, p.subresource) != (verb, resource, sub)]


@pytest.fixture
def guard(cluster, plan, tmp_path, monkeypatch):
    guard = Guard(plan)
    with guarded(cluster, lambda: guard.allowed) as web:
        guard.kubeconfig = kubeconfig(tmp_path, web.url)
        connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(guard.kubeconfig)}}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_KUBERNETES", json.dumps(connection))
        yield guard


@pytest.fixture
def token(in_cluster, plan):
    return in_cluster(lambda kube: opened(kube, plan.lock_name, image("v1.1.0"), previous_image=image("v1.0.0")))


def missing(plan):
    async def ask():
        async with connect(plan.cluster.connection, plan.cluster.namespace) as kube:
            return await permissions.missing(kube, plan)

    return asyncio.run(ask())


# --- the list


def test_the_manifest_is_a_service_account_with_a_role_in_each_namespace():
    found = [(m["kind"], m["metadata"]["namespace"], m["metadata"]["name"]) for m in _manifests(PMS)]
    assert found == [
        ("ServiceAccount", "production", "pms-deployer"),
        ("Role", "production", "pms-deployer"), ("RoleBinding", "production", "pms-deployer"),
        ("Role", "staging", "pms-staging-tests"), ("RoleBinding", "staging", "pms-staging-tests"),
        ("Role", "production", "pms-deployer-reasons"), ("RoleBinding", "production", "pms-deployer-reasons"),
        ("Role", "staging", "pms-deployer-reasons"), ("RoleBinding", "staging", "pms-deployer-reasons"),
    ]  # fmt: skip
    for binding in (m for m in _manifests(PMS) if m["kind"] == "RoleBinding"):
        assert binding["roleRef"]["name"] == binding["metadata"]["name"]
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "pms-deployer", "namespace": "production"}]


def test_no_wildcard_no_secret_and_nothing_that_gives_more_rights():
    for permission in granted(rendered(PMS)) + granted(rendered(PMS), optional=True):
        assert "*" not in (permission.verb, permission.group, permission.resource, permission.name)
        assert permission.resource not in ("secrets", "serviceaccounts", "roles", "rolebindings")
        assert permission.verb not in ("bind", "escalate", "impersonate", "deletecollection")


def test_every_verb_says_who_needs_it():
    lines = permissions.RBAC.read_text(encoding="utf-8").splitlines()
    verbs = [line for line in lines if re.match(r" +- [a-z]+( |$)| +verbs: \[", line)]
    assert len(verbs) > 15
    assert [line for line in verbs if "  # " not in line] == []


def test_who_may_not_do_what_is_optional_lacks_nothing():
    optional = granted(rendered(PMS), optional=True)
    assert [str(one) for one in optional] == [
        "list events in production", "list resourcequotas in production", "list events in staging",
    ]  # fmt: skip
    assert not set(optional) & set(granted(rendered(PMS)))
    assert asyncio.run(permissions.missing(Knows(granted(rendered(PMS))), PMS)) == []


def test_names_are_the_plans():
    allowed = granted(rendered(PMS))
    assert Permission("production", "", "services", "patch", "", "pms-preview") in allowed
    assert Permission("production", "apps", "deployments", "patch", "", "pms-green") in allowed
    assert Permission("production", "coordination.k8s.io", "leases", "update", "", "pms-deployment") in allowed
    assert str(Permission("production", "", "services", "patch", "", "pms-api")) == (
        "patch services/pms-api in production"
    )
    assert str(Permission("staging", "batch", "jobs", "create")) == "create jobs.batch in staging"


def _manifests(plan):
    return list(yaml.safe_load_all(rendered(plan)))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (said(Permission("n", "apps", "deployments", "patch", "", "web")), "patch deployments.apps/web in n"),
        (said(Permission("n", "", "pods", "list")), "list pods in n"),
        (said(Permission("n", "", "pods", "get", "log", "web-1")), "get pods/log in n"),
        ('namespaces is forbidden: User "u" cannot list resource "namespaces" in API group "" at the cluster scope',
         "list namespaces in the cluster"),
    ],
)  # fmt: skip
def test_a_refusal_names_verb_and_resource(message, says):
    assert denied(message) == f"the deployer may not {says}: apply include/k8s/rbac.yaml"


@pytest.mark.parametrize(
    "message",
    [
        'pods "a" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
        "wrong token", "",
    ],
)  # fmt: skip
def test_another_403_is_not_blamed_on_the_role(message):
    assert denied(message) == ""


@pytest.mark.sandbox
@pytest.mark.parametrize("knows_its_roles", [True, False])
def test_an_api_server_that_has_just_started_is_not_believed_when_it_refuses(cluster, plan, tmp_path, knows_its_roles):
    """It answers before it knows its roles: a restart in the middle of a switch must not look like a lost right."""
    states = ["starting", "starting", "ready"]

    def allowed():
        return granted(rendered(plan)) if knows_its_roles and len(states) == 1 else []

    def is_ready():
        return (states.pop(0) if len(states) > 1 else states[0]) == "ready"

    async def read(url):
        async with connect_with_kubeconfig(str(kubeconfig(tmp_path, url)), plan.cluster.namespace) as kube:
            return await patiently(partial(kube.get, "services", plan.cluster.service))

    with guarded(cluster, allowed, is_ready) as web:
        if knows_its_roles:
            assert asyncio.run(read(web.url))["metadata"]["name"] == plan.cluster.service
        else:
            with pytest.raises(Forbidden, match="may not get services"):
                asyncio.run(read(web.url))
    assert states == ["ready"]


@pytest.mark.sandbox
def test_a_refusal_from_before_it_knew_its_roles_is_not_believed_though_it_knows_them_when_asked(
    cluster, plan, tmp_path
):
    asked = []

    def allowed():
        return granted(rendered(plan)) if asked else []

    def is_ready():
        asked.append("readyz")
        return True

    async def read(url):
        async with connect_with_kubeconfig(str(kubeconfig(tmp_path, url)), plan.cluster.namespace) as kube:
            return await kube.get("services", plan.cluster.service)

    with guarded(cluster, allowed, is_ready) as web:
        assert asyncio.run(read(web.url))["metadata"]["name"] == plan.cluster.service
    assert asked == ["readyz"]


# --- asking for it


class Knows:
    """A cluster that is asked what the deployer may do."""

    def __init__(self, allowed):
        self.allowed = allowed

    async def may(self, permission):
        return permission in self.allowed


def test_whatever_is_missing_is_named_and_nothing_else():
    everything = granted(rendered(PMS))
    for lost in everything:
        kube = Knows([one for one in everything if one != lost])
        assert asyncio.run(permissions.missing(kube, PMS)) == [lost]


@pytest.mark.sandbox
def test_the_cluster_is_asked_for_each_of_them(guard, plan):
    assert missing(plan) == []
    (lost,) = [one for one in guard.all if str(one).startswith("get pods/log in ")]
    guard.allowed = [one for one in guard.all if one != lost]
    assert missing(plan) == [lost]


@pytest.mark.sandbox
def test_a_cluster_without_limits_lacks_nothing(plan):
    assert missing(plan) == []


@pytest.mark.sandbox
def test_opening_refuses_before_anything_is_touched(in_cluster, guard, plan):
    guard.without("patch", "services")
    step = Open(task_id="open", plan=plan)
    with pytest.raises(AirflowFailException) as refused:
        asyncio.run(step._open(step.step_run({"run_id": RUN_ID}), release(image("v1.1.0"))))
    where = plan.cluster.namespace
    assert str(refused.value) == (
        f"nothing was touched: the deployer may not patch services/pms-api in {where}, patch services/pms-preview in "
        f"{where}: apply include/k8s/rbac.yaml (python -m handover rbac --plan pms | kubectl apply -f -)"
    )
    assert in_cluster(lambda kube: kube.find(lock.LEASES, plan.lock_name)) is None


@pytest.mark.sandbox
def test_a_step_that_is_refused_gives_it_as_its_reason_and_may_be_tried_again(in_cluster, guard, plan, token):
    guard.without("create", "deployments")
    guard.without("patch", "deployments")
    ti = Ti(token, release("unused:tag"))
    with pytest.raises(Forbidden):
        DeployIdleColour(task_id="deploy", plan=plan).execute({"run_id": RUN_ID, "ti": ti})
    reason = ti.pushed[EVIDENCE_KEY]["reason"]
    where = plan.cluster.namespace
    assert reason.startswith(
        f"the deployer may not patch deployments.apps/pms-green in {where}: apply include/k8s/rbac.yaml; PATCH "
    )
    assert ti.pushed[EVIDENCE_KEY]["verdict"] == "fail"
    assert in_cluster(lambda kube: kube.find(DEPLOYMENTS, "pms-green")) is None
    guard.allowed = guard.all
    DeployIdleColour(task_id="deploy", plan=plan).execute({"run_id": RUN_ID, "ti": ti})
    assert ti.pushed[EVIDENCE_KEY]["verdict"] == "pass"


@pytest.mark.sandbox
def test_a_step_that_is_refused_after_waiting_gives_it_as_its_reason(guard, plan, token):
    ti = Ti(token, release("unused:tag"))
    context = {"run_id": RUN_ID, "ti": ti}
    step = ReleaseCommand(task_id="smoke", plan=plan, command=("true",))
    with pytest.raises(TaskDeferred) as deferred:
        step.execute(context)
    guard.without("patch", "jobs")
    job = deferred.value.trigger.job
    with pytest.raises(Forbidden):
        getattr(step, deferred.value.method_name)(context, {"job": job, "succeeded": True, "reason": ""})
    assert "may not patch jobs.batch/" in ti.pushed[EVIDENCE_KEY]["reason"]


@pytest.mark.sandbox
def test_the_watch_beside_airflow_may_do_nothing_that_the_deployer_may_not():
    watch = set(granted(rendered(PMS, permissions.RBAC_WATCH)))
    assert watch
    assert watch < set(granted(rendered(PMS)))


def test_the_command_line(guard, plan, tmp_path, monkeypatch, capsys):
    assert main("rbac", ["--plan", "pms"]) == 0
    assert capsys.readouterr().out == rendered(PMS)
    assert main("rbac", ["--plan", "pms", "--watch"]) == 0
    assert capsys.readouterr().out == rendered(PMS, permissions.RBAC_WATCH)
    monkeypatch.setenv("PMS_PLAN_OVERLAY", str(tmp_path / "overlay.yaml"))
    check = ["--plan", str(INCLUDE / "plans" / "pms.yaml"), "--kubeconfig", str(guard.kubeconfig)]
    assert main("permissions", check) == 0
    guard.without("list", "endpointslices")
    assert main("permissions", check) == 1
    assert "may not list endpointslices.discovery.k8s.io in" in capsys.readouterr().err
    assert main("rbac", ["--plan", "nobody"]) == 2
