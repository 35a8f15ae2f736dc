"""Applies migrations the way Prisma does, for setting up databases: same table, same lock, same checksums.

Only for seeding and tests. A production database is migrated by whoever deploys.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg

from sandbox.hotel.releases import MIGRATIONS

LOCK = 72707369
"""The advisory lock Prisma takes."""

TABLE = """
CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                  varchar(36)  PRIMARY KEY NOT NULL,
    checksum            varchar(64)  NOT NULL,
    finished_at         timestamptz,
    migration_name      varchar(255) NOT NULL,
    logs                text,
    rolled_back_at      timestamptz,
    started_at          timestamptz  NOT NULL DEFAULT now(),
    applied_steps_count integer      NOT NULL DEFAULT 0
)
"""


def checksum(name: str, folder: Path = MIGRATIONS) -> str:
    """SHA-256 of a migration's SQL, as Prisma records it."""
    return hashlib.sha256((folder / name / "migration.sql").read_bytes()).hexdigest()


def apply(connection: psycopg.Connection[Any], names: Iterable[str], folder: Path = MIGRATIONS) -> list[str]:
    """Apply the migrations that are not recorded as finished, each as one query; returns what was applied.

    Needs a connection with autocommit. A failing migration leaves nothing behind but its row, with the error in `logs`.
    """
    connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
    try:
        connection.execute(TABLE)
        rows = connection.execute(
            "SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL"
        ).fetchall()
        done = {row[0] for row in rows}
        applied = []
        for name in names:
            if name not in done:
                _apply_one(connection, name, folder)
                applied.append(name)
        return applied
    finally:
        connection.execute("SELECT pg_advisory_unlock(%s)", (LOCK,))


def _apply_one(connection: psycopg.Connection[Any], name: str, folder: Path) -> None:
    key = str(uuid.uuid4())
    connection.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (%s, %s, %s)",
        (key, checksum(name, folder), name),
    )
    try:
        connection.execute((folder / name / "migration.sql").read_bytes())
    except psycopg.Error as error:
        connection.execute("UPDATE _prisma_migrations SET logs = %s WHERE id = %s", (str(error), key))
        raise
    connection.execute(
        "UPDATE _prisma_migrations SET applied_steps_count = 1, finished_at = now() WHERE id = %s", (key,)
    )
