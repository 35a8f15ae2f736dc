"""What a rollback does with the database: a pure decision (rollback step 4).

The plan's method 1, ``prisma migrate resolve --rolled-back``, refuses applied migrations and undoes no SQL, so undoing
means to run the migration's own ``down.sql``. Its method 2, restoring the backup over production, would lose every
row written since; so data is repaired in place from the restore point (`handover.database.repair`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from handover.models.deployment import MigrationRecord


class Action(StrEnum):
    KEEP = "keep"
    REVERSE = "reverse"
    RESTORE = "restore"
    ASK = "ask"
    """Nothing safe can be done without a person."""


@dataclass(frozen=True)
class UndoChoice:
    """What to do, to which migrations (newest first), and why. ``loses``: what users may lose by it."""

    action: Action
    why: str
    names: tuple[str, ...] = ()
    loses: str = ""


def undo(
    migration: MigrationRecord, applied: Collection[str], reversible: Collection[str], *, restorable: bool,
    unknown: Collection[str] = (),
) -> UndoChoice:  # fmt: skip
    """The decision.

    :param migration: what the deployment knows of its migration
    :param applied: names that the database itself says are applied now
    :param reversible: names that have a down.sql
    :param restorable: there is a verified backup from before the migration
    :param unknown: names that began, did not end, and may have left something
    """
    if unknown:
        return UndoChoice(
            Action.ASK, f"{', '.join(sorted(unknown))} began and did not end, and may have left a part of it: see what "
            "is there, then mark it with prisma migrate resolve", tuple(unknown),
        )  # fmt: skip
    ours = tuple(sorted((set(migration.planned) | set(migration.applied)) & set(applied), reverse=True))
    without = [name for name in ours if name not in reversible]
    if migration.corrupt:
        if not restorable:
            return UndoChoice(Action.ASK, "data is damaged and there is no backup from before the migration", ours)
        return UndoChoice(
            Action.RESTORE, "data is damaged: it is repaired from the backup before the migration", ours,
            "what users changed in repaired rows between that backup and the migration",
        )  # fmt: skip
    if not ours:
        why = "the migration left nothing behind" if migration.started else "no migration ran"
        return UndoChoice(Action.KEEP, why)
    if migration.compatible:
        return UndoChoice(Action.KEEP, "the old version has passed its tests on the new schema")
    unsure = "does not run" if migration.compatible is False else "was never tested"
    if without and migration.compatible is None:
        return UndoChoice(
            Action.KEEP, f"the old version {unsure} on the new schema, but {', '.join(without)} cannot be undone: "
            "whether it runs is for the next steps to see", ours,
        )  # fmt: skip
    if without:
        return UndoChoice(
            Action.ASK, f"the old version {unsure} on the new schema, and {', '.join(without)} has no down.sql", ours
        )
    return UndoChoice(
        Action.REVERSE, f"the old version {unsure} on the new schema", ours,
        "what the new version wrote into tables and columns of its own",
    )  # fmt: skip
