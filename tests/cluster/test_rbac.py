"""The deployer's role on a real Kubernetes: enough for what it does, named when it is not, and no more than that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.cli.permissions import main
from handover.coordination.routing import DEPLOYMENTS
from handover.kube import jobs, permissions
from handover.kube.permissions import granted, rendered
from handover.models.annotations import notes
from handover.plan.model import Plan
from handover.ports.kube import Forbidden, Json, Kube, Permission
from handover.workload.manifests import deployment
from tests.support.cluster import image, plan_with
from tests.support.steps import opened

pytestmark = pytest.mark.cluster
RESOURCES = {
    "ServiceAccount": "serviceaccounts",
    "Role": "rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "rbac.authorization.k8s.io/v1/rolebindings",
}
RULES_SECONDS = 10.0
"""How long the API server may take to hear of a changed role."""
T = TypeVar("T")


@dataclass(frozen=True)
class World:
    """Two namespaces in which the plan's role was applied, seen by the administrator and by the deployer."""

    plan: Plan
    admin: Path
    deployer: Path

    def run(self, kubeconfig: Path, work: Callable[[Kube], Coroutine[Any, Any, T]], namespace: str = "") -> T:
        async def connected() -> T:
            async with connect_with_kubeconfig(str(kubeconfig), namespace or self.plan.cluster.namespace) as kube:
                return await work(kube)

        return asyncio.run(connected())

    def allow(self, allowed: list[Permission]) -> None:
        """The roles as they are, but with these permissions only."""
        for role in (m for m in yaml.safe_load_all(rendered(self.plan)) if m["kind"] == "Role"):
            role["rules"] = [_rule(one) for one in allowed if one.namespace == role["metadata"]["namespace"]]
            self.run(self.admin, _replacing(role), role["metadata"]["namespace"])

    def missing(self) -> list[Permission]:
        return self.run(self.deployer, lambda kube: permissions.missing(kube, self.plan))

    def until_missing(self, wanted: list[Permission]) -> None:
        deadline = time.monotonic() + RULES_SECONDS
        while (found := self.missing()) != wanted and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found == wanted


def _rule(one: Permission) -> Json:
    kind = f"{one.resource}/{one.subresource}" if one.subresource else one.resource
    names = {"resourceNames": [one.name]} if one.name else {}
    return {"apiGroups": [one.group], "resources": [kind], "verbs": [one.verb], **names}


def _replacing(body: Json) -> Callable[[Kube], Coroutine[Any, Any, Any]]:
    return lambda kube: kube.replace(RESOURCES[body["kind"]], body["metadata"]["name"], body)


def _applying(body: Json) -> Callable[[Kube], Coroutine[Any, Any, Any]]:
    return lambda kube: kube.apply(RESOURCES[body["kind"]], body)


def _deployer(admin: Path, folder: Path, token: str) -> Path:
    """The administrator's kubeconfig with the ServiceAccount's token in it, as docs/permissions.md makes one."""
    config = yaml.safe_load(admin.read_text())
    context = next(c for c in config["contexts"] if c["name"] == config["current-context"])["context"]
    cluster = next(c for c in config["clusters"] if c["name"] == context["cluster"])
    path = folder / "deployer.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "deployer", "clusters": [cluster],
                "users": [{"name": "deployer", "user": {"token": token}}],
                "contexts": [{"name": "deployer", "context": {"cluster": cluster["name"], "user": "deployer"}}],
            }
        )
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def kubeconfig(real_cluster: Any) -> Path:
    """The administrator's."""
    return Path(real_cluster.kubeconfig)


@pytest.fixture(scope="module")
def made(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, number = tmp_path_factory.mktemp("rbac"), int(time.time())
    names = [f"rbac-{number}", f"rbac-{number}-staging"]
    plan = plan_with(folder, cluster={"namespace": names[0], "staging_namespace": names[1]})
    world = World(plan, kubeconfig, folder / "deployer.kubeconfig")
    root, account = "/api/v1/namespaces", f"{plan.cluster.app}-deployer"
    for name in names:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        world.run(kubeconfig, lambda kube, body=body: kube._json("POST", root, body=body))  # type: ignore[misc]
    try:
        for body in yaml.safe_load_all(rendered(plan)):
            world.run(kubeconfig, _applying(body), body["metadata"]["namespace"])
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = world.run(
            kubeconfig, lambda kube: kube._json("POST", kube.path("serviceaccounts", account, "token"), body=asked)
        )
        _deployer(kubeconfig, folder, answer["status"]["token"])
        yield world
    finally:
        for name in names:
            world.run(kubeconfig, lambda kube, name=name: kube._json("DELETE", f"{root}/{name}"))  # type: ignore[misc]


@pytest.fixture
def world(made: World) -> World:
    """With the whole role."""
    made.allow(granted(rendered(made.plan)))
    made.until_missing([])
    return made


def test_the_manifest_as_it_is_lacks_nothing(made: World, tmp_path: Path) -> None:
    for body in (m for m in yaml.safe_load_all(rendered(made.plan)) if m["kind"] == "Role"):
        made.run(made.admin, _replacing(body), body["metadata"]["namespace"])
    made.until_missing([])
    where = made.plan.cluster
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        yaml.safe_dump({"cluster": {"namespace": where.namespace, "staging_namespace": where.staging_namespace}})
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PMS_PLAN_OVERLAY", str(overlay))
        assert main("permissions", ["--plan", "pms", "--kubeconfig", str(made.deployer)]) == 0


def test_whatever_is_missing_is_named_and_nothing_else(world: World) -> None:
    everything = granted(rendered(world.plan))
    for lost in everything:
        world.allow([one for one in everything if one != lost])
        world.until_missing([lost])


def test_a_deployer_without_a_role_lacks_everything(world: World) -> None:
    world.allow([])
    world.until_missing(list(granted(rendered(world.plan))))


def test_the_lock_the_state_and_a_job_are_allowed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handover.kube.reasons.PATIENCE_SECONDS", 0.0)  # nobody has pushed this image
    cluster = world.plan.cluster
    command = jobs.Command(name="check", key="test", image=image("v1.1.0"), argv=("true",))

    async def run_a_job(kube: Kube) -> Json:
        result = await jobs.run(kube, cluster, command)
        await jobs.answered(kube, result)
        return await kube.get(jobs.JOBS, result.job)

    world.run(world.deployer, lambda kube: opened(kube, world.plan.lock_name, image("v1.1.0")))
    for namespace in (cluster.namespace, cluster.staging_namespace):
        found = world.run(world.deployer, run_a_job, namespace)
        assert jobs.ANSWERED in notes(found)


def test_applying_a_colour_that_is_not_there_yet_needs_create_by_name(world: World) -> None:
    green = deployment(world.plan, "green", "v1.1.0", image("v1.1.0"), 1)
    lost = Permission(world.plan.cluster.namespace, "apps", "deployments", "create", "", "pms-green")
    world.allow([one for one in granted(rendered(world.plan)) if one != lost])
    world.until_missing([lost])
    with pytest.raises(Forbidden) as refused:
        world.run(world.deployer, lambda kube: kube.apply(DEPLOYMENTS, green))
    assert str(refused.value).startswith(f"the deployer may not {lost}: apply include/k8s/rbac.yaml; ")
    world.allow(granted(rendered(world.plan)))
    world.until_missing([])
    made = world.run(world.deployer, lambda kube: kube.apply(DEPLOYMENTS, green))
    assert made["metadata"]["name"] == "pms-green"


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (lambda kube: kube.get("secrets", "pms-secrets"), "get secrets/pms-secrets"),
        (lambda kube: kube.merge("services", "other", {"spec": {}}), "patch services/other"),
        (lambda kube: kube.merge(DEPLOYMENTS, "other", {"spec": {}}), "patch deployments.apps/other"),
        (lambda kube: kube.list("secrets"), "list secrets"),
        (lambda kube: kube.delete("pods", "other"), "delete pods/other"),
    ],
)
def test_what_the_role_does_not_allow_is_refused_by_name(world: World, work: Any, says: str) -> None:
    with pytest.raises(Forbidden, match=f"the deployer may not {says} in {world.plan.cluster.namespace}: "):
        world.run(world.deployer, work)
