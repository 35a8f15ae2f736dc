"""A release rehearsed on a real copy: production and the restore server are two real PostgreSQL."""

from __future__ import annotations

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
from handover.models.deployment import BackupRecord
from handover.models.evidence import Evidence, Verdict
from tests.database.conftest import bundle, fill
from tests.support.cluster import plan_with
from tests.support.postgres import PASSWORD, Servers

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
        plan = plan_with(tmp_path, backup={"bucket": "backups", "prefix": prefix}, rehearsal=limits | rules)
        return rehearse("rehearsal", plan, release, s3, server=server, production=production)

    yield run
    assert replicated.ask(elsewhere, "SELECT count(*) FROM pg_database WHERE datname LIKE '%rehearsal%'") == (0,)


def seen(found: Evidence) -> dict[str, float | None]:
    return {measured.what: measured.value for measured in found.measurements}


def test_a_good_migration_goes_forward_back_and_forward_again(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(
            m1=("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP COLUMN note"),
            m2=("CREATE TABLE notes (id int PRIMARY KEY)", "DROP TABLE notes"),
        )
    )
    assert found.passed, found.reason
    assert found.reason.startswith("m1, m2: forward and reverse and forward again in ")
    measured = seen(found)
    assert measured["m1: AccessExclusiveLock on orders"]
    assert measured["m1 (reverse): AccessExclusiveLock on orders"]
    assert "m2 (forward again): seconds" in measured
    assert (measured["rehearsal_seconds"] or 0) > 0


def test_a_rewrite_is_seen_with_its_lock_rows_wal_and_stall(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(
            m1=(
                "ALTER TABLE orders ALTER COLUMN customer_id TYPE int",
                "ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint",
            )
        )
    )
    assert found.passed, found.reason
    measured = seen(found)
    assert measured["m1: rows of orders rewritten"] == 900
    assert measured["m1: AccessExclusiveLock on orders"]
    assert measured["m1: stall of reads of orders"]
    assert measured["m1: stall of writes of orders"]
    assert (measured["m1: WAL bytes"] or 0) > 0
    assert "m1: rows of customers rewritten" not in measured


def test_a_lock_beyond_the_plan_is_refused_and_clients_have_felt_it(rehearsed: Rehearse) -> None:
    release = bundle(
        m1=("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.4)", "SELECT 1"),
    )
    found = rehearsed(release, max_lock_seconds=0.2, max_stall_seconds=0.3)
    assert not found.passed
    assert "m1: AccessExclusiveLock on orders would be held" in found.reason
    assert "m1: reads of orders would stall" in found.reason
    assert "0.2 s are allowed" in found.reason
    assert (seen(found)["m1: most waiting for orders"] or 0) >= 1


def test_rows_that_are_updated_for_long_stall_who_writes_the_same(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(m1=("UPDATE orders SET total = total + 1; SELECT pg_sleep(0.4)", "UPDATE orders SET total = total - 1")),
        max_stall_seconds=0.3,
    )
    assert not found.passed
    assert "m1: writes of the same rows of orders would stall" in found.reason
    assert "reads" not in found.reason
    assert seen(found)["m1: rows of orders updated"] == 900


@pytest.mark.parametrize(
    ("up", "down", "says"),
    [
        (
            "ALTER TABLE orders DROP COLUMN status",
            "ALTER TABLE orders ADD COLUMN status text NOT NULL DEFAULT 'open'",
            "rows of orders hold other values",
        ),
        ("DELETE FROM lines WHERE order_id > 890", "SELECT 1", "lines has 890 rows instead of 900"),
        ("CREATE INDEX by_status ON orders (status)", "SELECT 1", "INDEX public.by_status is left behind"),
        ("DROP TABLE visits", "SELECT 1", "TABLE public.visits is gone"),
        ("ALTER TABLE orders ALTER status DROP NOT NULL", "SELECT 1", "TABLE public.orders is another one"),
        ("CREATE TABLE t ()", "DROP TABLE nothing", 'the reverse of m1 fails: table "nothing" does not exist'),
    ],
)
def test_a_reverse_that_does_not_bring_it_all_back_is_refused_by_name(
    rehearsed: Rehearse, up: str, down: str, says: str
) -> None:
    found = rehearsed(bundle(m1=(up, down)))
    assert not found.passed
    assert says in found.reason


def test_a_column_that_comes_back_behind_the_others_is_no_difference(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(
            m1=(
                "CREATE TABLE kept AS SELECT id, name FROM customers; ALTER TABLE customers DROP COLUMN name",
                "ALTER TABLE customers ADD COLUMN name text; UPDATE customers c SET name = k.name FROM kept k"
                " WHERE k.id = c.id; ALTER TABLE customers ALTER name SET NOT NULL; DROP TABLE kept",
            )
        )
    )
    assert found.passed, found.reason


def test_a_migration_that_fails_is_refused_with_the_words_of_postgresql(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(m1=("SELECT 1", "SELECT 1"), m2=("ALTER TABLE orders ADD CHECK (status = 'open')", "SELECT 1"))
    )
    assert not found.passed
    assert 'check constraint "orders_status_check" of relation "orders" is violated by some row' in found.reason
    assert "m1: seconds" in seen(found)


def test_no_row_is_in_what_is_told(rehearsed: Rehearse) -> None:
    found = rehearsed(bundle(m1=("INSERT INTO customers (email, name) SELECT email, 'x' FROM customers", "SELECT 1")))
    assert "customers_email_key" in found.reason
    assert "example.com" not in found.model_dump_json()


def test_a_migration_without_a_way_back_is_refused(rehearsed: Rehearse) -> None:
    found = rehearsed(bundle(m1="ALTER TABLE orders ADD COLUMN note text"))
    assert not found.passed
    assert "m1 has no down.sql" in found.reason


def test_what_the_runner_would_refuse_is_refused_before_anything_runs(rehearsed: Rehearse) -> None:
    found = rehearsed(bundle(m1=("SELECT 1", "SELECT 1"), m2=("COPY orders FROM stdin", "SELECT 1")))
    assert not found.passed
    assert "the runner would refuse: m2: migration.sql, statement 1" in found.reason
    assert "m1: seconds" not in seen(found)


def test_an_index_that_is_built_concurrently_hinders_nobody(rehearsed: Rehearse) -> None:
    found = rehearsed(
        bundle(
            m1=("CREATE INDEX CONCURRENTLY by_status ON orders (status)", "DROP INDEX CONCURRENTLY by_status"),
        )
    )
    assert found.passed, found.reason
    assert not [what for what in seen(found) if what.startswith("m1: stall")]


def test_a_release_without_a_pending_migration_passes_and_says_so(rehearsed: Rehearse) -> None:
    assert rehearsed(bundle()).reason == "nothing is pending on the copy"


# --- the copy


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


def test_what_a_killed_rehearsal_has_left_is_dropped_by_the_next(
    rehearsed: Rehearse, replicated: Servers, elsewhere: Database
) -> None:
    replicated.ask(elsewhere, "CREATE DATABASE pms_rehearsal")
    with elsewhere.named("pms_rehearsal").connect() as left:
        left.execute("CREATE TABLE orders (half int)")
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
