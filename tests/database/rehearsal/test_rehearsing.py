"""A release rehearsed on a real copy: production and the restore server are two real PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handover.adapters.postgres import Database
from handover.database import storage
from handover.database.dump import dump_to_s3
from handover.database.migrations import Bundle
from handover.database.rehearsal.copies import LOCK
from handover.database.rehearsal.rehearsing import rehearse
from handover.database.rehearsal.trial import Trial
from handover.models.deployment import BackupRecord
from handover.models.evidence import Evidence, Verdict
from handover.plan.model import INCLUDE
from tests.database.conftest import bundle, fill
from tests.support.cluster import plan_with
from tests.support.postgres import PASSWORD, Servers
from tests.support.until import until

Rehearse = Callable[..., Evidence]


@pytest.fixture(scope="module")
def production(servers: Servers) -> Database:
    """A shop whose rows nobody here changes."""

    def with_status(shop: Database) -> None:
        fill(shop)
        with shop.connect() as connection:
            connection.execute("UPDATE orders SET status = 'paid' WHERE id % 3 = 0")

    return servers.template("shop with status", "owner", with_status)


@pytest.fixture(scope="module")
def backup(production: Database, s3: Any) -> BackupRecord:
    """Verified, as a test restore leaves it."""
    record = dump_to_s3(production, s3, "backups", "rehearsed/night.dump").record
    storage.tag_restored(s3, record, 1.0)
    return record


@pytest.fixture
def elsewhere(replicated: Servers) -> Database:
    """Where copies are made, as a role that is no superuser there."""
    return Database(replicated.primary.host, replicated.primary.port, "postgres", "owner", PASSWORD)


@pytest.fixture
def rehearsed(
    production: Database, elsewhere: Database, backup: BackupRecord, s3: Any, tmp_path: Path, replicated: Servers
) -> Iterator[Rehearse]:
    """Rehearses a release; afterwards no copy is left."""

    def run(release: Bundle, *, server: Database = elsewhere, prefix: str = "rehearsed/", **rules: Any) -> Evidence:
        limits = {"max_lock_seconds": 30.0, "max_stall_seconds": 30.0, "max_backup_age_seconds": 1e9}
        plan = plan_with(
            tmp_path, backup={"bucket": "backups", "prefix": prefix, "encryption": None}, rehearsal=limits | rules
        )
        return rehearse(
            "rehearsal", plan, lambda copy: Trial(plan, copy, release), s3, server=server, production=production
        )

    yield run
    assert replicated.ask(elsewhere, "SELECT count(*) FROM pg_database WHERE datname LIKE '%rehearsal%'") == (0,)


def test_a_copy_is_restored_the_release_tried_on_it_and_the_copy_dropped(rehearsed: Rehearse) -> None:
    found = rehearsed(bundle(m1=("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP COLUMN note")))
    assert found.passed, found.reason
    assert found.reason.startswith("m1: forward and reverse and forward again in ")
    assert found.reason.endswith("left out: tests of old and new version (rehearsal.application_tests)")
    measured = {one.what: one.value for one in found.measurements}
    assert (measured["rehearsal_seconds"] or 0) > 0
    assert (measured["rehearsed_backup_age_seconds"] or 0) >= 0


def test_production_by_another_name_is_refused(rehearsed: Rehearse, servers: Servers, production: Database) -> None:
    by_another_name = Database(servers.other_address, production.port, "postgres", "owner", PASSWORD)
    found = rehearsed(bundle(), server=by_another_name)
    assert not found.passed
    assert found.reason == "backup.restore_connection leads to production, or to a physical copy of it"


def test_without_a_verified_backup_there_is_nothing_to_rehearse_on(
    rehearsed: Rehearse, production: Database, s3: Any
) -> None:
    assert "no backup in s3://backups/none/ was ever restored" in rehearsed(bundle(), prefix="none/").reason
    dump_to_s3(production, s3, "backups", "unverified/x.dump")
    assert "no backup in s3://backups/unverified/ was ever" in rehearsed(bundle(), prefix="unverified/").reason


def test_a_backup_that_is_too_old_is_refused(rehearsed: Rehearse) -> None:
    found = rehearsed(bundle(), max_backup_age_seconds=0.001)
    assert not found.passed
    assert "the newest verified backup, s3://backups/rehearsed/night.dump, is" in found.reason


def test_a_backup_that_was_changed_is_refused(rehearsed: Rehearse, production: Database, s3: Any) -> None:
    record = dump_to_s3(production, s3, "backups", "changed/x.dump").record
    whole = s3.get_object(Bucket="backups", Key="changed/x.dump")["Body"].read()
    s3.put_object(Bucket="backups", Key="changed/x.dump", Body=whole[:-1] + bytes([whole[-1] ^ 1]))
    storage.tag_restored(s3, record, 1.0)
    assert "were read" in rehearsed(bundle(), prefix="changed/").reason


KILLED = """
import json, sys
import boto3
from handover.adapters.postgres import Database
from handover.database.migrations import Bundle
from handover.database.rehearsal.rehearsing import rehearse
from handover.database.rehearsal.trial import Trial
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from pathlib import Path

given = json.load(sys.stdin)
s3 = boto3.client("s3", aws_access_key_id="test", aws_secret_access_key="test", **given["s3"])
plan = load_plan(INCLUDE / "plans" / "pms.yaml", Path(given["overlay"]))
release = Bundle.from_files({"m1/migration.sql": b"LOCK TABLE orders; SELECT pg_sleep(600)"})
server, production = (Database.from_uri(given[name]) for name in ("server", "production"))
rehearse("rehearsal", plan, lambda copy: Trial(plan, copy, release), s3, server=server, production=production)
"""


def test_a_rehearsal_that_was_killed_half_way_is_in_nobodys_way(
    rehearsed: Rehearse,
    replicated: Servers,
    elsewhere: Database,
    production: Database,
    s3_endpoint: str,
    tmp_path: Path,
) -> None:
    plan_with(tmp_path, backup={"bucket": "backups", "prefix": "rehearsed/", "encryption": None})
    where = {
        name: f"postgresql://{one.user}:{one.password}@{one.host}:{one.port}/{one.name}"
        for name, one in (("server", elsewhere), ("production", production))
    }
    given = where | {
        "overlay": str(tmp_path / "overlay.yaml"),
        "s3": {"endpoint_url": s3_endpoint, "region_name": "eu-central-1"},
    }
    environment = os.environ | {"PYTHONPATH": "plugins"}
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, text=True, cwd=INCLUDE.parent, env=environment
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(given))
    process.stdin.close()
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'pms_rehearsal' AND wait_event = 'PgSleep'"
    until(lambda: process.poll() is not None or replicated.ask(elsewhere, asleep) == (1,), "the migration")
    process.kill()
    assert process.wait() == -signal.SIGKILL
    lock = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM"
    until(lambda: replicated.ask(elsewhere, f"{lock} pg_database WHERE datname = 'postgres')") == (0,), "its end")
    found = rehearsed(bundle(m1=("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP note")))
    assert found.passed, found.reason


def test_two_rehearsals_do_not_meet(rehearsed: Rehearse, elsewhere: Database) -> None:
    with elsewhere.connect() as other:
        other.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        found = rehearsed(bundle())
    assert not found.passed
    assert found.reason == "another rehearsal is under way on the restore server"


def test_a_restore_server_that_does_not_answer_is_unknown(rehearsed: Rehearse, elsewhere: Database) -> None:
    found = rehearsed(bundle(), server=replace(elsewhere, password="wrong"))
    assert found.verdict is Verdict.UNKNOWN
