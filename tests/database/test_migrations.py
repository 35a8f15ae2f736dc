from __future__ import annotations

import base64
import gzip
import hashlib
import io
import tarfile

import pytest

from handover.database import ledger, migrations, statements
from handover.database.migrations import Bundle, BundleError, Row
from handover.database.release import BEGIN, END, unpack
from tests.database.conftest import bundle


def row(
    name: str, sql: str = "SELECT 1", *, finished: bool = True, rolled_back: bool = False, logs: str | None = None
) -> Row:
    return Row(f"id-{name}", name, hashlib.sha256(sql.encode()).hexdigest(), finished, rolled_back, logs)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("", []),
        (" ;; ", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'it''s; fine'; SELECT 2", ["SELECT 'it''s; fine'", "SELECT 2"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        ('SELECT 1 AS ";"; SELECT 2', ['SELECT 1 AS ";"', "SELECT 2"]),
        ("-- one; two\nSELECT 1", ["SELECT 1"]),
        ("/* one; /* two; */ three; */ SELECT 1", ["SELECT 1"]),
        ("DO $$ BEGIN PERFORM 1; END $$; SELECT 2", ["DO $$ BEGIN PERFORM 1; END $$", "SELECT 2"]),
        ("DO $x$ SELECT $$;$$; $x$; SELECT 2", ["DO $x$ SELECT $$;$$; $x$", "SELECT 2"]),
        ("SELECT a$b; SELECT 2", ["SELECT a$b", "SELECT 2"]),
        ("SELECT\n  1 ,\n\t2", ["SELECT 1 , 2"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END; SELECT 2",
            [
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 END; END",
                "SELECT 2",
            ],
        ),
    ],
)
def test_statements(sql: str, expected: list[str]) -> None:
    assert statements.split(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)", "create unique index concurrently i on t (a)", "VACUUM t", "vacuum",
        "DROP INDEX CONCURRENTLY i", "REINDEX TABLE CONCURRENTLY t", "REINDEX INDEX CONCURRENTLY i",
        "ALTER SYSTEM SET x = 1", "CREATE DATABASE d", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "REINDEX DATABASE d", "CLUSTER",
    ],
)  # fmt: skip
def test_statements_that_run_in_no_transaction(sql: str) -> None:
    assert statements.needs_no_transaction(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON t (a)", "CREATE INDEX concurrently_used ON t (a)", "ALTER TABLE t DETACH PARTITION p",
        "REINDEX TABLE t", "INSERT INTO notes VALUES ('VACUUM')", "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "CLUSTER t USING i",
    ],
)  # fmt: skip
def test_statements_that_run_in_a_transaction(sql: str) -> None:
    assert not statements.needs_no_transaction(sql)


def test_checksum_is_prisma_s() -> None:
    script = bundle(m1="SELECT 1;\n").scripts[0]
    assert script.checksum == hashlib.sha256(b"SELECT 1;\n").hexdigest()


def test_bundle_is_in_the_order_of_names() -> None:
    assert bundle(b="SELECT 2", a="SELECT 1", c="SELECT 3").names == ("a", "b", "c")


def test_pending_is_what_is_not_applied() -> None:
    rows = [row("a"), row("b", rolled_back=True), row("c", finished=False)]
    found = migrations.pending(bundle(a="SELECT 1", b="SELECT 1", c="SELECT 1", d="SELECT 1"), rows)
    assert [script.name for script in found] == ["b", "c", "d"]


def test_migration_that_was_rolled_back_and_applied_again_is_applied() -> None:
    assert migrations.applied([row("a", rolled_back=True), row("a")]) == ("a",)


def test_no_drift() -> None:
    assert migrations.drift(bundle(a="SELECT 1", b="SELECT 2"), [row("a")]) == []


def test_edited_migration_is_drift() -> None:
    assert migrations.drift(bundle(a="SELECT 2"), [row("a")]) == ["a was edited after it was applied"]


def test_missing_migration_is_drift() -> None:
    assert migrations.drift(bundle(b="SELECT 1"), [row("a")]) == ["a is applied, and the release does not have it"]


@pytest.mark.parametrize("rolled_back", [row("a", "SELECT 9", rolled_back=True), row("z", rolled_back=True)])
def test_what_was_rolled_back_is_no_drift(rolled_back: Row) -> None:
    assert migrations.drift(bundle(a="SELECT 1"), [rolled_back]) == []


def test_migration_that_began_and_did_not_end_is_stuck() -> None:
    assert "a began and did not end" in migrations.stuck([row("a", finished=False)])[0]


def test_failed_migration_of_prisma_is_stuck() -> None:
    assert migrations.stuck([row("a", finished=False, logs="ERROR")], ledger.ATOMIC_MARK)


def test_killed_migration_of_ours_is_not_stuck() -> None:
    assert migrations.stuck([row("a", finished=False, logs=ledger.ATOMIC_MARK)], ledger.ATOMIC_MARK) == []


@pytest.mark.parametrize("ended", [row("a"), row("a", finished=False, rolled_back=True)])
def test_migration_that_ended_is_not_stuck(ended: Row) -> None:
    assert migrations.stuck([ended]) == []


@pytest.mark.parametrize("sql", ["BEGIN; SELECT 1; COMMIT", "SELECT 1; ROLLBACK", "START TRANSACTION", "SAVEPOINT a"])
def test_transactions_of_a_script_s_own_are_refused(sql: str) -> None:
    assert migrations.unfit(bundle(a=sql).scripts) == [
        "a: BEGIN, COMMIT and the like are not allowed, every migration is one transaction already"
    ]


def test_concurrent_index_must_be_alone() -> None:
    both = bundle(a="CREATE INDEX CONCURRENTLY i ON t (a)", b="SELECT 1; CREATE INDEX CONCURRENTLY i ON t (a)")
    assert [script.problem is None for script in both.scripts] == [True, False]
    assert [script.transactional for script in both.scripts] == [False, False]


def test_script_that_is_not_utf_8_is_refused() -> None:
    assert migrations.Script("a", b"SELECT '\xff'").problem == "a: migration.sql is not UTF-8"


def archive(*members: tuple[str, bytes | None], kind: bytes = tarfile.REGTYPE) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else kind
            info.size = len(content or b"") if kind == tarfile.REGTYPE else 0
            info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def printed(data: bytes) -> str:
    return f"warning: something\n{BEGIN}\n{base64.encodebytes(data).decode()}{END}\n"


def test_bundle_of_an_image() -> None:
    data = archive(
        (".", None), ("./migration_lock.toml", b'provider = "postgresql"'), ("./20260101_a", None),
        ("./20260101_a/migration.sql", b"SELECT 1"), ("./20260101_a/down.sql", b"SELECT 2"),
        ("./20260102_b/migration.sql", b"SELECT 3"), ("./20260102_b/README.md", b"why"),
    )  # fmt: skip
    found = unpack(printed(gzip.compress(data)))
    assert found.names == ("20260101_a", "20260102_b")
    assert [script.down for script in found.scripts] == [b"SELECT 2", None]


@pytest.mark.parametrize(
    "data",
    [
        archive(("../evil/migration.sql", b"x")),
        archive(("a/../../evil/migration.sql", b"x")),
        archive(("/etc/migration.sql", b"x")),
        archive(("a/migration.sql", b"x"), kind=tarfile.SYMTYPE),
        archive(("a/migration.sql", b"x"), kind=tarfile.LNKTYPE),
        archive(("a/migration.sql", b"x"), kind=tarfile.FIFOTYPE),
        archive(("a b/migration.sql", b"x")),
        b"no archive at all" * 100,
    ],
)
def test_archives_that_are_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        Bundle.from_tar(data)


@pytest.mark.parametrize(
    "text",
    ["", "no such directory", f"{BEGIN}\nabc", f"{BEGIN}\n???\n{END}", f"{BEGIN}\nYWJj\n{END}",
     printed(gzip.compress(archive(("a/migration.sql", b"SELECT 1")))[:-20])],
)  # fmt: skip
def test_outputs_that_are_refused(text: str) -> None:
    with pytest.raises(BundleError):
        unpack(text)


def test_archive_that_grows_too_large_is_refused() -> None:
    bomb = gzip.compress(bytes(migrations.MAX_BYTES + 1))
    with pytest.raises(BundleError, match="more than"):
        unpack(printed(bomb))
