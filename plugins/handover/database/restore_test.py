"""Proves a backup: reads it back into a database of its own, and compares what came back (plan 1.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover.adapters.postgres import Database
from handover.models.deployment import BackupRecord
from handover.models.evidence import Evidence, Measurement, failed, passed

if TYPE_CHECKING:
    from handover.database.encryption import BackupKey


def prove_restore(
    check: str, record: BackupRecord, client: Any, *, server: Database, production: Database, scratch: str,
    timeout_seconds: float, open_with: BackupKey | None = None,
) -> Evidence:  # fmt: skip
    """Passes when every byte is what was written and the restored database has the rows, constraints and indices of
    the backup's own snapshot, and each table its digest; then the object in S3 is tagged with the seconds that it took.

    :param server: where the database ``scratch`` is made and dropped; never the production server,
        by whatever address
    """
    from handover.database import locales, storage
    from handover.database.apart import NotApart, stay_apart
    from handover.database.restore import RestoreFailed, differences, other_contents, restore, scratch_database

    unlike = ""
    try:
        stay_apart(server, production)
        with scratch_database(server, scratch, like=production) as target:
            unlike = locales.missing(target, production)
            restored = restore(client, record, target, open_with=open_with, timeout_seconds=timeout_seconds)
            wrong = differences(record, restored) + other_contents(record, target)
    except (NotApart, storage.BackupDamaged, RestoreFailed) as error:
        return failed(check, f"{error}; without {unlike}" if unlike else str(error))
    seen = [
        Measurement(what=f"restored rows of {table}", value=rows, source=record.uri)
        for table, rows in restored.counts.items()
    ]
    seen.append(Measurement(what="restore_seconds", value=round(restored.seconds, 3), unit="s", source=record.uri))
    if wrong:
        return failed(check, "; ".join(wrong), *seen)
    storage.tag_restored(client, record, restored.seconds)
    rows = sum(restored.counts.values())
    said = f"{rows} rows in {len(restored.counts)} tables came back"
    said += ", each table with its digest" if record.digests else "; the backup has no digests of what is in them"
    if left_out := [*restored.left_out, *([unlike] if unlike else [])]:
        said += f"; left out, since the cluster has it and not the data: {', '.join(left_out)}"
    return passed(check, said, *seen)
