"""Inputs of people who migrate for a living, on a real PostgreSQL (found in public reports), and their siblings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.adapters.postgres import Database
from handover.database import alone, catalog, ledger, migrations, runner, statements, validation
from handover.database.reverse import reverse
from handover.database.runner import MigrationFailed, MigrationRefused, StatementFailed, StatementLimits
from tests.database.conftest import bundle
from tests.support.postgres import PASSWORD, Servers
from tests.support.until import until

Connection = psycopg.Connection[Any]
QUICK = StatementLimits(lock_timeout=0.05, statement_timeout=300, lock_retries=4, other_runner=60)
INDEX = "CREATE INDEX CONCURRENTLY orders_status ON orders (status)"
EVENTS = """
CREATE TABLE ev (id int, d date) PARTITION BY RANGE (d);
CREATE TABLE ev24 PARTITION OF ev FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE ev25 PARTITION OF ev FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO ev SELECT n, '2024-06-01' FROM generate_series(1, 100) n;
INSERT INTO ev VALUES (101, '2025-06-01');
"""
DETACH = "ALTER TABLE ev DETACH PARTITION ev24 CONCURRENTLY"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """What happens in each pause between two tries; nobody waits."""
    during: list[Callable[[], object]] = []
    nap = SimpleNamespace(sleep=lambda _: during.pop(0)() if during else None)
    monkeypatch.setattr("tenacity.nap.time", nap)
    return during


@contextmanager
def reading(database: Database, table: str) -> Iterator[Connection]:
    """Somebody with a transaction that has read a table, and goes on."""
    with database.connect() as other:
        other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        other.execute(f"SELECT count(*) FROM {table}".encode())
        yield other
        if not other.closed and other.info.transaction_status:
            other.execute("COMMIT")


def states(connection: Connection) -> list[tuple[str, str]]:
    rows = ledger.rows(connection)
    return [(row.name, "applied" if row.applied else "open" if row.open else "rolled back") for row in rows]


# --- one ledger ---


def test_schema_of_the_login_s_name_makes_no_second_ledger(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    runner.apply(database, bundle(m1="CREATE TABLE halls (id int PRIMARY KEY)"), limits)
    connection.execute("CREATE SCHEMA owner")
    both = bundle(m1="CREATE TABLE halls (id int PRIMARY KEY)", m2="ALTER TABLE halls ADD COLUMN floor int")
    assert runner.apply(database, both, limits).names == ("m2",)
    ledgers = "SELECT count(*) FROM pg_class WHERE relname = '_prisma_migrations'"
    assert connection.execute(ledgers.encode()).fetchone() == (1,)


def test_ledger_of_another_schema_with_our_migrations_is_named(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    release = bundle(m1="CREATE TABLE halls ()", m2="CREATE TABLE beds ()")
    runner.apply(database, bundle(m1="CREATE TABLE halls ()"), limits)
    connection.execute("CREATE SCHEMA app")
    connection.execute("ALTER TABLE _prisma_migrations SET SCHEMA app")
    with pytest.raises(MigrationRefused, match="m1 not applied in the schema public, but in app"):
        runner.apply(database, release, limits)
    assert connection.execute("SELECT to_regclass('public._prisma_migrations')").fetchone() == (None,)
    other = bundle(m1="CREATE TABLE something_else ()")
    assert runner.apply(database, other, limits).names == ("m1",), "another service's ledger is nothing of ours"


# --- what a script does to its session ---

DUMPED = "SELECT pg_catalog.set_config('search_path', '', false); CREATE TABLE public.people (id int PRIMARY KEY)"


@pytest.mark.parametrize(
    "script",
    [
        DUMPED, "SET search_path TO app, public; CREATE TABLE inapp ()", "SET ROLE other",
        "SET timezone = 'Asia/Tokyo'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "SET statement_timeout = 1", "SET lock_timeout = 1; SET DateStyle = German", "SET client_encoding = LATIN1",
        "SET default_transaction_read_only = on", "SET standard_conforming_strings = off", "LISTEN something",
        "PREPARE p AS SELECT 1", "CREATE TEMPORARY TABLE later ()",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    ],
)  # fmt: skip
def test_every_migration_begins_with_a_fresh_session(
    servers: Servers, database: Database, connection: Connection, limits: StatementLimits, script: str
) -> None:
    servers.ask(servers.primary, "DO $$ BEGIN CREATE ROLE other; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    servers.ask(servers.primary, "GRANT other TO owner")
    connection.execute("CREATE SCHEMA app")
    told = (
        "SELECT current_setting('search_path') || ' ' || current_user || ' ' || current_setting('timezone') || ' '"
        " || current_setting('statement_timeout') || ' ' || current_setting('DateStyle') || ' '"
        " || current_setting('client_encoding') || ' ' || current_setting('transaction_read_only') || ' '"
        " || (SELECT count(*) FROM pg_cursors WHERE name = 'c') || (SELECT count(*) FROM pg_listening_channels())"
        " || (SELECT count(*) FROM pg_prepared_statements) AS said"
    )
    apart = bundle(m1=f"CREATE TABLE seen1 AS {told}")
    runner.apply(database, apart, limits)
    release = bundle(
        m1=f"CREATE TABLE seen1 AS {told}", m2=script, m3=f"CREATE TABLE seen2 AS {told}; CREATE TABLE later ()"
    )
    assert runner.apply(database, release, limits).names == ("m2", "m3")
    assert connection.execute("TABLE seen1").fetchall() == connection.execute("TABLE seen2").fetchall()
    assert connection.execute("SELECT to_regclass('public.later') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize("script", ["SELECT pg_advisory_unlock_all()", f"SELECT pg_advisory_unlock({ledger.LOCK})"])
def test_script_that_gives_up_the_lock_is_no_migration(
    database: Database, connection: Connection, limits: StatementLimits, script: str
) -> None:
    with pytest.raises(MigrationFailed, match="given up the lock"):
        runner.apply(database, bundle(m1=f"CREATE TABLE t (); {script}"), limits)
    assert catalog.find(connection, "t") is None
    assert states(connection) == [("m1", "rolled back")]


def test_pairs_of_begin_and_commit_are_one_transaction(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    """What Prisma writes for a removed value of an enum."""
    connection.execute(
        b"CREATE TYPE \"Role\" AS ENUM ('admin', 'guest', 'none'); CREATE TABLE u (role \"Role\");"
        b" INSERT INTO u VALUES ('admin')"
    )
    enum = (
        "BEGIN; CREATE TYPE \"Role_new\" AS ENUM('admin','guest');"
        ' ALTER TABLE u ALTER COLUMN role TYPE "Role_new" USING(role::text::"Role_new");'
        ' ALTER TYPE "Role" RENAME TO "Role_old"; ALTER TYPE "Role_new" RENAME TO "Role"; DROP TYPE "Role_old"; COMMIT;'
    )
    with pytest.raises(MigrationFailed, match=r"m1: statement 6 \(ALTER TABLE nothing"):
        runner.apply(database, bundle(m1=f"{enum} ALTER TABLE nothing ADD COLUMN x INTEGER;"), limits)
    assert connection.execute("SELECT count(*) FROM pg_enum").fetchone() == (3,), "all of it is undone"
    assert runner.apply(database, bundle(m1=f"{enum} ALTER TABLE u ADD COLUMN x INTEGER;"), limits).names == ("m1",)
    assert connection.execute("SELECT count(*) FROM pg_enum").fetchone() == (2,)


def test_text_is_utf_8_whatever_the_database_is_made_of(servers: Servers, limits: StatementLimits) -> None:
    servers.ask(
        servers.primary, "CREATE DATABASE in_latin1 ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        " OWNER owner",
    )  # fmt: skip
    release = bundle(m1="CREATE TABLE people (name text); INSERT INTO people VALUES ('Müller')")
    runner.apply(servers.owned("in_latin1"), release, limits)
    with servers.owned("in_latin1").connect() as connection:
        assert connection.execute("SELECT name, length(name) FROM people").fetchone() == ("Müller", 6)


@pytest.mark.parametrize(
    "sql",
    [
        "VACUUM orders", "REINDEX SCHEMA public", "REINDEX (CONCURRENTLY) TABLE orders", "VACUUM (FULL) orders",
        "CREATE INDEX CONCURRENTLY ON orders (status)", "REINDEX INDEX CONCURRENTLY orders_pkey",
        """CREATE INDEX CONCURRENTLY "My  index" ON "orders" (('a  b' || status)) -- two blanks stay two""",
    ],
)  # fmt: skip
def test_statements_that_run_in_no_transaction_run(
    database: Database, connection: Connection, limits: StatementLimits, sql: str
) -> None:
    assert runner.apply(database, bundle(m1=sql), limits).names == ("m1",)
    assert catalog.invalid_indices(connection) == []
    if "My" in sql:
        found = connection.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'My  index'").fetchone()
        assert found and "'a  b'" in found[0]


# --- errors outside of the statement itself ---


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO k VALUES (2, 'secret'), (3, 'secret')",
        "INSERT INTO k VALUES (2, 'x', 77)",
        "CREATE TABLE before (); INSERT INTO k VALUES (2, 'secret'), (3, 'secret')",
        "ALTER TABLE k ALTER COLUMN name TYPE int USING name::int",
    ],
)
def test_failure_at_the_commit_is_a_failed_migration_without_rows(
    database: Database, connection: Connection, limits: StatementLimits, sql: str
) -> None:
    connection.execute(
        b"CREATE TABLE k (id int PRIMARY KEY, name text UNIQUE DEFERRABLE INITIALLY DEFERRED,"
        b" parent int REFERENCES k DEFERRABLE INITIALLY DEFERRED); INSERT INTO k VALUES (1, 'secret')"
    )
    with pytest.raises(MigrationFailed) as failure:
        runner.apply(database, bundle(m1=sql), limits)
    logs = "".join(row.logs or "" for row in ledger.rows(connection))
    for text in (str(failure.value), logs):
        assert "secret" not in text and "77" not in text.removeprefix(f"m1: statement 1 ({sql})")
    assert states(connection) == [("m1", "rolled back")]
    assert catalog.find(connection, "before") is None
    assert runner.apply(database, bundle(m2="SELECT 1"), limits).names == ("m2",)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE ROLE reporter LOGIN PASSWORD 'hunter2'", "CREATE ROLE r PASWORD 'hunter2'",
        "SELECT 1; CREATE SUBSCRIPTION s CONNECTION 'password=hunter2' PUBLICATION p", "DISCARD 'hunter2'",
        "ALTER ROLE owner PASSWORD 'hunter2'; VACUUM", "BEGIN; SELECT 'hunter2'; PREPARE TRANSACTION 'hunter2'",
        "DO $$ BEGIN EXECUTE 'ALTER ROLE nobody PASSWORD ''hunter2'''; END $$",
    ],
)  # fmt: skip
def test_a_statement_s_secret_is_told_nowhere(
    database: Database, connection: Connection, limits: StatementLimits, sql: str
) -> None:
    with pytest.raises((MigrationFailed, MigrationRefused)) as failure:
        runner.apply(database, bundle(m1=sql), limits)
    assert "hunter2" not in str(failure.value) + "".join(row.logs or "" for row in ledger.rows(connection))


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        (
            "BEGIN; SELECT 'ö;'; -- ;\nALTER TABEL t ADD x int; COMMIT",
            r"m1: statement 2 \(ALTER TABEL t .* near \"TABEL\"$",
        ),
        ("SELECT 1; SELECT 2; SELECT 'a", r"m1: statement 3 \(SELECT '...'\): unterminated quoted string"),
        ("TABEL t; SELECT 2", r"m1: statement 1 \(TABEL t\)"),
    ],
)
def test_syntax_error_is_told_of_the_statement_that_has_it(
    database: Database, limits: StatementLimits, sql: str, said: str
) -> None:
    with pytest.raises(MigrationFailed, match=said):
        runner.apply(database, bundle(m1=sql), limits)


def test_text_that_the_database_s_encoding_lacks_blames_no_statement(servers: Servers, limits: StatementLimits) -> None:
    with pytest.raises(MigrationFailed, match=r'^m1: character .* has no equivalent in encoding "LATIN1"$'):
        runner.apply(servers.latin("owner"), bundle(m1="SELECT 1; INSERT INTO nothing VALUES ('5 €')"), limits)


@pytest.mark.parametrize("sql", ["COPY orders FROM stdin", "SELECT 1; COPY orders TO STDOUT; SELECT 2"])
def test_copy_that_got_past_the_reader_is_a_failed_migration(
    database: Database, connection: Connection, limits: StatementLimits, monkeypatch: pytest.MonkeyPatch, sql: str
) -> None:
    monkeypatch.setattr(migrations.Script, "problem", None)
    with pytest.raises(MigrationFailed, match="there is no client"):
        runner.apply(database, bundle(m1=sql), limits)
    assert states(connection) == [("m1", "rolled back")]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("CREATE TABLE t (); SELECT pg_terminate_backend(pg_backend_pid())", "terminating connection"),
        (
            "DO $$ BEGIN PERFORM set_config('transaction_timeout', '10ms', true); END $$; CREATE TABLE t ();"
            " SELECT pg_sleep(600)", "transaction timeout",
        ),
    ],
)  # fmt: skip
def test_end_of_the_connection_is_a_failed_migration_with_its_cause(
    database: Database, connection: Connection, limits: StatementLimits, sql: str, said: str
) -> None:
    with pytest.raises(MigrationFailed, match=said):
        runner.apply(database, bundle(m1=sql), limits)
    assert states(connection) == [("m1", "rolled back")]
    assert said in str(ledger.rows(connection)[0].logs)
    assert catalog.find(connection, "t") is None
    assert runner.apply(database, bundle(m1="CREATE TABLE t ()"), limits).names == ("m1",)


def test_connection_that_ends_under_a_statement_outside_a_transaction(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    def end() -> None:
        building = (
            "SELECT pid FROM pg_stat_activity WHERE query LIKE 'CREATE INDEX CONCURRENTLY%'"
            " AND wait_event = 'virtualxid' AND datname = current_database()"
        )
        until(lambda: connection.execute(building.encode()).fetchone() is not None, "it waits for the reader")
        connection.execute(f"SELECT pg_terminate_backend(pid) FROM ({building}) AS b".encode())

    with reading(database, "orders") as other:
        ending = threading.Thread(target=lambda: (end(), other.execute("COMMIT")))
        ending.start()
        with pytest.raises(MigrationFailed, match="terminating connection"):
            runner.apply(database, bundle(m1=INDEX), limits)
        ending.join()
    assert catalog.invalid_indices(connection) == []
    assert states(connection) == [("m1", "rolled back")]


# --- what is not atomic ---


@pytest.mark.parametrize("if_not_exists", ["", "IF NOT EXISTS "])
def test_index_waits_for_other_transactions_beyond_the_lock_timeout(
    database: Database, connection: Connection, if_not_exists: str
) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'virtualxid' AND NOT granted"
    release = bundle(m1=INDEX.replace("orders_status", f"{if_not_exists}orders_status"))
    limits = StatementLimits(lock_timeout=0.001, lock_retries=1)
    done: list[str] = []
    with reading(database, "orders") as other:
        thread = threading.Thread(target=lambda: done.extend(runner.apply(database, release, limits).names))
        thread.start()
        until(lambda: connection.execute(waiting.encode()).fetchone() != (0,), "it waits for the reader")
        connection.execute("SELECT pg_sleep(0.01)")
        other.execute("COMMIT")
        thread.join()
    assert done == ["m1"]
    assert catalog.invalid_indices(connection) == []


def test_index_that_is_there_and_not_valid_is_not_taken_for_done(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY orders_status ON orders (status)")
    release = bundle(m1=INDEX.replace("orders_status", "IF NOT EXISTS orders_status"))
    with pytest.raises(MigrationFailed, match="orders_status is there already and is not valid"):
        runner.apply(database, release, limits)
    assert states(connection) == []


def test_failed_index_takes_nobody_else_s_along(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    with pytest.raises(psycopg.Error):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY theirs ON orders (status)")
    for sql in (
        "CREATE UNIQUE INDEX CONCURRENTLY mine ON orders (status)",
        "CREATE UNIQUE INDEX CONCURRENTLY ON orders (status)",
    ):
        with pytest.raises(MigrationFailed, match="could not create unique index"):
            runner.apply(database, bundle(m1=sql), limits)
    assert catalog.invalid_indices(connection) == ["theirs"]


def test_detaching_a_partition_comes_to_its_end(
    database: Database, connection: Connection, pauses: list[Callable[[], object]]
) -> None:
    connection.execute(EVENTS.encode())
    with reading(database, "ev") as other:
        half: list[list[str]] = []
        pauses += [lambda: half.append(alone.detaching(connection)), lambda: other.execute("COMMIT")]
        assert runner.apply(database, bundle(m1=DETACH), QUICK).names == ("m1",)
    assert half == [["ev24 from ev"]]
    assert alone.detaching(connection) == []
    assert connection.execute("SELECT (SELECT count(*) FROM ev), (SELECT count(*) FROM ev24)").fetchone() == (1, 100)
    assert states(connection) == [("m1", "applied")]


def test_partition_that_stays_half_detached_is_named_and_the_next_try_goes_on(
    database: Database, connection: Connection, pauses: list[Callable[[], object]]
) -> None:
    connection.execute(EVENTS.encode())
    release = bundle(m1=DETACH)
    with reading(database, "ev"):
        with pytest.raises(MigrationFailed, match="left behind: ev24 from ev"):
            runner.apply(database, release, QUICK)
        assert states(connection) == [("m1", "open")], "it is neither rolled back nor applied"
        bad = [part.reason for part in validation.structure(connection) if not part.passed]
        assert bad == ["half detached: ev24 from ev"]
        with pytest.raises(MigrationRefused, match="m1 began and did not end"):
            runner.apply(database, bundle(m2="SELECT 1"), QUICK)
        with pytest.raises(MigrationFailed, match="m1 is half done and cannot go on"):
            runner.apply(database, release, QUICK)
    assert runner.apply(database, release, QUICK).names == ()
    assert states(connection) == [("m1", "applied")]
    assert alone.detaching(connection) == []


@pytest.mark.parametrize(
    ("before", "sql", "after"),
    [
        ("SELECT 1", INDEX, ["rolled back", "applied"]),
        ("CREATE INDEX orders_status ON orders (status)", INDEX, ["applied"]),
        ("CREATE INDEX o ON orders (status)", "DROP INDEX CONCURRENTLY o", ["rolled back", "applied"]),
        ("SELECT 1", "DROP INDEX CONCURRENTLY o", ["applied"]),
        (EVENTS, DETACH, ["rolled back", "applied"]),
        (EVENTS + "ALTER TABLE ev DETACH PARTITION ev24", DETACH, ["applied"]),
    ],
)
def test_what_a_killed_run_has_left_is_looked_up(
    database: Database, connection: Connection, limits: StatementLimits, before: str, sql: str, after: list[str]
) -> None:
    release = bundle(m1=sql)
    runner.apply(database, bundle(), limits)
    connection.execute(before.encode())
    ledger.begin(connection, release.scripts[0], ledger.ALONE_MARK)
    runner.apply(database, release, limits)
    assert [state for _, state in states(connection)] == after
    assert alone.state(connection, release.scripts[0].forward.alone) is alone.State.DONE  # type: ignore[arg-type]


def test_killed_index_that_is_not_valid_is_built_again(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    release = bundle(m1=INDEX)
    runner.apply(database, bundle(), limits)
    ledger.begin(connection, release.scripts[0], ledger.ALONE_MARK)
    with pytest.raises(psycopg.Error):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY orders_status ON orders (status)")
    assert runner.apply(database, release, limits).names == ("m1",)
    assert catalog.invalid_indices(connection) == []


# --- the way back ---


@pytest.mark.parametrize(
    ("up", "down"),
    [
        (INDEX, "DROP INDEX CONCURRENTLY orders_status"),
        (
            "DROP INDEX CONCURRENTLY orders_customer",
            "CREATE INDEX CONCURRENTLY orders_customer ON orders (customer_id)",
        ),
        ("ALTER TABLE orders ADD COLUMN ch text", "BEGIN; ALTER TABLE orders DROP COLUMN ch; COMMIT;"),
        ("CREATE TABLE extra ()", "SET search_path = ''; SET statement_timeout = 1000; DROP TABLE public.extra"),
    ],
)
def test_way_back_may_run_outside_a_transaction(
    database: Database, connection: Connection, limits: StatementLimits, up: str, down: str
) -> None:
    connection.execute("CREATE INDEX orders_customer ON orders (customer_id)")
    objects = (
        "SELECT relname, relkind FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname !~ '^_prisma' ORDER BY 1"
    )
    before = connection.execute(objects.encode()).fetchall()
    release = bundle(m1=(up, down))
    runner.apply(database, release, limits)
    assert connection.execute(objects.encode()).fetchall() != before or "COLUMN" in up
    assert reverse(database, release.scripts, limits) == ["m1"]
    assert connection.execute(objects.encode()).fetchall() == before
    assert set(states(connection)) == {("m1", "rolled back")}
    assert runner.apply(database, release, limits).names == ("m1",)


@pytest.mark.parametrize("half", [False, True])
def test_way_back_goes_on_with_what_a_killed_run_has_left(
    database: Database, connection: Connection, limits: StatementLimits, half: bool
) -> None:
    """Killed before the ledger knew that the statement was done, or in the middle of it."""
    connection.execute("CREATE INDEX two ON orders (status)")
    drops, makes = "DROP INDEX CONCURRENTLY two", "CREATE INDEX CONCURRENTLY two ON orders (status)"
    release = bundle(m1=(INDEX, "DROP INDEX CONCURRENTLY orders_status"), m2=(drops, makes))
    runner.apply(database, release, limits)
    for script in release.scripts:
        ledger.begin_undo(connection, script)
    connection.execute("DROP INDEX orders_status")
    if half:
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute(makes.replace("INDEX", "UNIQUE INDEX").encode())
    else:
        connection.execute("CREATE INDEX two ON orders (status)")
    assert reverse(database, release.scripts[::-1], limits) == ["m2", "m1"]
    assert catalog.invalid_indices(connection) == []
    found = connection.execute("SELECT to_regclass('orders_status') IS NULL, to_regclass('two') IS NULL")
    assert found.fetchone() == (True, False)
    assert runner.apply(database, release, limits).names == ("m1", "m2")


def test_way_back_that_finds_its_end_made_by_somebody_else_fails(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    """Also where an earlier way back of it was begun, and it was applied again since."""
    release = bundle(m1=(INDEX, "DROP INDEX CONCURRENTLY orders_status"))
    runner.apply(database, release, limits)
    assert reverse(database, release.scripts, limits) == ["m1"]
    runner.apply(database, release, limits)
    connection.execute("DROP INDEX orders_status")
    with pytest.raises(StatementFailed, match="does not exist"):
        reverse(database, release.scripts, limits)


def test_way_back_is_all_or_nothing_whatever_it_commits(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    release = bundle(
        m1=(
            "ALTER TABLE orders ADD COLUMN ch text",
            "BEGIN; ALTER TABLE orders DROP COLUMN ch; COMMIT; DROP TABLE nothing",
        )
    )
    runner.apply(database, release, limits)
    with pytest.raises(StatementFailed, match="does not exist"):
        reverse(database, release.scripts, limits)
    assert "ch" in [column.name for column in catalog.columns(connection, "orders")]
    assert states(connection) == [("m1", "applied")]


def test_bad_way_back_is_refused_before_the_way_there(
    database: Database, connection: Connection, limits: StatementLimits
) -> None:
    with pytest.raises(MigrationRefused, match=r"m1: down.sql has no statement"):
        runner.apply(database, bundle(m1=("CREATE TABLE extra ()", "-- TODO")), limits)
    assert catalog.find(connection, "extra") is None


# --- databases that take no migration ---


def test_database_that_is_read_only_is_named(servers: Servers, limits: StatementLimits) -> None:
    database = servers.new("owner")
    servers.ask(servers.primary, f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    with pytest.raises(MigrationRefused, match="made it read-only"):
        runner.apply(database, bundle(m1="SELECT 1"), limits)


def test_standby_is_named(replicated: Servers, limits: StatementLimits) -> None:
    with pytest.raises(MigrationRefused, match="is a standby"):
        runner.apply(replicated.replica, bundle(m1="SELECT 1"), limits)


def test_role_without_rights_is_named(servers: Servers, database: Database, limits: StatementLimits) -> None:
    servers.ask(servers.primary, f"CREATE ROLE {database.name}_poor LOGIN PASSWORD '{PASSWORD}'")
    poor = servers.owned(database.name, f"{database.name}_poor")
    with pytest.raises(MigrationRefused, match="may make no table in the schema public"):
        runner.apply(poor, bundle(m1="SELECT 1"), limits)
    runner.apply(database, bundle(m1="SELECT 1"), limits)
    with pytest.raises(MigrationRefused, match="may not read and write"):
        runner.apply(poor, bundle(m1="SELECT 1"), limits)


# --- quiet ---


def test_forgotten_prepared_transaction_is_seen(database: Database, connection: Connection) -> None:
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE orders IN ACCESS SHARE MODE")
        other.execute("PREPARE TRANSACTION 'forgotten'")
    try:
        assert all(part.passed for part in validation.quiet(connection))
        bad = [part.reason for part in validation.quiet(connection, 0) if not part.passed]
        assert len(bad) == 1
        assert bad[0].startswith("neither committed nor rolled back: 'forgotten' of owner for ")
    finally:
        connection.execute("ROLLBACK PREPARED 'forgotten'")


# --- the reader and PostgreSQL agree ---

TEXTS = st.text(alphabet="ab;'\"\\$-/*(){}\n\r\t éE0", max_size=12)
TAGS = st.sampled_from(["", "a", "é_1"])


def _dollar(tag: str, text: str) -> str:
    return f"${tag}${text.replace('$', '')}${tag}$"


LITERALS = st.one_of(
    TEXTS.map(lambda text: "'" + text.replace("'", "''") + "'"),
    TEXTS.map(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"),
    st.builds(_dollar, TAGS, TEXTS),
    st.just("1"),
)
GAPS = st.one_of(
    st.just(" "),
    TEXTS.map(lambda text: "--" + text.replace("\n", "").replace("\r", "") + "\n"),
    TEXTS.map(lambda text: "--" + text.replace("\n", "").replace("\r", "") + "\r"),
    TEXTS.map(lambda text: "/*" + text.replace("*", "").replace("/", "") + "/* ; ' */*/"),
)
NAMES = TEXTS.map(lambda text: '"x' + text.replace('"', '""') + '"')


@st.composite
def _selects(draw: st.DrawFn) -> str:
    shown = draw(st.lists(st.tuples(LITERALS, NAMES, GAPS), min_size=1, max_size=3))
    columns = ", ".join(f"({literal}{gap}){gap}AS {name}" for literal, name, gap in shown)
    return f"{draw(GAPS)}SELECT{draw(GAPS)}{columns}{draw(GAPS)}"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=st.lists(_selects(), min_size=1, max_size=4))
def test_reader_ends_statements_where_postgresql_does(connection: Connection, written: list[str]) -> None:
    script = ";".join(written)
    cursor = connection.execute(script.encode())
    results = 1
    while cursor.nextset():
        results += 1
    assert len(statements.read(script)) == results == len(written)
