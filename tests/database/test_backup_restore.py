from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import storage, tools
from handover.database.dump import DumpFailed, Taken, dump_to_s3
from handover.database.restore import RestoreFailed, differences, restore, scratch_database
from handover.models.deployment import BackupRecord
from tests.database.conftest import fill
from tests.support.postgres import PASSWORD, Servers


@pytest.fixture(scope="module")
def shop(servers: Servers) -> Database:
    """A shop for tests that change nothing in it."""
    return servers.copy("shop", "owner", fill)


@pytest.fixture(scope="module")
def taken(shop: Database, s3: Any, programs: None) -> Taken:
    return dump_to_s3(shop, s3, "backups", "production/shop.dump")


def names(s3: Any, prefix: str) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket="backups", Prefix=prefix).get("Contents", [])]


@pytest.mark.plan(
    "Create full backup of production database",
    "Using: AWS RDS Backup, pg_dump, or native tools",
    "pg_dump -h $DB_HOST_PROD",
    "Backup current data: ✓",
)
def test_backup_knows_what_is_in_it(taken: Taken, s3: Any) -> None:
    record = taken.record
    assert record.counts == {"customers": 300, "orders": 900, "lines": 900, "visits": 1}
    assert record.objects["constraints"] >= 6
    assert record.size_bytes == s3.head_object(Bucket="backups", Key=storage.place(record.uri)[1])["ContentLength"]
    assert storage.intact(s3, record)
    assert taken.bytes_per_second > 0


@pytest.mark.plan(
    "Full database backup: Created and verified",
    "Restore test successful (on non-prod DB)",
    "Backup strategy tested: ✓",
    "No data loss or corruption",
)
def test_backup_comes_back(taken: Taken, s3: Any, shop: Database) -> None:
    with scratch_database(shop, "shop_test") as target:
        assert differences(taken.record, restore(s3, taken.record, target)) == []
        with target.connect() as there:
            assert there.execute("SELECT sum(total) FROM orders").fetchone() == (900 * 901 // 2,)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        shop.named("shop_test").connect()


def test_scratch_database_of_a_killed_try_is_no_obstacle(shop: Database) -> None:
    name = "shop_left"
    with shop.connect() as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    with scratch_database(shop, name) as target, target.connect() as there:
        assert there.execute("SELECT 1").fetchone() == (1,)


def test_counts_are_of_the_dump_s_own_snapshot(database: Database, s3: Any) -> None:
    stop = threading.Event()

    def guests() -> None:
        with database.connect() as session:
            while not stop.is_set():
                session.execute("INSERT INTO customers (email, name) VALUES (gen_random_uuid()::text, 'new')")

    busy = threading.Thread(target=guests)
    busy.start()
    try:
        record = dump_to_s3(database, s3, "backups", f"{database.name}/busy.dump").record
    finally:
        stop.set()
        busy.join()
    with scratch_database(database, f"{database.name}_busy") as target:
        assert differences(record, restore(s3, record, target)) == []


def changed(s3: Any, record: BackupRecord, change: Callable[[bytearray], bytearray]) -> BackupRecord:
    """A copy of the backup in which something is not as it was written."""
    bucket, key = storage.place(record.uri)
    body = bytearray(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    s3.put_object(Bucket=bucket, Key="changed.dump", Body=bytes(change(body)))
    return record.model_copy(update={"uri": f"s3://{bucket}/changed.dump"})


def flipped(body: bytearray) -> bytearray:
    body[len(body) // 2] ^= 1
    return body


@pytest.mark.parametrize("damage", [lambda body: body[:-7], lambda body: body[: len(body) // 2], flipped])
def test_damaged_backup_is_found(taken: Taken, s3: Any, shop: Database, damage: Any) -> None:
    record = changed(s3, taken.record, damage)
    with (
        scratch_database(shop, "shop_damaged") as target,
        pytest.raises(storage.BackupDamaged, match="were written"),
    ):
        restore(s3, record, target)


def test_truncated_backup_is_not_intact(taken: Taken, s3: Any) -> None:
    assert not storage.intact(s3, changed(s3, taken.record, lambda body: body[:-1]))


def test_missing_backup_is_not_intact(taken: Taken, s3: Any) -> None:
    assert not storage.intact(s3, taken.record.model_copy(update={"uri": "s3://backups/none.dump"}))


@pytest.mark.plan("Restore test successful (on non-prod DB)")
def test_restored_rows_are_compared(taken: Taken, s3: Any, shop: Database) -> None:
    more = taken.record.model_copy(update={"counts": {**taken.record.counts, "orders": 901, "guests": 3}})
    with scratch_database(shop, "shop_fewer") as target:
        found = differences(more, restore(s3, taken.record, target))
    assert found == ["guests: 3 backed up, none restored", "orders: 901 backed up, 900 restored"]


def test_database_that_is_not_empty_takes_no_backup(taken: Taken, s3: Any, shop: Database) -> None:
    with pytest.raises(RestoreFailed, match="already exists"):
        restore(s3, taken.record, shop)


def test_backup_does_not_wait_for_a_locked_table_for_ever(database: Database, s3: Any) -> None:
    with database.connect() as session, session.transaction():
        session.execute("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DumpFailed, match="timeout"):
            dump_to_s3(database, s3, "backups", f"{database.name}/locked.dump", lock_wait_seconds=0.2)
    assert names(s3, f"{database.name}/") == []


class Killing:
    """S3 to which a dump is sent whose pg_dump is killed once its first part has come, with more to follow."""

    def __init__(self, s3: Any) -> None:
        self._s3, self.killed = s3, 0

    def upload_fileobj(self, stream: Any, *where: Any, **how: Any) -> None:
        self._stream = stream
        self._s3.upload_fileobj(self, *where, **how)

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        if not self.killed:
            self.killed = _pg_dump()
            os.kill(self.killed, signal.SIGKILL)
        return data


def test_killed_pg_dump_aborts_the_upload(database: Database, s3: Any) -> None:
    with database.connect() as session:
        session.execute("CREATE TABLE big AS SELECT repeat(md5(n::text), 1000) AS t FROM generate_series(1, 1200) n")
    killing = Killing(s3)
    with pytest.raises(DumpFailed, match="ended with -9"):
        dump_to_s3(database, killing, "backups", f"{database.name}/killed.dump", compression="none")
    assert killing.killed
    assert names(s3, f"{database.name}/") == []
    assert s3.list_multipart_uploads(Bucket="backups", Prefix=f"{database.name}/").get("Uploads", []) == []


def _pg_dump() -> int:
    """Our pg_dump's process; its command line does not tell the password."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes()
            mine = int((process / "stat").read_text().split()[3]) == os.getpid()
        except (OSError, ValueError, IndexError):
            continue
        if mine and b"pg_dump" in argv and b"--snapshot" in argv:
            assert PASSWORD.encode() not in argv
            return int(process.name)
    raise AssertionError("there is no pg_dump")


def test_pg_dump_that_takes_too_long_is_stopped(shop: Database, s3: Any) -> None:
    with pytest.raises(DumpFailed, match="longer than"):
        dump_to_s3(shop, s3, "backups", "slow/slow.dump", timeout_seconds=0.001)
    assert names(s3, "slow/") == []


def test_uploads_of_a_killed_try_are_ended(s3: Any) -> None:
    s3.create_multipart_upload(Bucket="backups", Key="left/backup_1_run.dump")
    s3.create_multipart_upload(Bucket="backups", Key="left/backup_1_other.dump")
    assert storage.abort_leftovers(s3, "backups", "left/backup_", "_run.dump") == 1
    assert storage.abort_leftovers(s3, "backups", "left/backup_", "_run.dump") == 0
    assert storage.abort_leftovers(s3, "backups", "left/backup_", "_other.dump") == 1


@pytest.mark.plan("aws s3 cp backup_*.dump", "Backup uploaded to S3/backup location")
def test_large_uploads_are_streamed_in_parts(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 * 1024 * 1024)  # the least that S3 takes
    size = 12 * 1024 * 1024

    class Zeros:
        left = size

        def read(self, most: int = -1) -> bytes:
            data = bytes(min(most, self.left))
            self.left -= len(data)
            return data

    hashing = storage.Hashing(Zeros())
    storage.write(s3, "backups", "parts.bin", hashing)
    assert hashing.size == s3.head_object(Bucket="backups", Key="parts.bin")["ContentLength"] == size
    assert s3.head_object(Bucket="backups", Key="parts.bin")["ETag"].endswith('-3"')


def test_pg_dump_older_than_the_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake(tmp_path / "old", 15)
    monkeypatch.setenv("PATH", str(tmp_path / "old"))
    monkeypatch.setattr(tools, "USUAL_FOLDERS", ())
    with pytest.raises(tools.ToolMissing, match=r"PostgreSQL 18 and needs a pg_dump .*old/pg_dump is 15"):
        tools.program("pg_dump", 18)


def test_program_nearest_to_the_server_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, major in (("a", 15), ("b", 19), ("c", 18)):
        _fake(tmp_path / folder, major)
    monkeypatch.setenv("PATH", os.pathsep.join(str(tmp_path / folder) for folder in "abc"))
    monkeypatch.setattr(tools, "USUAL_FOLDERS", ())
    assert tools.program("pg_dump", 18) == str(tmp_path / "c" / "pg_dump")
    assert tools.program("pg_dump", 14) == str(tmp_path / "a" / "pg_dump")


def test_no_program_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(tools, "USUAL_FOLDERS", ())
    with pytest.raises(tools.ToolMissing, match="there is none"):
        tools.program("pg_dump", 18)


def _fake(folder: Path, major: int) -> None:
    folder.mkdir()
    program = folder / "pg_dump"
    program.write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.2'\n")
    program.chmod(0o755)


def test_best_compression_that_pg_dump_has() -> None:
    pg_dump = tools.program("pg_dump", 18)
    said = subprocess.run(
        [pg_dump, "--compress=zstd:1", "--host=/nonexistent"], capture_output=True, text=True, check=False
    )
    assert tools.compression(pg_dump, "auto") == ("gzip:1" if "compress" in said.stderr else "zstd:1")
    assert tools.compression(pg_dump, "none") == "0"
    if "compress" in said.stderr:
        with pytest.raises(tools.ToolMissing, match="without zstd"):
            tools.compression(pg_dump, "zstd")


def test_password_is_in_no_representation(shop: Database) -> None:
    assert PASSWORD not in repr(shop)
    assert shop.environment()["PGPASSWORD"] == PASSWORD


def test_environment_of_programs_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "somewhere else")
    monkeypatch.setenv("PGPASSWORD", "somebody else's")
    found = Database.from_uri("postgresql://u@h:1/d?sslmode=require").environment()
    assert "PGSERVICE" not in found
    assert "PGPASSWORD" not in found
    assert found["PGSSLMODE"] == "require"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://u:p%40ss@h:5433/d", Database("h", 5433, "d", "u", "p@ss")),
        ("host=h dbname=d user=u", Database("h", 5432, "d", "u")),
        (
            "postgresql://u@h/d?sslmode=verify-full",
            Database("h", 5432, "d", "u", options=(("sslmode", "verify-full"),)),
        ),
    ],
)
def test_database_of_an_address(uri: str, expected: Database) -> None:
    assert Database.from_uri(uri) == expected


def test_address_in_s3() -> None:
    assert storage.place("s3://b/a/c.dump") == ("b", "a/c.dump")
    with pytest.raises(ValueError, match="not an address"):
        storage.place("/tmp/x")
