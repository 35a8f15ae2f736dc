"""What a team does before a release is ready: its migrations go to staging, come back, and go there again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from sandbox.hotel import migrations
from sandbox.hotel.releases import MIGRATIONS

_ROLLED_BACK = """
UPDATE _prisma_migrations SET rolled_back_at = now() WHERE migration_name = %s AND rolled_back_at IS NULL
"""


def on_staging(connection: psycopg.Connection[Any], names: Iterable[str]) -> list[str]:
    """Applies the migrations of a release, rolls back those that are new, and applies them again; gives the new ones.

    Needs a connection with autocommit.
    """
    names = list(names)
    new = migrations.apply(connection, names)
    for name in reversed(new):
        connection.execute((MIGRATIONS / name / "down.sql").read_bytes())
        connection.execute(_ROLLED_BACK, (name,))
    migrations.apply(connection, names)
    return new
