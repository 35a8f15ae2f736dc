"""The copy on which a release is rehearsed: the newest verified backup, restored where production is not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.postgres import Database
from handover.database import locales, storage
from handover.database.apart import stay_apart
from handover.database.encryption import key_of
from handover.database.restore import restore, scratch_database
from handover.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection

    from handover.plan.backups import BackupRules

LOCK = 0x6861_6E64_6F76
"""Advisory lock of the restore server: two rehearsals would measure each other."""


class NoCopy(Exception):
    """There is nothing that a release could be rehearsed on; nothing was changed anywhere."""


@dataclass(frozen=True)
class Copy:
    """``left_out``: what the restore has left out, since it belongs to the cluster."""

    database: Database
    backup: BackupRecord
    left_out: tuple[str, ...]


@contextmanager
def copied(
    client: Any, backups: BackupRules, *, server: Database, production: Database, name: str, max_age_seconds: float
) -> Iterator[Copy]:  # fmt: skip
    """A database ``name`` on ``server`` with what the newest verified backup has; dropped at the end. What a killed
    rehearsal left is dropped first: the lock says that nobody is at it any more.

    Raises `NoCopy`, `handover.database.apart.NotApart`, `handover.database.storage.BackupDamaged` or
    `handover.database.restore.RestoreFailed`.
    """
    stay_apart(server, production)
    _unmistakable(production, name)
    backup = storage.newest_verified(client, backups.bucket, backups.prefix)
    if backup is None:
        raise NoCopy(f"no backup in s3://{backups.bucket}/{backups.prefix} was ever restored for a test")
    if (age := clock.epoch() - backup.taken_at) > max_age_seconds:
        hours = f"{age / 3600:.1f} h old, at most {max_age_seconds / 3600:g} h are allowed"
        raise NoCopy(f"the newest verified backup, {backup.uri}, is {hours}")
    with server.connect() as admin, _alone(admin), scratch_database(server, name, like=production) as database:
        restored = restore(client, backup, database, open_with=key_of(backups), timeout_seconds=backups.timeout_seconds)
        unlike = locales.missing(database, production)
        yield Copy(database, backup, (*restored.left_out, unlike) if unlike else restored.left_out)


def _unmistakable(production: Database, name: str) -> None:
    """Raises `NoCopy` unless ``name``, which programs are given, can only be the copy's."""
    with production.connect() as connection:
        if connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone() is not None:
            raise NoCopy(f"production has a database {name}, as the copy is to be called")


@contextmanager
def _alone(admin: Connection[Any]) -> Iterator[None]:
    """Holds the lock until the session ends. Raises `NoCopy`."""
    found = admin.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
    if found != (True,):
        raise NoCopy("another rehearsal is under way on the restore server")
    yield
