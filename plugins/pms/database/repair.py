"""Repairs damaged data in place from a backup, without losing what guests did since (rollback step 4, method 2).

Restoring the backup over production would lose every booking made after it. So the backup is restored beside
production, and only what the migration damaged comes over from there, in one transaction with the migrations' own
``down.sql``:

1. Rows that were in the backup and are gone are put back. (A row that a guest deleted meanwhile comes back too: a
   deleted row does not say who deleted it.)
2. Rows that the migration wrote last get the backup's values. PostgreSQL says who wrote a row last: its ``xmin``,
   and the migration's own is known, since `pms.database.runner` writes the migration's row in the same transaction.
   Rows that guests have written since, or that the migration never touched, keep what they are.
3. Where a column may not be NULL in the backup and is NULL now, whoever wrote the row last, it gets the backup's
   value: guests cannot have meant that.

What can be lost: a guest's change to a row of 2., made after the backup and before the migration. Tables without a
primary key cannot be repaired and are named.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pms.database import catalog, ledger, runner
from pms.database.catalog import Column
from pms.database.connections import Database
from pms.database.migrations import Script
from pms.database.restore import RestoreFailed, restore, scratch_database
from pms.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.sql import Composable

__all__ = ["RepairFailed", "Repaired", "RestoreFailed", "repair"]
log = logging.getLogger(__name__)
CHUNK = 5000
"""Rows that are looked up in the backup at once."""


class RepairFailed(Exception):
    """The data could not be repaired; production is as it was before."""


@dataclass(frozen=True)
class Repaired:
    """What was done to one table."""

    name: str
    inserted: int = 0
    not_inserted: int = 0
    updated: int = 0
    filled: int = 0
    skipped: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        found = {"put back": self.inserted, "in the way of rows to put back": self.not_inserted}
        return found | {"set to the backup's values": self.updated, "with filled columns": self.filled}

    @property
    def changed(self) -> bool:
        return bool(self.skipped) or any(self.numbers.values())

    @property
    def text(self) -> str:
        done = [f"{number} rows {what}" for what, number in self.numbers.items() if number]
        return f"{self.name}: {self.skipped or ', '.join(done) or 'as it was'}"


@dataclass(frozen=True)
class Table:
    """A table to repair. ``number`` makes the names of its temporary tables."""

    number: int
    name: str
    key: tuple[str, ...]
    columns: tuple[Column, ...] = field(repr=False)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that may not be NULL in the backup's schema."""
        return tuple(c.name for c in self.columns if c.required and c.name not in self.key)


def repair(
    production: Database, server: Database, scratch_name: str, client: Any, point: BackupRecord,
    scripts: Sequence[Script], limits: runner.Limits, *, timeout_seconds: float = 3600,
) -> list[Repaired]:  # fmt: skip
    """Repairs production from the backup ``point``, which is restored on ``server`` meanwhile.

    ``scripts``: migrations to undo, newest first. Raises `RepairFailed`, `RestoreFailed`,
    `pms.database.storage.BackupDamaged`, `pms.database.ledger.Busy` or `pms.database.runner.StatementFailed`; then
    production is as before, and the repair may be tried again.
    """
    with scratch_database(server, scratch_name) as beside:
        restore(client, point, beside, timeout_seconds=timeout_seconds)
        with (
            beside.connect() as backup,
            production.connect() as connection,
            ledger.locked(connection, limits.other_runner),
        ):
            return _repair(connection, backup, scripts, limits)


def _repair(
    connection: Connection[Any], backup: Connection[Any], scripts: Sequence[Script], limits: runner.Limits
) -> list[Repaired]:
    rows = ledger.rows(connection)
    applied = [script for script in scripts if any(r.applied and r.name == script.name for r in rows)]
    writers = [row.xid for row in rows if row.applied and row.name in {script.name for script in scripts}]
    found, skipped = _tables(connection, backup)
    for table in found:
        _fetch(connection, backup, table, writers)
    order = catalog.parents_first([table.name for table in found], catalog.references(backup))
    found.sort(key=lambda table: order.index(table.name))
    done: list[Repaired] = []

    def change() -> None:
        done[:] = _change(connection, found, writers, applied, limits)

    runner.patiently(change, limits)
    return done + skipped


def _tables(connection: Connection[Any], backup: Connection[Any]) -> tuple[list[Table], list[Repaired]]:
    """What can be repaired, and what cannot because it has no key."""
    there = set(catalog.tables(connection))
    found, skipped = [], []
    for number, name in enumerate(catalog.tables(backup)):
        if name == catalog.MIGRATIONS_TABLE or name not in there:
            continue
        key = catalog.primary_key(backup, name)
        if not key or key != catalog.primary_key(connection, name):
            skipped.append(Repaired(name, skipped="it has no primary key to find rows by, look at it yourself"))
            continue
        now = {column.name for column in catalog.columns(connection, name)}
        columns = tuple(column for column in catalog.columns(backup, name) if column.name in now)
        found.append(Table(number, name, key, columns))
    return found, skipped
