from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
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
        ("-- one\rSELECT 1", ["SELECT 1"]),
        (
            "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2); SELECT 3",
            ["CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)", "SELECT 3"],
        ),
        ("SELECT U&'\\'; SELECT 2", ["SELECT U&'\\'", "SELECT 2"]),
        ("SELECT 1 AS namee'\\'; SELECT 2", ["SELECT 1 AS namee'\\'", "SELECT 2"]),
        ("SELECT 'never closed; SELECT 2", ["SELECT 'never closed; SELECT 2"]),
    ],
)
def test_statements(sql: str, expected: list[str]) -> None:
    assert statements.split(sql) == expected


MANY = 30_000


@pytest.mark.parametrize(
    "sql",
    [
        "'" + "''" * MANY, "E'" + r"\'" * MANY, "/*" * MANY, '"' * (2 * MANY + 1), "$a$ $b$ " * MANY, "(;" * MANY,
        "ALTER TABLE t " + "DETACH PARTITION " * MANY, "REINDEX " * MANY, "CREATE BEGIN ATOMIC CASE " * MANY,
        "BEGIN;COMMIT;" * MANY,
    ],
    ids=lambda sql: sql[:16],
)  # fmt: skip
def test_every_character_is_read_once(sql: str) -> None:
    """A reader that looks at all the rest for each of them would need many minutes for these."""
    script = migrations.Script("a", sql.encode())
    assert script.problem is None and not any(statement.alone for statement in statements.read(sql))
    assert len(script.forward.sent) == len(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)", "create unique index concurrently i on t (a)", "VACUUM t", "vacuum",
        "DROP INDEX CONCURRENTLY i", "REINDEX TABLE CONCURRENTLY t", "REINDEX INDEX CONCURRENTLY i",
        "ALTER SYSTEM SET x = 1", "CREATE DATABASE d", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "REINDEX DATABASE d", "CLUSTER", "REINDEX SCHEMA s", "REINDEX (VERBOSE) SCHEMA s", "CLUSTER (VERBOSE)",
        "REINDEX (VERBOSE, CONCURRENTLY) TABLE t", "VACUUM (FULL) t", "DISCARD ALL", "DROP SUBSCRIPTION s",
    ],
)  # fmt: skip
def test_statements_that_run_in_no_transaction(sql: str) -> None:
    assert statements.read(sql)[0].alone


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX i ON t (a)", "CREATE INDEX concurrently_used ON t (a)", "ALTER TABLE t DETACH PARTITION p",
        "REINDEX TABLE t", "INSERT INTO notes VALUES ('VACUUM')", "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "CLUSTER t USING i", "REINDEX (CONCURRENTLY false) TABLE t", "DROP INDEX concurrently_used",
        "INSERT INTO t SELECT 'ALTER TABLE t DETACH PARTITION p CONCURRENTLY'", "ALTER INDEX i SET TABLESPACE s",
    ],
)  # fmt: skip
def test_statements_that_run_in_a_transaction(sql: str) -> None:
    assert not statements.read(sql)[0].alone


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
    assert migrations.stuck([row("a", finished=False, logs="ERROR")], ledger.OURS)


def test_killed_migration_of_ours_is_not_stuck() -> None:
    assert migrations.stuck([row("a", finished=False, logs=ledger.ATOMIC_MARK)], ledger.OURS) == []


@pytest.mark.parametrize("ended", [row("a"), row("a", finished=False, rolled_back=True)])
def test_migration_that_ended_is_not_stuck(ended: Row) -> None:
    assert migrations.stuck([ended]) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; ROLLBACK", "SAVEPOINT a", "BEGIN; BEGIN; COMMIT; COMMIT", "COMMIT; BEGIN", "PREPARE TRANSACTION 'a'",
        "BEGIN ISOLATION LEVEL SERIALIZABLE; COMMIT", "BEGIN READ ONLY; COMMIT", "BEGIN; COMMIT AND CHAIN; COMMIT",
        "BEGIN; ROLLBACK", "COMMIT PREPARED 'a'",
    ],
)  # fmt: skip
def test_transactions_of_a_script_s_own_are_refused(sql: str) -> None:
    assert "every migration is one transaction already" in migrations.unfit(bundle(a=sql).scripts)[0]


def test_begin_without_commit_is_refused() -> None:
    assert migrations.unfit(bundle(a="START TRANSACTION; SELECT 1").scripts) == [
        "a: migration.sql has a BEGIN without its COMMIT"
    ]


@pytest.mark.parametrize("pair", [("BEGIN", "COMMIT"), ("begin work", "END"), ("START TRANSACTION", "Commit Work")])
def test_pairs_of_begin_and_commit_are_left_out(pair: tuple[str, str]) -> None:
    script = bundle(a=f"{pair[0]}; SELECT 1; {pair[1]}; SELECT '{pair[0]}'").scripts[0]
    assert script.problem is None
    assert script.statements == ["SELECT 1", f"SELECT '{pair[0]}'"]
    assert statements.split(script.forward.sent.decode()) == script.statements


def test_concurrent_index_must_be_alone() -> None:
    both = bundle(a="CREATE INDEX CONCURRENTLY i ON t (a)", b="SELECT 1; CREATE INDEX CONCURRENTLY i ON t (a)")
    assert [script.problem is None for script in both.scripts] == [True, False]
    assert not both.scripts[0].transactional


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (b"CREATE TABLE a ();" + "\r\nCREATE TABLE b ();".encode("utf-16-le"), "NUL"),
        ("CREATE TABLE a ();".encode("utf-16"), "UTF-16"),
        (b"\xef\xbb\xbfSELECT 1", "byte order mark"),
        ("SELECT 1;\ufeff SELECT 2".encode(), r"statement 2 .*invisible character \(U\+FEFF"),
        ("SELECT\u00a01".encode(), r"invisible character \(U\+00A0 NO-BREAK SPACE"),
        (b"\\restrict abc\nSELECT 1", "command of psql"),
        (b"COPY k FROM stdin;", "no client"),
        (b"copy customers (id, name) to STDOUT with csv", "no client"),
        (b"COPY k FROM stdout", "no client"),
        (b"COPY (SELECT 1) TO STDOUT", "no client"),
        (b"SELECT pg_catalog.set_config('lock_timeout', '1h', true)", "the plan's to say"),
        (b'CREATE INDEX CONCURRENTLY U&"\\0041" ON t (a)', "write it as it is"),
        (b"DISCARD ALL", "belongs to a session"),
        (b"SELECT 1; DISCARD TEMP", "belongs to a session"),
    ],
)
def test_files_that_no_server_could_run_are_refused(sql: bytes, said: str) -> None:
    (problem,) = migrations.unfit([migrations.Script("a", sql)])
    assert re.search(said, problem)
    unreadable = "U\\+" not in said and any(byte in (0, 0xEF, 0xFF) for byte in sql)
    assert bool(migrations.unreadable([migrations.Script("a", sql)])) == unreadable
    (problem,) = migrations.unfit([migrations.Script("a", b"SELECT 1", sql)])
    assert problem.startswith("a: down.sql") and re.search(said, problem)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT '\ufeff\u00a0\\'",
        'SELECT 1 AS "a\u00a0b\\"',
        "SELECT E'\\''; -- \u00a0 \\",
        "SELECT E'\u00a0', U&'\u200d', $$\u00a0$$, $a$\u200d$a$",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS end; SELECT 2; END; SELECT 3",
        "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE)",
        "SELECT set_config('search_path', '', false)",
        "COPY t FROM '/stdin'",
        "SELECT größe",
    ],
)
def test_strings_names_and_comments_may_hold_anything(sql: str) -> None:
    assert migrations.unfit(bundle(a=(sql, sql)).scripts) == []


def test_limits_of_its_own_are_left_out_and_nothing_else_is() -> None:
    limits = "SET lock_timeout = 0;SET SESSION \"statement_timeout\" TO '1h'; RESET lock_timeout"
    sql = f"{limits}; SET TimeZone = 'UTC'; SELECT 1"
    (script,) = bundle(a=sql).scripts
    assert script.problem is None
    assert script.statements == ["SET TimeZone = 'UTC'", "SELECT 1"]
    assert statements.split(script.forward.sent.decode()) == script.statements
    (index,) = bundle(a="SET lock_timeout = '5s'; CREATE INDEX CONCURRENTLY i ON t (a)").scripts
    assert index.problem is None and not index.transactional


@pytest.mark.parametrize(
    ("sql", "atomic"),
    [
        ("CREATE TABLE t (); SELECT 1", True), ("BEGIN; CREATE TABLE t (); COMMIT", True), ("", True),
        ("BEGIN; SELECT 1; COMMIT; SELECT 2", False), ("SELECT 1; COMMIT; BEGIN; SELECT 2", False),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", False), ("VACUUM t", False), ("CALL p()", False),
        ("DO 'BEGIN COMMIT; END'", False), ("DO 'BEGIN END'; SELECT 1", True), ("SAVEPOINT a", False),
    ],
)  # fmt: skip
def test_what_is_one_transaction_for_whoever_sends_it_whole(sql: str, atomic: bool) -> None:
    assert bundle(a=sql).scripts[0].forward.atomic is atomic


@pytest.mark.parametrize(
    ("down", "said"),
    [
        ("", "no statement"), ("-- TODO", "no statement"), (" ; /* later */ ;", "no statement"),
        ("BEGIN; DROP TABLE t; ROLLBACK", "one transaction"), ("VACUUM", "undoes nothing"),
        ("DROP INDEX CONCURRENTLY i; SELECT 1", "alone"), ("REINDEX INDEX CONCURRENTLY i", "undoes nothing"),
    ],
)  # fmt: skip
def test_way_back_that_is_none_is_refused_beforehand(down: str, said: str) -> None:
    (problem,) = migrations.unfit(bundle(a=("SELECT 1", down)).scripts)
    assert problem.startswith("a: ") and said in problem
    assert not bundle(a=("SELECT 1", down)).scripts[0].reversible


@pytest.mark.parametrize(
    ("down", "joined"),
    [
        ("DROP INDEX CONCURRENTLY i", "DROP INDEX i"), ("BEGIN; DROP TABLE t; COMMIT;", "DROP TABLE t"),
        ("create index concurrently \"Concurrently\" on t (a)", "create index \"Concurrently\" on t (a)"),
        ("ALTER TABLE t DETACH PARTITION p CONCURRENTLY", "ALTER TABLE t DETACH PARTITION p"),
    ],
)  # fmt: skip
def test_way_back_within_a_larger_transaction(down: str, joined: str) -> None:
    script = bundle(a=("SELECT 1", down)).scripts[0]
    assert script.problem is None and script.back is not None and script.reversible
    assert statements.split(script.back.joined.decode()) == [joined]


@pytest.mark.parametrize("applied", [b"SELECT 1;\nSELECT 2;\n", b"SELECT 1;\r\nSELECT 2;\r\n"])
@pytest.mark.parametrize("released", [b"SELECT 1;\nSELECT 2;\n", b"SELECT 1;\r\nSELECT 2;\r\n"])
@pytest.mark.parametrize("unpadded", [True, False])
def test_ends_of_lines_and_old_checksums_are_no_edit(applied: bytes, released: bytes, unpadded: bool) -> None:
    digest = hashlib.sha256(applied).digest()
    checksum = "".join(f"{byte:x}" if unpadded else f"{byte:02x}" for byte in digest)
    done = Row("1", "a", checksum, True, False, None)
    assert migrations.drift(Bundle((migrations.Script("a", released),)), [done]) == []
    assert migrations.drift(Bundle((migrations.Script("a", released + b" "),)), [done]) == [
        "a was edited after it was applied"
    ]


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


SQL = ("20240101_a/migration.sql", b"SELECT 1")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([SQL, ("20240102_b/migrations.sql", b"x")], r"20240102_b has no migration.sql, but 20240102_b/migrations.sql"),
        ([SQL, ("20240103_c/Migration.sql", b"x")], r"20240103_c has no migration.sql, but 20240103_c/Migration.sql"),
        ([SQL, ("20240104_d", None)], "20240104_d has no migration.sql"),
        ([SQL, ("20240104_d/down.sql", b"x")], "20240104_d has no migration.sql"),
        ([SQL, ("20240101_a/Down.sql", b"x")], "20240101_a/Down.sql"),
        ([SQL, ("20240101_a/b/migration.sql", b"x")], "20240101_a/b/migration.sql"),
        ([("migrations/20240101_a/migration.sql", b"x"), ("schema.prisma", b"")], "one level too high"),
        ([("migration.sql", b"x")], "migration.sql is looked for as <name>/migration.sql"),
        ([("package.json", b"{}")], "there is no migration in it"),
        ([], "there is no migration in it"),
    ],
)
def test_what_could_be_a_migration_is_not_passed_over(members: list[tuple[str, bytes | None]], said: str) -> None:
    with pytest.raises(BundleError, match=said):
        Bundle.from_tar(archive((".", None), *members))


def test_folder_before_the_first_migration() -> None:
    assert Bundle.from_tar(archive((".", None), ("./migration_lock.toml", b""))).names == ()


@pytest.mark.parametrize(
    "data",
    [
        archive(("../evil/migration.sql", b"x")),
        archive(("a/../../evil/migration.sql", b"x")),
        archive(("/etc/migration.sql", b"x")),
        archive(("", b"x")),
        archive((".", b"x")),
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
