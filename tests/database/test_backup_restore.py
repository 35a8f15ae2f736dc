from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import catalog, digest, storage, tools
from handover.database.dump import DumpFailed, Taken, dump_to_s3
from handover.database.restore import RestoreFailed, _choose, differences, restore, scratch_database
from handover.database.restore_test import prove_restore
from handover.models.deployment import BackupRecord
from handover.models.evidence import Evidence
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


ELSEWHERE = """
CREATE FUNCTION place() RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT current_database()';
CREATE TABLE made (n int, at text GENERATED ALWAYS AS (place()) STORED);
INSERT INTO made SELECT generate_series(1, 3);
"""


def proved(record: BackupRecord, s3: Any, production: Database, server: Database) -> Evidence:
    return prove_restore(
        "restore_test", record, s3, server=server, production=production, scratch=f"{production.name}_proved",
        timeout_seconds=600,
    )  # fmt: skip


@pytest.fixture
def elsewhere(replicated: Servers) -> Database:
    """A server that is not production's, as a role that is no superuser there."""
    return Database(replicated.primary.host, replicated.primary.port, "postgres", "owner", PASSWORD)


def test_rows_that_come_back_as_others_are_found_by_their_table(
    servers: Servers, database: Database, elsewhere: Database, s3: Any
) -> None:
    with database.connect() as session:
        session.execute(ELSEWHERE.encode())
    record = dump_to_s3(database, s3, "backups", f"{database.name}/others.dump").record
    assert record.digests.keys() == record.counts.keys()
    assert record.counts["made"] == 3
    found = proved(record, s3, database, elsewhere)
    assert not found.passed
    assert found.reason == "made: as many rows came back, but not with what was backed up"

    servers.ask(database, "DROP TABLE made")
    again = proved(dump_to_s3(database, s3, "backups", f"{database.name}/same.dump").record, s3, database, elsewhere)
    assert again.passed, again.reason
    assert again.reason.endswith("tables came back, each table with its digest")


def test_nothing_is_restored_on_production_by_whatever_address(
    servers: Servers, replicated: Servers, taken: Taken, shop: Database, elsewhere: Database, s3: Any
) -> None:
    by_another_name = Database(servers.other_address, shop.port, "postgres", shop.user, PASSWORD)
    found = proved(taken.record, s3, shop, by_another_name)
    assert (found.passed, found.reason) == (
        False, "backup.restore_connection leads to production, or to a physical copy of it",
    )  # fmt: skip
    standby = Database(replicated.replica.host, shop.port, "postgres", "owner", PASSWORD)
    assert "a physical copy" in proved(taken.record, s3, elsewhere, standby).reason


@pytest.mark.parametrize("side", ["production", "the restore server"])
def test_a_server_that_does_not_say_which_one_it_is_gets_no_test_restore(
    replicated: Servers, taken: Taken, shop: Database, elsewhere: Database, s3: Any, side: str
) -> None:
    new = replicated.new("owner")
    replicated.ask(replicated.primary.named(new.name), "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    server, production = (elsewhere, new) if side == "production" else (new, shop)
    found = proved(taken.record, s3, production, server)
    assert found.reason == "owner may not call pg_control_system(): nobody knows which server this is"


def test_a_backup_without_digests_passes_and_says_so(database: Database, elsewhere: Database, s3: Any) -> None:
    record = dump_to_s3(database, s3, "backups", f"{database.name}/plain.dump", content_digest=False).record
    assert record.digests == {}
    assert record.counts["orders"] == 900
    old = BackupRecord.model_validate({key: value for key, value in record.model_dump().items() if key != "digests"})
    found = proved(old, s3, database, elsewhere)
    assert found.passed, found.reason
    assert found.reason.endswith("; the backup has no digests of what is in them")


def test_digests_that_take_longer_than_the_dump_may_leave_no_object(
    database: Database, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(connection: psycopg.Connection[Any], _tables: object) -> dict[str, digest.Digest]:
        connection.execute("SELECT pg_sleep(600)")
        return {}

    monkeypatch.setattr(digest, "content_digests", slow)
    with pytest.raises(DumpFailed, match="the plan's timeout"):
        dump_to_s3(database, s3, "backups", f"{database.name}/slow.dump", timeout_seconds=1)
    assert names(s3, f"{database.name}/slow") == []


def test_scratch_database_of_a_killed_try_is_no_obstacle(shop: Database) -> None:
    name = "shop_left"
    with shop.connect() as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
    with scratch_database(shop, name) as target, target.connect() as there:
        assert there.execute("SELECT 1").fetchone() == (1,)


def test_a_database_of_a_killed_try_that_autovacuum_is_at_is_no_obstacle(vacuumed: Database) -> None:
    """The servers' own, and so no session that our role may end."""
    with scratch_database(vacuumed.named("postgres"), vacuumed.name) as target, target.connect() as there:
        assert there.execute("SELECT to_regclass('orders')").fetchone() == (None,)


def test_sessions_of_ours_in_it_are_ended_even_where_autovacuum_is_at_work(vacuumed: Database) -> None:
    with (
        vacuumed.connect() as left,
        scratch_database(vacuumed.named("postgres"), vacuumed.name) as target,
        target.connect() as there,
    ):
        assert there.execute("SELECT to_regclass('orders')").fetchone() == (None,)
        with pytest.raises(psycopg.OperationalError):
            left.execute("SELECT 1")


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


class Replacing:
    """S3 where somebody puts another backup in place of this one after it was read so many times."""

    def __init__(self, s3: Any, other: BackupRecord, after: int) -> None:
        self._s3, self._other, self._left = s3, other, after

    def get_object(self, **which: Any) -> Any:
        self._left -= 1
        if self._left < 0:
            bucket, key = storage.place(self._other.uri)
            which = {"Bucket": bucket, "Key": key}
        return self._s3.get_object(**which)


@pytest.fixture(scope="module")
def forged(servers: Servers, s3: Any, programs: None) -> BackupRecord:
    """A backup of a database with somebody else's table."""
    other = servers.new("owner")
    servers.ask(other, "CREATE TABLE forged AS SELECT repeat('x', 100) FROM generate_series(1, 30000)")
    return dump_to_s3(other, s3, "backups", "forged/forged.dump", compression="none").record


@pytest.mark.parametrize("reads", [0, 1, 2, 3])
def test_nothing_of_a_replaced_backup_is_run(
    taken: Taken, forged: BackupRecord, s3: Any, shop: Database, reads: int
) -> None:
    with scratch_database(shop, "shop_forged") as target:
        with pytest.raises(storage.BackupDamaged, match=r"were written|was replaced"):
            restore(Replacing(s3, forged, reads), taken.record, target)
        with target.connect() as there:
            assert there.execute("SELECT to_regclass('forged')").fetchone() == (None,)


def test_restore_of_an_object_that_is_gone_says_so(taken: Taken, s3: Any, shop: Database) -> None:
    with (
        scratch_database(shop, "shop_nothing") as target,
        pytest.raises(storage.BackupDamaged, match="cannot be read: NoSuchKey"),
    ):
        restore(s3, taken.record.model_copy(update={"uri": "s3://backups/none.dump"}), target)


def test_blocks_are_whole_however_little_comes_at_once(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "READ_BYTES", 10)
    body = bytes(range(25))
    s3.put_object(Bucket="backups", Key="drops.bin", Body=body)
    record = BackupRecord(
        uri="s3://backups/drops.bin", size_bytes=25, sha256=hashlib.sha256(body).hexdigest(), taken_at=0
    )

    class Drops:
        def get_object(self, **which: Any) -> Any:
            stream = io.BytesIO(s3.get_object(**which)["Body"].read())
            return {"Body": SimpleNamespace(read=lambda most: stream.read(min(most, 3)), close=stream.close)}

    assert [len(block) for block in storage.prove(Drops(), record).read()] == [10, 10, 5]


CLUSTER = """
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE ROLE only_here NOLOGIN;
CREATE POLICY few ON orders FOR SELECT TO only_here USING (id < 10);
CREATE PUBLICATION everything FOR ALL TABLES;
CREATE PUBLICATION few FOR TABLE customers;
CREATE PUBLICATION schemas FOR TABLES IN SCHEMA public;
CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false);
GRANT SELECT ON customers TO only_here;
COMMENT ON EXTENSION plpgsql IS 'of the cluster';
COMMENT ON POLICY few ON orders IS 'few';
COMMENT ON PUBLICATION few IS 'few';
COMMENT ON SUBSCRIPTION sub IS 'sub';
CREATE FUNCTION nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER looks ON ddl_command_start EXECUTE FUNCTION nothing();
COMMENT ON EVENT TRIGGER looks IS 'looks';
ALTER FUNCTION nothing() OWNER TO owner
"""


def test_what_belongs_to_the_cluster_is_left_out_and_said(
    servers: Servers, database: Database, elsewhere: Database, s3: Any
) -> None:
    mine = servers.primary.named(database.name)
    with mine.connect() as session:
        session.execute("SET allow_in_place_tablespaces = on")
        session.execute("CREATE TABLESPACE \"fast disk\" LOCATION ''")
    for statement in CLUSTER.split(";\n"):
        servers.ask(mine, statement)
    servers.ask(mine, 'ALTER TABLE visits SET TABLESPACE "fast disk"')
    record = dump_to_s3(mine, s3, "backups", f"{database.name}/cluster.dump").record
    # the restore server has neither the role nor the tablespace, and ours is no superuser there
    servers.ask(mine, "ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
    for statement in (
        "DROP SUBSCRIPTION sub", "DROP OWNED BY only_here", "DROP ROLE only_here", "DROP EVENT TRIGGER looks",
        "ALTER TABLE visits SET TABLESPACE pg_default", 'DROP TABLESPACE "fast disk"',
    ):  # fmt: skip
        servers.ask(mine, statement)
    found = proved(record, s3, database, elsewhere)
    assert found.passed, found.reason
    for what in (
        "publication everything", "publication few", "subscription sub", "policy public orders few",
        "event trigger looks", 'tablespace "fast disk"', "publication table public few customers",
    ):  # fmt: skip
        assert what in found.reason


def test_an_extension_that_this_server_cannot_have_is_left_out(servers: Servers, database: Database, s3: Any) -> None:
    available = "SELECT name FROM pg_available_extension_versions WHERE superuser AND NOT trusted"
    found = servers.ask(servers.primary, f"{available} AND name = 'pg_stat_statements'")
    if not found:
        pytest.skip("no such extension here")
    servers.ask(servers.primary.named(database.name), "CREATE EXTENSION pg_stat_statements")
    record = dump_to_s3(database, s3, "backups", f"{database.name}/extension.dump").record
    with scratch_database(database, f"{database.name}_ext") as target:
        restored = restore(s3, record, target)
    assert restored.left_out == ("extension pg_stat_statements",)
    assert differences(record, restored) == []


OF_AN_EXTENSION = """
CREATE EXTENSION postgres_fdw;
CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'nowhere');
COMMENT ON SERVER far IS 'far';
CREATE USER MAPPING FOR PUBLIC SERVER far;
CREATE FOREIGN TABLE there (id int) SERVER far;
COMMENT ON COLUMN there.id IS 'id';
GRANT SELECT ON there TO record;
CREATE TRIGGER same BEFORE INSERT ON there FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
CREATE VIEW seen AS SELECT * FROM there
"""


def test_what_is_made_of_such_an_extension_is_left_out_with_it(
    servers: Servers, database: Database, elsewhere: Database, s3: Any
) -> None:
    for statement in OF_AN_EXTENSION.split(";\n"):
        servers.ask(servers.primary.named(database.name), statement)
    record = dump_to_s3(servers.primary.named(database.name), s3, "backups", f"{database.name}/far.dump").record
    found = proved(record, s3, database, elsewhere)
    assert found.passed, found.reason
    for what in ("extension postgres_fdw", "server far", "foreign table public there", "view public seen"):
        assert what in found.reason


LISTED = """;
; Selected TOC Entries:
;
8; 2615 16460 SCHEMA - cron postgres
3; 3079 16468 EXTENSION - cronx\x20
;\tdepends on: 8
239; 1255 16481 FUNCTION public f(cron.job) postgres
;\tdepends on: 3 8
223; 1259 16390 TABLE public orders owner
2463; 0 16470 TABLE DATA cron job postgres
;\tdepends on: 232
2653; 0 0 SEQUENCE SET cron job_id_seq postgres
;\tdepends on: 231
2464; 0 16390 TABLE DATA public orders owner
;\tdepends on: 223
"""


def test_an_extension_of_such_an_extension_is_left_out_with_it() -> None:
    other = "4; 3079 16470 EXTENSION - cronplus \n;\tdepends on: 3\n239; 1255"
    listed = LISTED.replace("239; 1255", other).replace("FUNCTION public f(cron.job)", "VIEW public jobs")
    assert _choose(listed, creatable=("cronplus",))[1][:2] == ["extension cronx", "extension cronplus"]


def test_an_extension_s_own_rows_are_left_out_with_it() -> None:
    listed = LISTED.replace("FUNCTION public f(cron.job)", "VIEW public jobs")
    wanted, left_out = _choose(listed, creatable=())
    assert [line.split()[3:] for line in wanted.splitlines()] == [
        ["SCHEMA", "-", "cron", "postgres"], ["TABLE", "public", "orders", "owner"],
        ["TABLE", "DATA", "public", "orders", "owner"],
    ]  # fmt: skip
    assert left_out == [
        "extension cronx", "view public jobs postgres", "table data cron job postgres",
        "sequence set cron job_id_seq postgres",
    ]  # fmt: skip
    assert len(_choose(listed, creatable=("cronx",))[0].splitlines()) == 7


@pytest.mark.parametrize("own", ["FUNCTION public f(cron.job)", "TABLE public jobs", "DEFAULT public orders id"])
def test_what_the_service_has_made_of_such_an_extension_fails_the_restore(own: str) -> None:
    said = f"{own.replace(own.split(' ')[0], own.split(' ')[0].lower())} postgres needs extension cronx, which"
    with pytest.raises(RestoreFailed, match=f"^{re.escape(said)}"):
        _choose(LISTED.replace("FUNCTION public f(cron.job)", own), creatable=())


def test_a_backup_of_another_locale_comes_back_in_it(servers: Servers, elsewhere: Database, s3: Any) -> None:
    servers.ask(
        servers.primary, "CREATE DATABASE letters OWNER owner TEMPLATE template0 LOCALE_PROVIDER builtin"
        " BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C'",
    )  # fmt: skip
    production = servers.owned("letters")
    with production.connect() as session:
        session.execute(
            b"CREATE TABLE guests (name text CHECK (name ~ '^[[:alpha:]]+$'),"
            b" lower text GENERATED ALWAYS AS (lower(name)) STORED); INSERT INTO guests (name) VALUES ('\xc3\x89lodie')"
        )
    record = dump_to_s3(production, s3, "backups", "letters/letters.dump").record
    found = proved(record, s3, production, elsewhere)
    assert found.passed, found.reason
    assert "locale" not in found.reason


def test_a_backup_comes_back_on_a_server_with_another_encoding(servers: Servers, s3: Any) -> None:
    latin = servers.latin("owner")
    with latin.connect() as session:
        session.execute("CREATE TABLE names AS SELECT 'M\u00fcller'::text AS name")
    record = dump_to_s3(latin, s3, "backups", "latin/latin.dump").record
    with scratch_database(latin, "latin_back", like=latin) as target:
        restore(s3, record, target)
        with target.connect() as there:
            assert there.execute("SELECT name FROM names").fetchone() == ("M\u00fcller",)
            assert there.execute("SHOW server_encoding").fetchone() == ("LATIN1",)


def test_a_row_that_the_restored_table_refuses_is_told_nowhere(
    database: Database, elsewhere: Database, s3: Any
) -> None:
    with database.connect() as session:
        session.execute(
            b"SET x.y = 'Jane'; CREATE TABLE guests"
            b" (name text CONSTRAINT k CHECK (name = coalesce(current_setting('x.y', true), 'nobody')));"
            b" INSERT INTO guests VALUES ('Jane')"
        )
    record = dump_to_s3(database, s3, "backups", f"{database.name}/guests.dump").record
    found = proved(record, s3, database, elsewhere)
    assert 'new row for relation "guests" violates check constraint "k"' in found.reason
    assert "Jane" not in found.model_dump_json()


@pytest.mark.parametrize(("encoding", "read"), [("latin1", "gr\u00f6\u00dfe"), ("utf-8", "gr\u00f6\u00dfe")])
def test_a_backup_without_an_encoding_has_tables_of_any_name(
    servers: Servers, elsewhere: Database, s3: Any, encoding: str, read: str
) -> None:
    name = f"ascii_{encoding[:3]}"
    servers.ask(
        servers.primary, f"CREATE DATABASE {name} OWNER owner TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C'"
        " LC_CTYPE 'C'",
    )  # fmt: skip
    production = servers.owned(name)
    with production.connect() as session:
        for statement in ("CREATE TABLE gr\u00f6\u00dfe (l\u00e4nge int)", "INSERT INTO gr\u00f6\u00dfe VALUES (7)"):
            session.execute("SET client_encoding = SQL_ASCII")
            session.execute(statement.encode(encoding))
    record = dump_to_s3(production, s3, "backups", f"{name}/any.dump").record
    assert record.counts == {read: 1}
    found = proved(record, s3, production, elsewhere)
    assert found.passed, found.reason


def test_a_table_that_may_not_be_read_is_named(servers: Servers, database: Database, s3: Any) -> None:
    servers.ask(servers.primary.named(database.name), "CREATE TABLE secret ()")
    with pytest.raises(DumpFailed, match="permission denied for table secret"):
        dump_to_s3(database, s3, "backups", f"{database.name}/secret.dump")
    assert names(s3, f"{database.name}/") == []


def test_a_backup_whose_rows_cannot_be_counted_stays_nowhere(
    database: Database, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_TABLES", "SELECT 1 / 0")
    with pytest.raises(DumpFailed, match="cannot be counted: division by zero"):
        dump_to_s3(database, s3, "backups", f"{database.name}/uncounted.dump")
    assert names(s3, f"{database.name}/") == []


def test_what_a_killed_try_did_not_seal_is_deleted(taken: Taken, s3: Any) -> None:
    sealed = dict.fromkeys(("b_1_run.dump", "b_2_run.dump", "b_3_other.dump"), b"x")
    for key, body in sealed.items():
        s3.put_object(Bucket="backups", Key=f"unsealed/{key}", Body=body)
    s3.put_object_tagging(
        Bucket="backups", Key="unsealed/b_2_run.dump", Tagging={"TagSet": [{"Key": storage.SHA256, "Value": "0"}]}
    )
    assert storage.abort_leftovers(s3, "backups", "unsealed/b_", "_run.dump") == 1
    assert names(s3, "unsealed/") == ["unsealed/b_2_run.dump", "unsealed/b_3_other.dump"]


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


def test_best_compression_that_pg_dump_has(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(wanted: str, *built_with: str) -> tools.Compression:
        monkeypatch.setattr(tools, "_compresses", lambda _program, switch: switch in built_with)
        tools.compression.cache_clear()
        return tools.compression("/pg_dump", wanted)

    assert found("auto", "zstd:1", "lz4", "gzip:1") == tools.Compression("zstd:1")
    assert found("auto", "lz4", "gzip:1") == tools.Compression("lz4")
    assert found("auto", "gzip:1") == found("zstd") == tools.Compression("0", packed=True)
    assert found("gzip", "1") == tools.Compression("1")
    assert found("none") == tools.Compression("0")
    with pytest.raises(tools.ToolMissing, match="without lz4"):
        found("lz4", "gzip:1")
    tools.compression.cache_clear()


def test_what_the_installed_pg_dump_compresses_with() -> None:
    pg_dump = tools.program("pg_dump", 18)
    said = subprocess.run(
        [pg_dump, "--compress=zstd:1", "--host=/nonexistent"], capture_output=True, text=True, check=False
    )
    without = "compress" in said.stderr
    assert str(tools.compression(pg_dump, "auto")) == f"--compress={'0, zstd:1 by us' if without else 'zstd:1'}"


@pytest.mark.parametrize("compression", ["auto", "gzip", "none"])
def test_however_it_was_compressed_it_comes_back(shop: Database, s3: Any, compression: str, programs: None) -> None:
    taken = dump_to_s3(shop, s3, "backups", f"production/{compression}.dump", compression=compression)
    with scratch_database(shop, f"shop_{compression}") as target:
        assert differences(taken.record, restore(s3, taken.record, target)) == []


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
