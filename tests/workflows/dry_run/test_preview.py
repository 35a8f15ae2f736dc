"""The dry run against a stand-in cluster and a real database: it tells what would be, and leaves all as it is."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from handover.adapters.postgres import Database
from handover.coordination import lock
from handover.database import ledger
from handover.foundation import EVIDENCE_KEY
from handover.kube.permissions import granted, rendered
from handover.models.evidence import Evidence, Verdict
from handover.step import RELEASE_KEY
from handover.workflows.dry_run.steps import (
    SUMMARY_KEY,
    MayBegin,
    ReleaseToTry,
    Summary,
    WouldDeploy,
    WouldMigrate,
    WouldSwitch,
    WouldTell,
)
from handover.workload.operators import DeployIdleColour
from sandbox.hotel import build
from tests.database.conftest import small_hotel
from tests.support.cluster import plan_with
from tests.support.postgres import PASSWORD
from tests.support.rbac import guarded, kubeconfig
from tests.support.steps import RUN_ID, connect_to
from tests.support.web import Answer, serving

pytestmark = [pytest.mark.sandbox, pytest.mark.usefixtures("looks_often")]
KINDS = (
    "services", "configmaps", "secrets", "pods", "apps/v1/deployments", "batch/v1/jobs", lock.LEASES,
)  # fmt: skip
WANTED = {"version": "v1.1.0", "reason": "a rehearsal", "banner": True, "method": "sql"}


class Ti:
    """The run's XComs, by task."""

    map_index = -1

    def __init__(self) -> None:
        self.left: dict[tuple[str, str], Any] = {}
        self.task_id = ""

    def xcom_push(self, key: str, value: Any) -> None:
        self.left[self.task_id, key] = json.loads(json.dumps(value))

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        return self.left.get((task_ids, key))


class Run:
    """One dry run, task by task."""

    def __init__(self, plan, **asked: Any) -> None:
        self.plan, self.ti, self.params = plan, Ti(), {**WANTED, **asked}

    def __call__(self, kind: type, name: str, **arguments: Any) -> Evidence:
        self.ti.task_id = name
        task = kind(task_id=name, plan=self.plan, opened_by="release", **arguments)
        context: Any = {"run_id": RUN_ID, "ti": self.ti, "params": self.params}
        try:
            task.execute(context)
        except AirflowFailException:
            if (name, EVIDENCE_KEY) not in self.ti.left:
                raise
        return Evidence.model_validate(self.ti.left.get((name, EVIDENCE_KEY)) or _nothing(name))


def _nothing(name: str) -> dict[str, Any]:
    return {"check": name, "verdict": "pass", "reason": ""}


@pytest.fixture(scope="module")
def entries(cluster, tmp_path_factory) -> list[dict[str, Any]]:
    """The hotel's images, which the cluster knows."""
    found = build.build(tmp_path_factory.mktemp("images"))["images"]
    cluster.know(*found)
    return found


@pytest.fixture
def hotel(servers) -> Database:
    return servers.template("hotel", "owner", small_hotel)  # nothing here changes it


@pytest.fixture
def slack(monkeypatch):
    with serving(lambda _: Answer(200, body={"ok": True})) as web:
        connect_to(monkeypatch, "pms_slack", conn_type="slack", password="x", extra={"base_url": f"{web.url}/"})
        yield web


@pytest.fixture
def world(cluster, namespace, in_cluster, plan, entries, hotel, tmp_path, monkeypatch):
    """v1.0.0 serves on blue; the registry knows every release; staging is a namespace of its own."""
    staging = f"{namespace}-staging"
    cluster.make("", "namespaces", {"metadata": {"name": staging}})
    cluster.make(staging, "secrets", {"metadata": {"name": "pms-secrets"}, "stringData": {"SETTING": "x"}})
    by_tag = {one["tag"]: one for one in entries}
    blue = by_tag["v1.0.0"]
    labels = {"app": "pms", "version": "blue"}
    image = f"{blue['repository']}@{blue['digest']}"
    cluster.make(namespace, "apps/v1/deployments", {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "pms-blue", "annotations": {"handover/version": "v1.0.0"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels},
                              "spec": {"containers": [{"name": "pms", "image": image}]}}},
    })  # fmt: skip

    def manifest(asked):
        found = by_tag.get(asked.path.rpartition("/")[2])
        return Answer(200, headers={"Docker-Content-Digest": found["digest"]}) if found else Answer(404)

    connect_to(
        monkeypatch, "pms_primary", conn_type="postgres", login="owner", password=PASSWORD, host=hotel.host,
        port=hotel.port, schema=hotel.name,
    )  # fmt: skip
    with serving(manifest) as web:
        connect_to(monkeypatch, "pms_registry", host=web.host, port=web.port)
        yield plan_with(
            tmp_path, image={"repository": blue["repository"]},
            cluster={"namespace": namespace, "staging_namespace": staging, "job_timeout_seconds": 60},
        )  # fmt: skip


def versions(in_cluster) -> dict[str, str]:
    """Every object of production with its resourceVersion."""

    async def work(kube):
        return {
            f"{kind}/{one['metadata']['name']}": one["metadata"]["resourceVersion"]
            for kind in KINDS
            for one in await kube.list(kind)
        }

    return in_cluster(work)


def contents(database) -> list[Any]:
    with database.connect() as connection:
        tables = connection.execute(
            "SELECT relname, xmin::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        return [*tables, *connection.execute("SELECT *, xmin::text FROM _prisma_migrations ORDER BY id").fetchall()]


def test_a_dry_run_tells_what_would_be_and_changes_nothing(world, in_cluster, hotel, slack):
    run, before, data = Run(world), versions(in_cluster), contents(hotel)
    run(ReleaseToTry, "release")

    deployed = run(WouldDeploy, "deploy")
    assert deployed.reason.startswith("Deployment pms-green: new; ")
    assert "metadata.annotations.handover/version: nothing -> v1.1.0" in deployed.reason
    switched = run(WouldSwitch, "switch")
    assert "spec.selector.version: blue -> green" in switched.reason
    assert "metadata.annotations.handover/generation: nothing -> 1" in switched.reason
    migrated = run(WouldMigrate, "migrate")
    assert migrated.passed, migrated.reason
    assert "statements, undone by down.sql)" in migrated.reason
    told = run(WouldTell, "tell")
    assert "slack #pms-deployments: @here Starting production deployment v1.1.0" in told.reason
    assert "e-mail: AI Hotel Assistant PMS v1.1.0: deployment completed successfully" in told.reason
    run(Summary, "summary", reads=["deploy", "switch", "migrate", "tell"])

    text = run.ti.left["summary", SUMMARY_KEY]
    assert text.startswith("# Dry run of v1.1.0: good\n\nNothing was changed.\n\n## deploy: pass\n\n")
    assert versions(in_cluster) == before
    assert contents(hotel) == data
    assert slack.asked == []


def test_it_asks_for_no_more_rights_than_the_deployment(world, cluster, tmp_path, monkeypatch):
    with guarded(cluster, lambda: granted(rendered(world))) as web:
        extra = {"kube_config_path": str(kubeconfig(tmp_path, web.url))}
        monkeypatch.setenv("AIRFLOW_CONN_PMS_KUBERNETES", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        run = Run(world)
        run(ReleaseToTry, "release")
        for kind in (WouldDeploy, WouldSwitch, WouldMigrate, WouldTell):
            found = run(kind, kind.__name__)
            assert found.passed, found.reason


def test_a_release_that_is_not_there_would_not_go_out(world, in_cluster):
    run, before = Run(world, version="v9.9.9"), versions(in_cluster)
    run(ReleaseToTry, "release")
    assert run(WouldDeploy, "deploy").verdict is Verdict.FAIL
    assert "push it, or correct the release" in run(WouldMigrate, "migrate").reason
    with pytest.raises(AirflowFailException, match="it would not go out: deploy, migrate, lost; nothing was changed"):
        run(Summary, "summary", reads=["deploy", "migrate", "lost"])
    assert "3 of 3 steps are against it" in run.ti.left["summary", SUMMARY_KEY]
    assert versions(in_cluster) == before


def test_a_request_that_makes_no_sense_is_refused_at_once(world):
    with pytest.raises(AirflowFailException, match="is not a semantic version"):
        Run(world, version="1.1")(ReleaseToTry, "release")


def test_everything_that_opening_would_refuse_is_told_at_once(world, in_cluster):
    in_cluster(lambda kube: lock.acquire(kube, world.lock_name, "manual__other", "another release"))
    before = versions(in_cluster)
    run = Run(world)
    run(ReleaseToTry, "release")
    found = run(MayBegin, "may_begin").reason
    assert "connections: " in found and "pms_slack" in found
    assert "readiness: nothing was touched: " in found
    assert "lock: manual__other since " in found
    assert "target: there is no Service pms-preview: make it" in found
    assert versions(in_cluster) == before


def test_what_serves_and_is_not_known_is_told_and_stops_every_step_that_needs_it(world, in_cluster):
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "web:v1.0.0"}]}}}}
    in_cluster(lambda kube: kube.merge("apps/v1/deployments", "pms-blue", patch))
    run, before = Run(world), versions(in_cluster)
    run(ReleaseToTry, "release")
    said = "Deployment pms-blue: it has no container pms (there: web)"
    assert f"target: {said}" in run(MayBegin, "may_begin").reason
    for kind in (WouldDeploy, WouldSwitch, WouldTell):
        found = run(kind, kind.__name__)
        assert (found.verdict, said in found.reason) == (Verdict.FAIL, True)
    assert versions(in_cluster) == before


def test_a_step_that_changes_production_fails_in_a_dry_run(world, in_cluster):
    run, before = Run(world), versions(in_cluster)
    run(ReleaseToTry, "release")
    assert ("release", RELEASE_KEY) in run.ti.left
    with pytest.raises(AirflowFailException, match="left no fencing_token"):
        run(DeployIdleColour, "deploy")
    assert versions(in_cluster) == before


def test_what_the_database_has_against_a_migration_is_named(world, servers, monkeypatch):
    own = servers.copy("hotel", "owner", small_hotel)
    connect_to(
        monkeypatch, "pms_primary", conn_type="postgres", login="owner", password=PASSWORD, host=own.host,
        port=own.port, schema=own.name,
    )  # fmt: skip
    run = Run(world)
    run(ReleaseToTry, "release")
    (name,) = re.findall(r"^by sql: (\S+) \(", run(WouldMigrate, "migrate").reason)

    with own.connect() as session:
        ledger.create(session)
        session.execute(
            "INSERT INTO public._prisma_migrations (id, checksum, migration_name, rolled_back_at)"
            " VALUES ('1', '', %s, now())", (name,),
        )  # fmt: skip
    again = run(WouldMigrate, "migrate")
    assert again.passed, again.reason
    assert f"; rolled back before, and pending again: {name}; warnings: {name}/down.sql:4: ban-drop" in again.reason

    servers.ask(own, "UPDATE public._prisma_migrations SET rolled_back_at = NULL, logs = 'somebody''s own'")
    failing = run(WouldMigrate, "migrate")
    assert failing.verdict is Verdict.FAIL
    assert failing.reason.startswith(f"{name} began and did not end")

    servers.ask(own, f"ALTER DATABASE {own.name} SET default_transaction_read_only = on")
    assert run(WouldMigrate, "migrate").reason == "somebody has made it read-only (default_transaction_read_only)"
