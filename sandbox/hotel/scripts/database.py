"""`npm run db:health-check` and `npm run db:check`: is the database there, and does it fit this code?

The health check is for any moment, also between the switch of traffic and the migration: it asks for what the code
cannot do without. `db:check` comes after the migration and asks for this release's migrations as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

import asyncpg

from sandbox.hotel import schema
from sandbox.hotel.scripts.checks import Checks, expect
from sandbox.hotel.settings import plain_dsn


async def _run(dsn: str, version: str, migrated: bool) -> int:
    checks = Checks()
    with checks.check("the database answers"):
        connection = await asyncpg.connect(dsn, timeout=5, command_timeout=10)
    if checks.failed:
        return checks.exit_code()
    try:
        with checks.check("a query runs"):
            expect(await connection.fetchval("SELECT 1") == 1, "SELECT 1 gave something else")
        with checks.check("the schema has what the code needs"):
            rows = await connection.fetch(schema.COLUMNS_SQL)
            lacking = schema.missing((row["name"] for row in rows), version, migrated=migrated)
            expect(not lacking, "missing: " + ", ".join(lacking))
        if migrated:
            await _check_migrations(checks, connection)
    finally:
        await connection.close()
    return checks.exit_code()


async def _check_migrations(checks: Checks, connection: asyncpg.Connection) -> None:
    """Every migration in the work folder is recorded as applied, with the checksum of its file; none is half done."""
    state = {}
    with checks.check("migrations are recorded"):
        rows = await connection.fetch(
            "SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL"
        )
        unfinished = [row["migration_name"] for row in rows if row["finished_at"] is None]
        expect(not unfinished, "failed: " + ", ".join(unfinished))
        state = {row["migration_name"]: row["checksum"] for row in rows}
    for path in sorted(Path("prisma/migrations").glob("*/migration.sql")):
        name = path.parent.name
        with checks.check(f"migration {name}"):
            expect(name in state, "not applied")
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            expect(state[name] == digest, "was applied with other SQL")


def main(script: str, _: list[str]) -> int:
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        print("DATABASE_URL is not set")
        return 1
    version = os.environ.get("PMS_VERSION", "v0.0.0")
    return asyncio.run(_run(plain_dsn(dsn), version, migrated=script == "db:check"))
