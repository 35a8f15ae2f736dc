"""Takes a backup: one pg_dump, streamed to S3, hashed on the way (plan 1.2)."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover import clock
from handover.adapters.messages import printed
from handover.adapters.postgres import Database, cause, server_major
from handover.database import catalog, digest, encryption, locales, packing, storage, tools
from handover.models import table_name
from handover.models.deployment import BackupRecord

if TYPE_CHECKING:
    from psycopg import Connection

PIPE_BYTES = 1024 * 1024
LOCK_WAIT_SECONDS = 30.0
"""How long pg_dump may wait for a table. It locks every table (ACCESS SHARE) until it ends: a migration that wants one
meanwhile waits, and everybody else behind it. So a backup and a migration never run at the same time by plan."""

CHILDREN = 16
"""The version whose pg_dump takes the partitions of a table along."""
DEFINITION_SECONDS = 60
_NOT_SQL = (b"\\", b"SET lock_timeout", b"SET statement_timeout", b"SET transaction_timeout")
"""Lines for psql, and limits that are ours to set."""


class DumpFailed(Exception):
    """pg_dump did not end well; there is no backup."""


@dataclass(frozen=True)
class Taken:
    """A backup and what it took. ``counts`` of rows are those of the backup's own snapshot."""

    record: BackupRecord
    seconds: float
    compression: tools.Compression

    @property
    def bytes_per_second(self) -> float:
        return self.record.size_bytes / self.seconds


def dump_to_s3(
    database: Database, client: Any, bucket: str, key: str, *, compression: str = "auto", content_digest: bool = True,
    encrypt_with: encryption.BackupKey | None = None, timeout_seconds: float = 3600,
    lock_wait_seconds: float = LOCK_WAIT_SECONDS,
) -> Taken:  # fmt: skip
    """Streams ``pg_dump -F c`` of a database to ``s3://bucket/key``.

    Never more than a few parts of it are in memory, nothing is on disk. When pg_dump fails, is killed, or takes
    longer than ``timeout_seconds``, or when its rows cannot be counted, no object stays: raises `DumpFailed`. Raises
    `handover.database.tools.ToolMissing` when no installed pg_dump fits the server, and
    `handover.database.encryption.BadKey` before anything is read.

    :param content_digest: the record gets a digest of each table, where the server can work one out
    """
    begin, taken_at = clock.monotonic(), clock.epoch()
    with database.connect() as connection, ThreadPoolExecutor(1) as beside:
        locales.read_names(connection)
        _sees_all(connection, database.user)
        major = server_major(connection)
        pg_dump = tools.program("pg_dump", major)
        method = tools.compression(pg_dump, compression)
        size = catalog.database_bytes(connection)
        connection.execute("SELECT set_config('lock_timeout', %s, false)", (f"{int(lock_wait_seconds * 1000)}ms",))
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = catalog.export_snapshot(connection)
        command = [
            pg_dump, "--format=custom", f"--compress={method.switch}", f"--snapshot={snapshot}", "--no-password",
            f"--lock-wait-timeout={int(lock_wait_seconds * 1000)}",
        ]  # fmt: skip
        inside = beside.submit(_look, connection, content_digest and major >= digest.SINCE)
        try:
            with (
                _running(command, database, timeout_seconds) as output,
                encryption.encrypted(packing.packed(output) if method.packed else output, encrypt_with) as stream,
            ):
                hashing = storage.Hashing(stream)
                storage.write(client, bucket, key, hashing, expected_bytes=size)
            seen = _seen(inside, timeout_seconds - (clock.monotonic() - begin))
            record = BackupRecord(
                uri=f"s3://{bucket}/{key}", size_bytes=hashing.size, sha256=hashing.sha256, taken_at=taken_at,
                counts=seen.counts, objects=seen.objects, digests=seen.digests,
            )  # fmt: skip
            storage.seal(client, record)
        except BaseException:
            with suppress(Exception):
                connection.cancel_safe()
            with suppress(Exception):
                storage.delete(client, bucket, key)
            raise
    return Taken(record, clock.monotonic() - begin, method)


def _sees_all(connection: Connection[Any], user: str) -> None:
    """Raises `DumpFailed` where policies hide rows from this role; FORCE ROW LEVEL SECURITY does so from the owner."""
    if tables := catalog.hidden(connection):
        raise DumpFailed(f"row security hides rows of {', '.join(tables)} from {user}: who backs up needs BYPASSRLS")


@dataclass(frozen=True)
class _Seen:
    """What is in the dump's snapshot."""

    counts: dict[str, int]
    objects: dict[str, int]
    digests: dict[str, str]


def _look(connection: Connection[Any], with_digests: bool) -> _Seen:
    """An error here does not end the snapshot's transaction: pg_dump may need it still."""
    with connection.transaction():
        objects = catalog.object_counts(connection)
        if not with_digests:
            return _Seen(catalog.row_counts(connection), objects, {})
        found = digest.content_digests(connection, catalog.tables(connection))
    counts = {table: one.rows for table, one in found.items()}
    return _Seen(counts, objects, {table: one.digest for table, one in found.items()})


def _seen(inside: Future[_Seen], seconds: float) -> _Seen:
    import psycopg

    try:
        return inside.result(max(seconds, 0))
    except psycopg.Error as error:
        raise DumpFailed(f"what is in the backup cannot be counted: {cause(error)}") from error
    except TimeoutError:
        raise DumpFailed("what is in the backup was not counted within the plan's timeout") from None


def definition(database: Database, tables: Sequence[str]) -> bytes:
    """SQL that makes such tables again, without rows, owners, rights; with their partitions, keys, indices, triggers.

    Raises `DumpFailed`.
    """
    with database.connect() as connection:
        major = server_major(connection)
    which = "--table-and-children" if major >= CHILDREN else "--table"
    named = [f"{which}={'.'.join(map(table_name.quoted, table_name.split(table)))}" for table in tables]
    command = [tools.program("pg_dump", major), "--schema-only", "--no-owner", "--no-privileges", "--no-tablespaces"]
    done = subprocess.run(
        [*command, *named, "--no-password"], check=False, capture_output=True, env=database.environment(),
        timeout=DEFINITION_SECONDS,
    )  # fmt: skip
    if done.returncode:
        raise DumpFailed(f"pg_dump ended with {done.returncode}: {printed(done.stderr)}")
    return b"\n".join(line for line in done.stdout.splitlines() if not line.startswith(_NOT_SQL))


class _Output:
    """The output of a running program; its end is an error unless the program ended well."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Any, timed_out: threading.Event) -> None:
        self._process, self._errors, self._timed_out = process, errors, timed_out

    def read(self, size: int = -1) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if size < 0 or len(data) < size:
            self._ended()
        return data

    def _ended(self) -> None:
        code = self._process.wait()
        self._errors.seek(0)
        said = printed(self._errors.read())
        if self._timed_out.is_set():
            raise DumpFailed("pg_dump was stopped: it took longer than the plan's timeout")
        if code != 0:
            raise DumpFailed(f"pg_dump ended with {code}: {said}")


@contextmanager
def _running(command: list[str], database: Database, timeout_seconds: float) -> Iterator[_Output]:
    timed_out = threading.Event()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, pipesize=PIPE_BYTES,
            env=database.environment() | {"PGAPPNAME": "pg_dump"},  # as everybody's dump is told from other sessions
        )  # fmt: skip

        def stop() -> None:
            timed_out.set()
            process.kill()

        timer = threading.Timer(timeout_seconds, stop)
        timer.start()
        try:
            yield _Output(process, errors, timed_out)
        finally:
            timer.cancel()
            process.kill()
            if process.stdout:
                process.stdout.close()
            process.wait()
