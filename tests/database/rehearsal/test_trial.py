"""A release's migrations on a real database: forward, back, forward again, and what is seen meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from handover.adapters.postgres import Database
from handover.database import runner
from handover.database.rehearsal import bystanders
from handover.database.rehearsal.result import RehearsalResult, evidence
from handover.database.rehearsal.trial import Trial
from handover.database.runner import StatementLimits
from handover.models.evidence import Evidence
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.rehearsal import RehearsalRules
from tests.database.conftest import bundle

Tried = Callable[..., Evidence]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_plan(INCLUDE / "plans" / "pms.yaml")


@pytest.fixture
def tried(database: Database, plan: Plan) -> Tried:
    """The verdict on a release, by its scripts; ``done``, ``granted`` and what the plan's section has may be given."""

    def run(
        scripts: dict[str, Any], done: tuple[str, ...] = (), granted: tuple[str, ...] = (), **rules: Any
    ) -> Evidence:
        trial = Trial(plan, database, bundle(**scripts), done=done, granted=granted)
        trial.run()
        result = RehearsalResult(
            backup="s3://b/k", age_seconds=1, runs=tuple(trial.runs), problems=tuple(trial.problems),
            left_out=tuple(trial.left_out),
        )  # fmt: skip
        wide = {"max_lock_seconds": 30.0, "max_stall_seconds": 30.0}
        return evidence("rehearsal", result, RehearsalRules(**wide | rules))

    return run


def seen(found: Evidence) -> dict[str, float | None]:
    return {measured.what: measured.value for measured in found.measurements}


def test_a_good_migration_goes_forward_back_and_forward_again(tried: Tried) -> None:
    found = tried(
        {
            "m1": ("ALTER TABLE orders ADD COLUMN note text", "ALTER TABLE orders DROP COLUMN note"),
            "m2": ("CREATE TABLE notes (id int PRIMARY KEY)", "DROP TABLE notes"),
        }
    )
    assert found.passed, found.reason
    assert found.reason.startswith("m1, m2: forward and reverse and forward again in ")
    measured = seen(found)
    assert measured["m1: AccessExclusiveLock on orders"]
    assert measured["m1 (reverse): AccessExclusiveLock on orders"]
    assert "m2 (forward again): seconds" in measured


def test_a_rewrite_is_seen_with_its_lock_rows_wal_and_stall(tried: Tried) -> None:
    found = tried(
        {
            "m1": (
                "ALTER TABLE orders ALTER COLUMN customer_id TYPE int",
                "ALTER TABLE orders ALTER COLUMN customer_id TYPE bigint",
            )
        }
    )
    assert found.passed, found.reason
    measured = seen(found)
    assert measured["m1: rows of orders rewritten"] == 900
    assert measured["m1: AccessExclusiveLock on orders"]
    assert measured["m1: stall of reads of orders"]
    assert measured["m1: stall of writes of orders"]
    assert (measured["m1: WAL bytes"] or 0) > 0
    assert "m1: rows of customers rewritten" not in measured


def test_a_lock_beyond_the_plan_is_refused_and_clients_have_felt_it(tried: Tried) -> None:
    release = {
        "m1": ("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.4)", "SELECT 1"),
    }
    found = tried(release, max_lock_seconds=0.2, max_stall_seconds=0.3)
    assert not found.passed
    assert "m1: AccessExclusiveLock on orders would be held" in found.reason
    assert "m1: reads of orders would stall" in found.reason
    assert "0.2 s are allowed" in found.reason


UNTIL_SOMEBODY_WAITS = """
LOCK TABLE orders IN SHARE MODE;
DO $$ BEGIN LOOP EXIT WHEN EXISTS (SELECT FROM pg_locks WHERE NOT granted); PERFORM pg_sleep(0.01); END LOOP; END $$
"""


def test_a_client_of_a_table_comes_and_waits_for_its_lock(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bystanders, "GIVES_WAY_SECONDS", 60)
    found = tried({"m1": (UNTIL_SOMEBODY_WAITS, "SELECT 1")})
    assert found.passed, found.reason
    measured = seen(found)
    assert measured["m1: most waiting for orders"] == 1
    assert measured["m1: stall of writes of orders"]
    assert "m1: stall of reads of orders" not in measured


def test_rows_that_are_updated_for_long_stall_who_writes_the_same(tried: Tried) -> None:
    found = tried(
        {"m1": ("UPDATE orders SET total = total + 1; SELECT pg_sleep(0.4)", "UPDATE orders SET total = total - 1")},
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
            "ALTER TABLE lines DROP COLUMN what",
            "ALTER TABLE lines ADD COLUMN what json",
            "rows of lines hold other values",
        ),
        ("DELETE FROM lines WHERE order_id > 890", "SELECT 1", "lines has 890 rows instead of 900"),
        ("CREATE INDEX by_status ON orders (status)", "SELECT 1", "INDEX public.by_status is left behind"),
        ("DROP TABLE visits", "SELECT 1", "TABLE public.visits is gone"),
        ("ALTER TABLE orders ALTER status DROP NOT NULL", "SELECT 1", "TABLE public.orders is another one"),
        ("CREATE TABLE t ()", "DROP TABLE nothing", 'the reverse of m1 fails: table "nothing" does not exist'),
    ],
)
def test_a_reverse_that_does_not_bring_it_all_back_is_refused_by_name(
    tried: Tried, up: str, down: str, says: str
) -> None:
    found = tried({"m1": (up, down)})
    assert not found.passed
    assert says in found.reason


def test_a_reverse_that_loses_rights_which_production_has_is_refused(tried: Tried, database: Database) -> None:
    view = "CREATE VIEW seen AS SELECT id FROM orders"
    with database.connect() as connection:
        connection.execute(view.encode())
    release = {"m1": ("DROP VIEW seen", view)}
    found = tried(release, granted=("public.seen", "public.gone"))
    assert "public.seen is made again, and what others may do with it (GRANT) is gone" in found.reason
    assert not found.passed


def test_a_column_that_comes_back_behind_the_others_is_no_difference(tried: Tried) -> None:
    found = tried(
        {
            "m1": (
                "CREATE TABLE kept AS SELECT id, name FROM customers; ALTER TABLE customers DROP COLUMN name",
                "ALTER TABLE customers ADD COLUMN name text; UPDATE customers c SET name = k.name FROM kept k"
                " WHERE k.id = c.id; ALTER TABLE customers ALTER name SET NOT NULL; DROP TABLE kept",
            )
        }
    )
    assert found.passed, found.reason


def test_a_migration_that_fails_is_refused_with_the_words_of_postgresql(tried: Tried) -> None:
    found = tried({"m1": ("SELECT 1", "SELECT 1"), "m2": ("ALTER TABLE orders ADD CHECK (total < 5)", "SELECT 1")})
    assert not found.passed
    assert 'check constraint "orders_total_check1" of relation "orders" is violated by some row' in found.reason
    assert "m1: seconds" in seen(found)


def test_no_row_is_in_what_is_told(tried: Tried) -> None:
    found = tried({"m1": ("INSERT INTO customers (email, name) SELECT email, 'x' FROM customers", "SELECT 1")})
    assert "customers_email_key" in found.reason
    assert "example.com" not in found.model_dump_json()


def test_a_migration_without_a_way_back_is_refused(tried: Tried) -> None:
    found = tried({"m1": "ALTER TABLE orders ADD COLUMN note text"})
    assert not found.passed
    assert "m1 has no down.sql" in found.reason


def test_what_the_runner_would_refuse_is_refused_before_anything_runs(tried: Tried) -> None:
    found = tried({"m1": ("SELECT 1", "SELECT 1"), "m2": ("COPY orders FROM stdin", "SELECT 1")})
    assert not found.passed
    assert "it would be refused: m2: migration.sql, statement 1" in found.reason
    assert "m1: seconds" not in seen(found)


def test_an_index_that_is_built_concurrently_hinders_nobody(tried: Tried) -> None:
    found = tried(
        {
            "m1": ("CREATE INDEX CONCURRENTLY by_status ON orders (status)", "DROP INDEX CONCURRENTLY by_status"),
        }
    )
    assert found.passed, found.reason
    assert not [what for what in seen(found) if what.startswith("m1: stall")]


def test_a_release_without_a_pending_migration_passes_and_says_so(tried: Tried) -> None:
    assert tried({}).reason == "nothing is pending on the copy"


# --- where production is by now


def test_what_production_has_applied_since_the_backup_is_applied_first_and_not_tried(tried: Tried) -> None:
    scripts = {
        "m1": ("CREATE TABLE since ()", "SELECT 1"),
        "m2": ("ALTER TABLE since ADD COLUMN note text", "ALTER TABLE since DROP note"),
    }
    found = tried(scripts, done=("m1",))
    assert found.passed, found.reason
    assert found.reason.startswith("m2: forward")


def test_a_backup_that_is_ahead_of_production_is_refused(
    tried: Tried, database: Database, limits: StatementLimits
) -> None:
    scripts = {"m1": ("SELECT 1", "SELECT 1")}
    runner.apply(database, bundle(**scripts), limits)
    found = tried(scripts)
    assert found.reason.startswith("m1 is applied in the backup and not in production: take a new one")
