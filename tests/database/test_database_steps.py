"""The steps as a deployment runs them, on a twin of the cluster with the hotel's images and on real databases."""

from __future__ import annotations

import asyncio
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyrage.x25519 import Identity

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adapters.postgres import Database
from handover.coordination import state
from handover.database import release
from handover.database.migrations import Bundle
from handover.database.operators import (
    Backup,
    DatabaseRefused,
    DataIntegrity,
    Migrate,
    RollBackDatabase,
    SchemaCheck,
)
from handover.database.operators import TestRestore as RestoreTest  # pytest would collect it by its name
from handover.database.operators import TestRestore as RestoreTested
from handover.models.deployment import DeploymentState, FencingToken
from handover.models.evidence import Evidence
from handover.models.readiness import ENCRYPTED
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.step import Step, StepRun
from sandbox.hotel import build
from tests.database.conftest import connections, small_hotel
from tests.support import steps
from tests.support.cluster import Cluster, plan_with
from tests.support.postgres import PASSWORD, Servers
from tests.support.web import Answer, serving
from tests.twins.beside import cluster_in_memory
from tests.twins.kube import TwinCluster

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The hotel's images by tag."""
    return {one["tag"]: one for one in build.build(tmp_path_factory.mktemp("images"))["images"]}


def pinned(entry: dict[str, Any]) -> str:
    return f"{entry['repository']}@{entry['digest']}"


@pytest.fixture
def twin(entries: dict[str, dict[str, Any]]) -> Iterator[TwinCluster]:
    """Runs the programs of those images."""
    folders = {pinned(entry): entry["workdir"] for entry in entries.values()}

    def program(image: str, argv: list[str]) -> tuple[int, str]:
        done = subprocess.run(argv, cwd=folders[image], stdout=subprocess.PIPE, text=True, check=False)
        return done.returncode, done.stdout

    with cluster_in_memory(program=program) as made:
        yield made


@pytest.fixture
def hotel(replicated: Servers) -> Database:
    return replicated.copy("hotel", "owner", small_hotel)


class Deployment:
    """One deployment of the hotel: runs its steps and says what it remembers."""

    def __init__(self, plan: Plan, in_cluster: Callable[..., Any], image: str) -> None:
        self.plan, self._in_cluster, self.release = plan, in_cluster, steps.release(image)
        self.token: FencingToken = in_cluster(lambda kube: steps.opened(kube, plan.lock_name, image))

    def run(self, step: type[Step], /, **arguments: Any) -> steps.Ran:
        return steps.run(step(task_id=step.__name__.lower(), plan=self.plan, **arguments), self.token, self.release)

    def prepare(self) -> None:
        for kind, arguments in ((SchemaCheck, {}), (Backup, {"kind": "restore_point"})):
            ran = self.run(kind, **arguments)
            assert ran.evidence.passed, ran.evidence.reason

    @property
    def state(self) -> DeploymentState:
        return self._in_cluster(lambda kube: state.read(kube, self.plan.lock_name))

    def remember(self, **migration: Any) -> None:
        def change(old: DeploymentState) -> DeploymentState:
            return old.model_copy(update={"migration": old.migration.model_copy(update=migration)})

        self._in_cluster(lambda kube: state.update(kube, self.plan.lock_name, self.token, change))


@pytest.fixture
def deploy(
    twin: TwinCluster, in_cluster: Callable[..., Any], entries: dict[str, dict[str, Any]], hotel: Database,
    replicated: Servers, servers: Servers, s3: Any, s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., Deployment]:  # fmt: skip
    connections(monkeypatch, hotel, replicated)
    steps.connect_to(
        monkeypatch, "pms_restore", conn_type="postgres", login="owner", password=PASSWORD, schema="postgres",
        host=servers.primary.host, port=hotel.port,
    )  # fmt: skip
    extra = {"endpoint_url": s3_endpoint, "region_name": "eu-central-1"}
    steps.connect_to(monkeypatch, "pms_aws", conn_type="aws", login="test", password="test", extra=extra)
    steps.connect_to(monkeypatch, "pms_backup_key", conn_type="generic", password=str(Identity.generate()))

    def begin(tag: str, migration: Any = None, **sections: Any) -> Deployment:
        backup = {"bucket": "backups", "prefix": f"{hotel.name}/", "min_bytes": "1kB"} | sections
        return Deployment(
            plan_with(tmp_path, backup=backup, migration=migration or {}), in_cluster, pinned(entries[tag])
        )

    return begin


def test_a_cluster_gives_the_migrations_that_are_in_the_image(
    cluster: Cluster, entries: dict[str, dict[str, Any]], namespace: str
) -> None:
    """The rest of this file runs the image's program itself."""
    cluster.know(*entries.values())
    plan = PLAN.model_copy(update={"cluster": PLAN.cluster.model_copy(update={"namespace": namespace})})

    async def read() -> Bundle:
        async with connect_with_kubeconfig(str(cluster.kubeconfig), namespace) as kube:
            return await release.bundle(kube, plan, pinned(entries["v1.1.0"]), "a deployment")

    folder = Path(entries["v1.1.0"]["workdir"]) / plan.migration.path
    there = {path.parent.name: path.read_bytes() for path in folder.glob("*/migration.sql")}
    assert {script.name: script.sql for script in asyncio.run(read()).scripts} == there


@pytest.mark.plan(
    "Database Admin | Schema migration",
    "pg_dump -h $DB_HOST_PROD",
    "Backup current data: ✓",
    "SELECT COUNT(*) as user_count",
    "SELECT COUNT(*) as booking_count",
    "SELECT COUNT(*) as room_count",
    "psql -h $DB_HOST_PROD",
    "SELECT * FROM bookings WHERE status = 'confirmed'",
    "SELECT * FROM users WHERE role = 'admin'",
    "npx prisma migrate resolve --rolled-back",
    "SELECT COUNT(*) FROM bookings WHERE booking_id IS NULL",
    "SELECT COUNT(*) FROM rooms WHERE room_id IS NULL",
    "SELECT COUNT(*) FROM bookings WHERE user_id NOT IN",
    "SELECT COUNT(*) FROM bookings WHERE room_id NOT IN",
    "SELECT MIN(created_at), MAX(created_at) FROM users",
    "SELECT MIN(check_in), MAX(check_out) FROM bookings",
    "Phase 4: Database migration",
)
def test_good_release_goes_out_and_comes_back(deploy: Callable[..., Deployment], hotel: Database) -> None:
    deployment = deploy("v1.1.0")
    for kind, arguments in (
        (Backup, {"kind": "backup"}), (RestoreTest, {}), (SchemaCheck, {}), (Backup, {"kind": "restore_point"}),
        (Migrate, {}), (DataIntegrity, {}), (Migrate, {}),
    ):  # fmt: skip
        ran = deployment.run(kind, **arguments)
        assert ran.evidence.passed, (kind, ran.evidence.reason)
    remembered = deployment.state
    assert remembered.backup
    assert remembered.restore_point
    assert remembered.backup.uri != remembered.restore_point.uri
    assert remembered.migration.applied == remembered.migration.planned == ("20261103100000_booking_channel",)
    assert remembered.migration.counts["bookings"] == 500

    again = deployment.run(Backup, kind="backup")
    assert "is there already" in again.evidence.reason
    assert deployment.state.backup == remembered.backup

    deployment.remember(compatible=False)
    back = deployment.run(RollBackDatabase)
    assert back.evidence.passed, back.evidence.reason
    assert "reverse" in back.evidence.reason
    with hotel.connect() as connection:
        assert connection.execute("SELECT to_regclass('guest_preferences')").fetchone() == (None,)
    assert "keep" in deployment.run(RollBackDatabase).evidence.reason


@pytest.mark.plan("Watch database connection count", "Monitor database CPU usage (should spike briefly)")
def test_what_is_seen_during_a_migration_is_on_record(
    deploy: Callable[..., Deployment], hotel: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = {"data": {"resultType": "scalar", "result": [0, "0.42"]}}
    deployment = deploy("v1.1.0")
    deployment.prepare()
    with serving(lambda _asked: Answer(body=busy)) as web:
        steps.connect_to(monkeypatch, "pms_prometheus", host=web.host, port=web.port, schema="http")
        ran = deployment.run(Migrate)
    seen = {measured.what: measured.value for measured in ran.evidence.measurements}
    assert seen["max_database_cpu"] == 0.42
    assert (seen["max_database_connections"] or 0) >= 1
    assert seen["max_replication_lag_seconds"] is not None


@pytest.mark.plan("Only if data corruption detected")
def test_compatible_schema_stays(deploy: Callable[..., Deployment], hotel: Database) -> None:
    deployment = deploy("v1.1.0")
    deployment.prepare()
    assert deployment.run(Migrate).evidence.passed
    deployment.remember(compatible=True)
    assert "keep" in deployment.run(RollBackDatabase).evidence.reason
    with hotel.connect() as connection:
        assert connection.execute("SELECT to_regclass('guest_preferences') IS NOT NULL").fetchone() == (True,)


@pytest.mark.plan("Migration completes without errors", "No database issues")
def test_failing_migration(deploy: Callable[..., Deployment], hotel: Database) -> None:
    deployment = deploy("v1.6.0")
    deployment.prepare()
    ran = deployment.run(Migrate)
    assert not ran.evidence.passed
    assert "20261110100000_one_guest_per_room_night: statement 2 (CREATE UNIQUE INDEX" in ran.evidence.reason
    assert deployment.state.migration.applied == ("20261103100000_booking_channel",)
    back = deployment.run(RollBackDatabase)
    assert back.evidence.passed, back.evidence.reason
    assert "undone: 20261103100000_booking_channel" in back.evidence.reason


@pytest.mark.plan(
    "Database Admin | Schema migration",
    "SELECT COUNT(*) FROM users; # Should match",
    "SELECT COUNT(*) FROM bookings; # Should match",
    "SELECT COUNT(*) FROM rooms; # Should match",
    "Data counts match pre-migration",
    "Data corruption detected",
    "Method 2: Restore from backup",
    "(with active monitoring and validation)",
    "SELECT COUNT(*) FROM users WHERE email IS NULL",
    "No database issues",
    "Data integrity verified",
    "No data loss or corruption",
)
def test_corrupting_migration_is_found_and_repaired(deploy: Callable[..., Deployment], hotel: Database) -> None:
    def look() -> list[Any]:
        whole = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {} t"
        with hotel.connect() as connection:
            return [
                connection.execute(whole.format(table).encode()).fetchone()
                for table in ("users", "bookings", "payments")
            ]

    before, deployment = look(), deploy("v1.7.0")
    deployment.prepare()
    assert deployment.run(Migrate).evidence.passed
    checked = deployment.run(DataIntegrity)
    assert not checked.evidence.passed
    assert "rows of bookings: 10 of 500 rows from before are gone" in checked.evidence.reason
    assert "users have an e-mail address" in checked.evidence.reason
    assert deployment.state.migration.corrupt
    back = deployment.run(RollBackDatabase)
    assert back.evidence.passed, back.evidence.reason
    assert "bookings: 10 rows put back" in back.evidence.reason
    assert look() == before
    assert not deployment.state.migration.corrupt


def test_no_migration_asked_for(deploy: Callable[..., Deployment]) -> None:
    deployment = deploy("v1.1.0")
    deployment.release = deployment.release.model_copy(update={"method": "none"})
    assert "without a migration" in deployment.run(Migrate).evidence.reason
    assert deployment.run(RollBackDatabase).evidence.reason == "keep: no migration ran"


@pytest.mark.plan("Backup file created with size >100MB")
def test_backup_that_is_too_small(deploy: Callable[..., Deployment], s3: Any) -> None:
    deployment = deploy("v1.1.0", min_bytes="100MB")
    ran = deployment.run(Backup, kind="backup")
    assert not ran.evidence.passed
    assert "realistic data has at least 100000000" in ran.evidence.reason
    assert deployment.state.backup is None
    assert "Contents" not in s3.list_objects_v2(Bucket="backups", Prefix=deployment.plan.backup.prefix)


def test_backup_leaves_encrypted_and_is_restored_with_the_connections_key(
    deploy: Callable[..., Deployment], s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = deploy("v1.1.0")
    said = deployment.run(Backup, kind="backup").evidence.reason
    assert said.endswith("encrypted before it left, to be opened by pms_backup_key")
    (there,) = s3.list_objects_v2(Bucket="backups", Prefix=deployment.plan.backup.prefix)["Contents"]
    assert s3.get_object(Bucket="backups", Key=there["Key"])["Body"].read().startswith(ENCRYPTED)
    assert deployment.run(RestoreTested).evidence.passed
    steps.connect_to(monkeypatch, "pms_backup_key", conn_type="generic", password=str(Identity.generate()))
    assert "pms_backup_key does not open it" in deployment.run(RestoreTested).evidence.reason
    open_to_readers = deploy("v1.1.0", prefix="plain/", encryption=None).run(Backup, kind="restore_point").evidence
    assert "whoever may read the bucket can read it" in open_to_readers.reason


@pytest.mark.plan("npx prisma db execute --stdin", "npx prisma validate")
def test_history_that_is_not_the_release_s(deploy: Callable[..., Deployment], hotel: Database) -> None:
    with hotel.connect() as connection:
        connection.execute("UPDATE _prisma_migrations SET checksum = repeat('0', 64) WHERE migration_name LIKE '%init'")
    deployment = deploy("v1.1.0")
    checked, ran = deployment.run(SchemaCheck), deployment.run(Migrate)
    assert "20260901090000_init was edited after it was applied" in checked.evidence.reason
    assert "refused, nothing was changed" in ran.evidence.reason
    assert not deployment.state.migration.started


def test_migration_that_breaks_a_rule_of_the_plan_is_refused_and_one_that_warns_is_not(
    deploy: Callable[..., Deployment],
) -> None:
    rule = "20261103100000_booking_channel/down.sql:6: ban-drop-table: Dropping a table may break existing clients."
    deployment = deploy("v1.1.0")
    checked = deployment.run(SchemaCheck)
    assert checked.evidence.passed, checked.evidence.reason
    assert "checks passed; warnings: " in checked.evidence.reason
    assert rule in checked.evidence.reason

    strict = deploy("v1.1.0", migration={"lint": {"refuse": ["ban-drop-table"]}})
    for step in (SchemaCheck, Migrate):
        ran = strict.run(step)
        assert not ran.evidence.passed
        assert rule in ran.evidence.reason
    assert not strict.state.migration.started


def test_database_that_takes_no_changes(
    deploy: Callable[..., Deployment], hotel: Database, replicated: Servers
) -> None:
    replicated.ask(replicated.primary, f"ALTER DATABASE {hotel.name} SET default_transaction_read_only = on")
    deployment = deploy("v1.1.0")
    for step in (SchemaCheck, Migrate):
        assert "somebody has made it read-only" in deployment.run(step).evidence.reason
    assert not deployment.state.migration.started


def test_rows_that_a_policy_hides_from_us_are_not_passed_over(
    deploy: Callable[..., Deployment], hotel: Database
) -> None:
    with hotel.connect() as connection:
        connection.execute(
            b"ALTER TABLE users ENABLE ROW LEVEL SECURITY; ALTER TABLE users FORCE ROW LEVEL SECURITY;"
            b" CREATE POLICY few ON users USING (false)"
        )
    with pytest.raises(DatabaseRefused, match="row-level security"):
        deploy("v1.1.0").run(SchemaCheck)


class Unlucky(SchemaCheck):
    """A step that meets an error which nobody expects."""

    def work(self, run: StepRun) -> Evidence:
        with self.primary.connect() as connection:
            connection.execute("CREATE TEMPORARY TABLE t (name text UNIQUE)")
            connection.execute("INSERT INTO t VALUES ('secret'), ('secret')")
        raise AssertionError


def test_error_that_nobody_expects_is_a_reason_without_rows(
    deploy: Callable[..., Deployment], monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[Evidence] = []
    monkeypatch.setattr(Unlucky, "_leave", lambda _, context, evidence: left.append(evidence))
    with pytest.raises(DatabaseRefused) as error:
        deploy("v1.1.0").run(Unlucky)
    assert [one.reason for one in left] == [
        'UniqueViolation: duplicate key value violates unique constraint "t_name_key"'
    ]
    assert "secret" not in "".join(traceback.format_exception(error.value))
