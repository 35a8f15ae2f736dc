"""The ledger's tables: SQL files of ``include/sql/record``, each applied once and in the order of their names."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handover.plan.model import INCLUDE

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.adapters.postgres import Database

FOLDER = INCLUDE / "sql" / "record"
LOCK = 5_177_301
"""Advisory lock: two installations at the same time do it one after the other."""
_TABLE = """
CREATE TABLE IF NOT EXISTS record_migrations (
    name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class SchemaChanged(Exception):
    """A file was edited after it had been applied; write a new one instead."""


def migrate(owner: Database, writer: str = "", folder: Path = FOLDER) -> list[str]:
    """Applies what is missing, all or nothing; gives the names. Raises `SchemaChanged` and `psycopg.Error`.

    :param owner: the database, as the role that shall own the tables
    :param writer: role that may add and read entries, and nothing else
    """
    with owner.connect(autocommit=False) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute(_TABLE)
        done = [name for path in sorted(folder.glob("*.sql")) if (name := _apply(connection, path))]
        if writer:
            _grant(connection, writer)
    return done


def _apply(connection: Connection[Any], path: Path) -> str:
    """The file's name if it was missing."""
    text = path.read_bytes()
    checksum = hashlib.sha256(text).hexdigest()
    known = connection.execute("SELECT checksum FROM record_migrations WHERE name = %s", (path.name,)).fetchone()
    if known and known[0] != checksum:
        raise SchemaChanged(f"{path.name} is not what was applied under that name; restore it and add a new file")
    if known:
        return ""
    connection.execute(text)
    connection.execute("INSERT INTO record_migrations (name, checksum) VALUES (%s, %s)", (path.name, checksum))
    return path.name


def _grant(connection: Connection[Any], writer: str) -> None:
    from psycopg.sql import SQL, Identifier

    role = Identifier(writer)
    connection.execute(SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
    connection.execute(SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(role))
    connection.execute(SQL("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO {}").format(role))
    connection.execute(SQL("REVOKE INSERT ON record_migrations FROM {}").format(role))
