"""Reads a backup back into a database of its own (plan 1.2 "restore test", rollback step 4 method 2)."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from handover import clock
from handover.adapters.postgres import Database, server_major
from handover.database import catalog, storage, tools
from handover.models.deployment import BackupRecord


class RestoreFailed(Exception):
    """pg_restore did not accept the backup."""


@dataclass(frozen=True)
class Restored:
    """What was found in the restored database."""

    counts: dict[str, int]
    objects: dict[str, int]
    seconds: float


@contextmanager
def scratch_database(server: Database, name: str) -> Iterator[Database]:
    """An empty database of this name, dropped at the end; one that a killed try left is dropped first."""
    from psycopg import sql

    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with server.connect() as admin:
        admin.execute(drop)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        yield server.named(name)
    finally:
        with server.connect() as admin:
            admin.execute(drop)


def restore(client: Any, record: BackupRecord, target: Database, *, timeout_seconds: float = 3600) -> Restored:
    """Streams a backup from S3 into an empty database.

    Every byte is read and hashed, also those that pg_restore does not care for: only that finds truncated and flipped
    archives. Raises `handover.database.storage.BackupDamaged` or `RestoreFailed`.
    """
    begin = clock.monotonic()
    with target.connect() as connection:
        pg_restore = tools.program("pg_restore", server_major(connection))
    command = [
        pg_restore, "--no-owner", "--no-privileges", "--exit-on-error", "--no-password", f"--dbname={target.name}",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors, env=target.environment()
        )
        timer = threading.Timer(timeout_seconds, process.kill)
        timer.start()
        try:
            _pump(client, record, process)
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
            process.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip()
    if code != 0:
        raise RestoreFailed(f"pg_restore ended with {code}: {said[-1000:] or 'no message'}")
    with target.connect() as connection:
        return Restored(catalog.row_counts(connection), catalog.object_counts(connection), clock.monotonic() - begin)


def _pump(client: Any, record: BackupRecord, process: subprocess.Popen[bytes]) -> None:
    """Feeds pg_restore; when it wants no more, the rest is read nevertheless, for its hash."""
    assert process.stdin is not None
    listening = True
    for data in storage.read(client, record):
        if listening:
            try:
                process.stdin.write(data)
            except BrokenPipeError:
                listening = False
    with suppress(BrokenPipeError):
        process.stdin.close()


def differences(record: BackupRecord, restored: Restored) -> list[str]:
    """What the restored database lacks or has too much, in words; empty when it is what was backed up."""
    before, after = record.counts | record.objects, restored.counts | restored.objects
    return [
        f"{name}: {before.get(name, 'none')} backed up, {after.get(name, 'none')} restored"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]
