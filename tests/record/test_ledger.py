"""The ledger on a real PostgreSQL: it keeps what was written, all of it, once, and as it was."""

from __future__ import annotations

import socket
import threading

import psycopg
import pytest
from psycopg import errors

from handover.__main__ import main
from handover.adapters.postgres import Database
from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import Change, Deployment, IncidentKind, SentMessage
from handover.record import ledger as ledgers
from handover.record.contradictions import CHOICE, QUESTION
from handover.record.ledger import Ledger, NotRecorded
from handover.record.schema import FOLDER, SchemaChanged, migrate
from tests.record import made

pytestmark = pytest.mark.sandbox
TABLES = sorted(ledgers.TABLES.values())


def everything() -> list:
    """One entry of each kind at least."""
    return [
        made.outcome(), made.check("phase_1.backup", p50_seconds=0.1), made.decision("phase_1.decide"),
        made.deployment(), made.incident(IncidentKind.OPENED, 5), *made.samples(3),
        SentMessage(at=made.START, channel="slack #x", text="@here 'go' — ✓").of(made.RUN, made.RUN, "announce"),
        Change(revision="abc123", committed_at=made.START - 3600).of(made.RUN, made.RUN, ""),
    ]  # fmt: skip


def test_what_is_written_is_read_back_as_it_was(book):
    entries = everything()
    assert book.ledger.write(entries) == len(entries)
    found = book.ledger.read(made.RUN)
    read = [
        found.deployment, *found.outcomes, *found.checks, *found.decisions, *found.messages, *found.incidents,
        *found.samples, *found.changes,
    ]  # fmt: skip
    key = repr
    assert sorted(read, key=key) == sorted(entries, key=key)


def test_writing_it_twice_is_writing_it_once(book):
    book.ledger.write(everything())
    before = book.ledger.read(made.RUN)
    assert book.ledger.write(everything()) == 0
    assert book.ledger.read(made.RUN) == before


FORGED = [
    (made.check("a.b", Verdict.PASS), made.check("a.b", Verdict.FAIL, at=11)),
    (made.check("a.b", reason="fine"), made.check("a.b", reason="no client was lost")),
    (made.check("a.b", p50_seconds=0.1), made.check("a.b", p50_seconds=0.9)),
    (made.check("a.b", Verdict.PASS), made.check("a.b", Verdict.UNKNOWN)),
    (made.decision("a.decide", "Proceed"), made.decision("a.decide", "Roll back")),
    (made.decision("a.decide", who="lead"), made.decision("a.decide", who="system")),
    (made.deployment(image="evil@sha256:2"), made.deployment()),
    (made.deployment(requested_by="schedule"), made.deployment()),
    (made.outcome(of=made.RUN), made.outcome(of=made.RUN).model_copy(update={"backup_uri": "s3://b/x"})),
    (made.incident(IncidentKind.OPENED, 5, severity="low"), made.incident(IncidentKind.OPENED, 5)),
    (made.said("all is well"), made.said("ROLLBACK")),
    (made.change(1.0), made.change(2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("forged", "true"), FORGED)
def test_a_forged_first_entry_stays_and_the_true_one_contradicts_it_on_record(book, caplog, forged, true):
    opened = [] if isinstance(true, Deployment) else [made.deployment()]
    book.ledger.write([*opened, forged])
    for _ in range(2):
        assert book.ledger.write([*opened, true]) == 0
    (found,) = [one for one in book.ledger.read(made.RUN).decisions if one.question.startswith(QUESTION)]
    assert (found.choice, found.who, found.step) == (CHOICE, "system", true.step)
    assert "on record" in found.why
    assert QUESTION in caplog.text


def test_what_is_said_again_is_no_contradiction_though_its_time_or_an_unknown_reason_differ(book):
    known = [made.deployment(), made.check("a.b"), made.check("a.c", Verdict.UNKNOWN, reason="OSError: away")]
    later = [
        made.deployment(),
        made.check("a.b", at=12),
        made.check("a.c", Verdict.UNKNOWN, reason="no evidence", at=13),
    ]
    told = [made.incident(IncidentKind.OPENED, 5), made.change(1.0)]
    book.ledger.write([*known, *everything()[4:], *told])
    again = [one.of(made.RUN, "rollback__x", "close") for one in told]
    book.ledger.write([*later, *everything()[4:], *again])
    assert book.ledger.read(made.RUN).decisions == ()


def test_a_secret_that_only_one_of_two_processes_knows_makes_no_contradiction(book):
    def reached(whom):
        return made.check("a.b", Verdict.FAIL, reason=f"cannot log in as u with {whom} at db")

    book.ledger.write([made.deployment(), reached("***")])
    book.ledger.write([made.deployment(), reached("a-secret-that-nobody-knows")])
    assert book.ledger.read(made.RUN).decisions == ()


def test_two_writers_at_the_same_time_write_it_once(book):
    threads = [threading.Thread(target=lambda: book.ledger.write(everything())) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(book.ledger.read(made.RUN).samples) == len(made.samples(3))


def test_another_try_of_a_step_is_another_entry(book):
    book.ledger.write([made.deployment(), made.check("a.b", Verdict.UNKNOWN), made.check("a.b", tries=2, at=20)])
    assert [c.verdict for c in book.ledger.read(made.RUN).checks] == [Verdict.UNKNOWN, Verdict.PASS]


def test_all_of_it_or_nothing(book):
    good = made.deployment()
    with pytest.raises(psycopg.Error):
        book.ledger.write([good, made.check("a.b").model_copy(update={"verdict": "perhaps"})])
    with pytest.raises(NotRecorded, match="knows no deployment"):
        book.ledger.read(made.RUN)


def test_an_entry_that_comes_before_its_deployment_is_kept(book):
    """The ledger was away when the deployment was opened, and back a step later."""
    book.ledger.write([made.check("a.b")])
    book.ledger.write([made.deployment()])
    assert len(book.ledger.read(made.RUN).checks) == 1


def test_the_checks_of_the_readiness_behind_a_deployment_are_its_own_kind(book):
    ready = made.ready("dns")
    book.ledger.write([made.deployment(readiness=made.READINESS), made.check("a.b"), ready])
    book.ledger.write([made.deployment("another")])
    mine, other = book.ledger.read_all([made.RUN, "another"])
    assert (mine.readiness, [c.step for c in mine.checks], other.readiness) == ((ready,), ["a.b"], ())


@pytest.mark.parametrize("statement", ["UPDATE {} SET recorded_at = now()", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("role", ["owner", "writer"])
def test_nobody_changes_what_was_written(book, statement, role):
    book.ledger.write(everything())
    with getattr(book, role).connect() as session, book.owner.connect() as other:
        for table in TABLES:
            with pytest.raises(errors.InsufficientPrivilege) as refused:
                session.execute(statement.format(table).encode())
            if role == "owner":
                assert "append-only" in str(refused.value)
            (rows,) = other.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
            assert rows > 0


def test_the_superuser_has_to_drop_the_trigger_to_change_anything(book, server):
    """Neither the replication role nor a rule of ours lets anybody past it silently."""
    book.ledger.write(everything())
    with server.primary.named(book.owner.name).connect() as session:
        session.execute("SET session_replication_role = replica")
        with pytest.raises(errors.InsufficientPrivilege, match="append-only: DELETE of checks"):
            session.execute("DELETE FROM checks")


def test_every_table_of_the_ledger_is_append_only(book):
    with book.owner.connect() as session:
        guarded = session.execute(
            "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'append_only' AND tgenabled = 'A' ORDER BY 1"
        )
        assert [row[0] for row in guarded] == TABLES


@pytest.mark.parametrize(
    "statement",
    ["ALTER TABLE checks DISABLE TRIGGER append_only", "DROP TABLE checks", "CREATE TABLE mine (x int)",
     "INSERT INTO record_migrations (name, checksum) VALUES ('x', 'y')"],
)  # fmt: skip
def test_the_writing_role_can_do_nothing_else(book, statement):
    with book.writer.connect() as session, pytest.raises(errors.InsufficientPrivilege):
        session.execute(statement.encode())


def test_tables_are_laid_once_whoever_does_it(empty):
    done: list[list[str]] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(empty.owner, "record"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    files = [path.name for path in sorted(FOLDER.glob("*.sql"))]
    assert sorted(name for one in done for name in one) == files
    assert len(done) == 4


def test_a_file_that_was_applied_may_not_change(empty, tmp_path):
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (x int);")
    migrate(empty.owner, folder=tmp_path)
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (x bigint);")
    with pytest.raises(SchemaChanged, match=r"0001_a\.sql is not what was applied"):
        migrate(empty.owner, folder=tmp_path)


def test_a_file_that_fails_leaves_nothing(empty, tmp_path):
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (x int);")
    (tmp_path / "0002_b.sql").write_text("CREATE TABLE b (x int); SELECT 1/0;")
    with pytest.raises(errors.DivisionByZero):
        migrate(empty.owner, folder=tmp_path)
    with empty.owner.connect() as session:
        assert session.execute("SELECT to_regclass('a'), to_regclass('b')").fetchone() == (None, None)


def test_a_phase_is_what_its_steps_are(book):
    book.ledger.write(
        [made.deployment(), made.check("open", at=1), made.check("p1.a", at=5), made.check("p1.b", Verdict.FAIL, at=9)]
    )
    with book.writer.connect() as session:
        (row,) = session.execute("SELECT phase, passed, checks, extract(epoch FROM ended_at - started_at) FROM phases")
    assert row[:3] == ("p1", 1, 2)
    assert float(row[3]) == 5


def test_secrets_that_airflow_knows_are_masked(book):
    from airflow.sdk.log import mask_secret

    mask_secret("s3cr3t-value-of-a-connection")
    leaky = made.check("a.b", Verdict.FAIL, reason="cannot reach postgresql://u:s3cr3t-value-of-a-connection@db/x")
    book.ledger.write([made.deployment(), leaky])
    assert book.ledger.read(made.RUN).checks[0].reason == "cannot reach postgresql://u:***@db/x"


def test_text_that_postgresql_cannot_hold_does_not_lose_the_entry(book):
    book.ledger.write([made.deployment(), made.check("a.b", reason="a\0b")])
    assert book.ledger.read(made.RUN).checks[0].reason == "ab"


def test_a_ledger_that_is_away_says_so(book):
    with socket.socket() as nobody:  # has the port, and does not listen
        nobody.bind(("127.0.0.1", 0))
        away = Ledger(Database("127.0.0.1", nobody.getsockname()[1], "x", "record"))
        for lost in (Ledger(book.writer.named("x")), away):
            with pytest.raises(psycopg.OperationalError):
                lost.write([made.deployment()])


def test_a_ledger_that_is_silent_is_waited_for_no_longer_than_it_says(book, monkeypatch):
    asked = {}
    monkeypatch.setattr(psycopg, "connect", lambda **options: asked.update(options) or connect(**options))
    connect = psycopg.Connection.connect
    book.ledger.write([made.deployment()])
    assert asked["connect_timeout"] == ledgers.WAIT_SECONDS <= 2


def test_deployments_are_listed_in_the_order_of_time(book):
    later = made.deployment("second", started_at=made.START + 100)
    book.ledger.write([later, made.deployment()])
    assert book.ledger.deployments() == [made.RUN, "second"]
    assert book.ledger.deployments(since=made.START + 1) == ["second"]
    assert book.ledger.deployments(plan="another") == []


def test_the_command_line_reads_it(connected, capsys):
    connected.ledger.write([*everything(), made.outcome(Status.ROLLED_BACK, at=400, run="rollback__x")])
    assert main(["record", "report", "--deployment", made.RUN]) == 0
    assert capsys.readouterr().out.startswith("# AI Hotel Assistant PMS v1.1.0 was rolled back")
    assert main(["record", "dora", "--since", "2026-01-01"]) == 0
    assert "| Lead time for changes | 1 h 1 min | median of 1 changes |" in capsys.readouterr().out
    assert main(["record", "report", "--deployment", "nothing"]) == 1
    assert capsys.readouterr().err == "refused: the ledger knows no deployment nothing\n"


def test_a_change_can_be_told_later(connected, capsys):
    connected.ledger.write([made.deployment()])
    tell = ["change", "--deployment", made.RUN, "--revision", "abc", "--committed-at", "2026-11-20T10:00:00+00:00"]
    assert main(["record", *tell]) == 0
    assert main(["record", *tell]) == 0
    assert capsys.readouterr().out == "recorded\nwas recorded already\n"
    assert [c.revision for c in connected.ledger.read(made.RUN).changes] == ["abc"]
