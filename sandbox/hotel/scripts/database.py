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


async def _run(dsn: str, version: str, checksums: dict[str, str] | None) -> int:
    """Check the database; with `checksums` of the release's migrations, these too."""
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
            lacking = schema.missing((row["name"] for row in rows), version, migrated=checksums is not None)
            expect(not lacking, "missing: " + ", ".join(lacking))
        if checksums is not None:
            await _check_migrations(checks, connection, checksums)
    finally:
        await connection.close()
    return checks.exit_code()


async def _check_migrations(checks: Checks, connection: asyncpg.Connection, checksums: dict[str, str]) -> None:
    """Every migration of the release is recorded as applied, with the checksum of its file; none is half done."""
    state = {}
    with checks.check("migrations are recorded"):
        rows = await connection.fetch(
            "SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL"
        )
        unfinished = [row["migration_name"] for row in rows if row["finished_at"] is None]
        expect(not unfinished, "failed: " + ", ".join(unfinished))
        state = {row["migration_name"]: row["checksum"] for row in rows}
    for name, checksum in checksums.items():
        with checks.check(f"migration {name}"):
            expect(name in state, "not applied")
            expect(state[name] == checksum, "was applied with other SQL")


def _checksums() -> dict[str, str]:
    """The migrations in the work folder, by name, with the SHA-256 of their SQL."""
    paths = sorted(Path("prisma/migrations").glob("*/migration.sql"))
    return {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def main(script: str, _: list[str]) -> int:
    dsn = os.environ.get("DATABASE_URL")
    if not dsn:
        print("DATABASE_URL is not set")
        return 1
    version = os.environ.get("PMS_VERSION", "v0.0.0")
    checksums = _checksums() if script == "db:check" else None
    if checksums == {}:
        print("there are no migrations in prisma/migrations of the work folder")
        return 1
    return asyncio.run(_run(plain_dsn(dsn), version, checksums))
