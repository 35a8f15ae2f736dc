"""A whole rehearsal of a release, from the backup in S3 to the verdict, on a server of its own."""

from __future__ import annotations

from typing import Any

from handover.database.dump import dump_to_s3
from handover.database.migrations import Bundle
from handover.database.rehearsal.rehearsing import rehearse
from handover.database.rehearsal.result import ACCESS_EXCLUSIVE, REHEARSAL_SECONDS
from handover.database.rehearsal.trial import Trial
from handover.database.storage import tag_restored
from handover.models.evidence import Evidence
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.plan.rehearsal import RehearsalRules
from sandbox.bench_database.backup import BUCKET, ROW_BYTES, TABLE, programs, store
from sandbox.bench_database.bench import Bench, Line, Part
from sandbox.bench_database.postgres import pair
from sandbox.services.postgres import bin_dir

MINUTES = 10.0
FREE = 3600.0
"""Seconds: what is measured here is how long it takes, not whether this machine is quick enough for a plan."""
SCRIPTS = {
    "m1/migration.sql": b"ALTER TABLE letters ADD COLUMN answered boolean NOT NULL DEFAULT false",
    "m1/down.sql": b"ALTER TABLE letters DROP COLUMN answered",
    "m2/migration.sql": b"CREATE INDEX CONCURRENTLY letters_at ON letters (at)",
    "m2/down.sql": b"DROP INDEX CONCURRENTLY letters_at",
    "m3/migration.sql": b"ALTER TABLE letters ALTER COLUMN id TYPE numeric",
    "m3/down.sql": b"ALTER TABLE letters ALTER COLUMN id TYPE bigint",
}
"""A column, an index, and a table that is written anew in both directions."""


def measure(bench: Bench) -> Part:
    """The last script is what a plan would refuse: the table cannot be read while it is written anew."""
    rows = int(bench.gigabytes * 1e9 / ROW_BYTES)
    database = bench.servers.new("rehearsal")
    bench.say(f"{rows} rows")
    with database.connect() as connection:
        connection.execute(TABLE.replace("UNLOGGED ", "").format(rows=rows).encode())
    with programs(bin_dir()), store(bench) as client, pair(bench.home) as elsewhere:
        tag_restored(client, dump_to_s3(database, client, BUCKET, "rehearsal/night.dump").record, 1.0)
        plan, release = _plan(), Bundle.from_files(SCRIPTS)
        found = rehearse(
            "rehearsal", plan, lambda copy: Trial(plan, copy, release), client,
            server=elsewhere.primary, production=database,
        )  # fmt: skip
    bench.servers.drop(database)
    return _part(found, rows)


def _plan() -> Plan:
    plan = load_plan(INCLUDE / "plans" / "pms.yaml")
    rules = {"max_lock_seconds": FREE, "max_stall_seconds": FREE}
    changes: dict[str, Any] = {
        "backup": plan.backups.model_copy(update={"bucket": BUCKET, "prefix": "rehearsal/", "encryption": None}),
        "rehearsal": RehearsalRules.model_validate(rules),
    }
    return plan.model_copy(update=changes)


def _part(found: Evidence, rows: int) -> Part:
    seen = {measured.what: measured.value or 0.0 for measured in found.measurements}
    seconds = seen.get(REHEARSAL_SECONDS, 0.0)
    rewrite = f"m3: {ACCESS_EXCLUSIVE} on letters"
    lines = [
        Line("restored, forward, back, forward again", f"{seconds:.0f} s", f"below {MINUTES:g} min",
             found.passed and seconds < MINUTES * 60),
        Line("its verdict", found.reason if not found.passed else "pass", "pass", found.passed),
        Line("a table that is written anew cannot be read for", f"{seen.get(rewrite, 0.0):.1f} s"),
        Line("a new column, for", f"{seen.get(f'm1: {ACCESS_EXCLUSIVE} on letters', 0.0):.3f} s"),
    ]  # fmt: skip
    return Part({REHEARSAL_SECONDS: round(seconds, 1)}, lines, {"rows": rows, "measured": seen})
