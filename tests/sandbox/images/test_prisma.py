"""The real Prisma of the images, and that it and the product's own runner follow each other on one database."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database import ledger, migrations, runner
from handover.database.migrations import Bundle
from handover.database.runner import StatementLimits
from sandbox.hotel.releases import BASE, CHANNEL, FAILING, MIGRATIONS, release
from tests.sandbox.images.container import Container

pytestmark = pytest.mark.cluster
_NUMBERS = itertools.count(1)
LIMITS = StatementLimits(lock_timeout=0.5, statement_timeout=30, lock_retries=3, other_runner=10)
TWO_GUESTS = """
INSERT INTO users (user_id, email, full_name, password_hash) VALUES (1, 'a@example.com', 'A', '!');
INSERT INTO rooms (room_id, number, floor, room_type, price_per_night) VALUES (1, '101', 1, 'single', 80);
INSERT INTO bookings (user_id, room_id, check_in, check_out, total_amount)
SELECT 1, 1, '2026-12-24', '2026-12-25', 80 FROM generate_series(1, 2);
"""
LEFT = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'bookings' AND column_name = 'exclusive'"


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """DSN of an empty database."""
    name = f"prisma{next(_NUMBERS)}"
    with psycopg.connect(f"{postgres}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"{postgres}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def bundle(tag: str) -> Bundle:
    names = release(tag).migrations
    return Bundle.from_files({f"{n}/migration.sql": (MIGRATIONS / n / "migration.sql").read_bytes() for n in names})


def rows(dsn: str) -> list[migrations.Row]:
    with psycopg.connect(dsn) as connection:
        return ledger.rows(connection)


def query(dsn: str, text: str) -> list[tuple]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        done = connection.execute(text.encode())
        return done.fetchall() if done.description else []


def by_prisma(container: Container, dsn: str, tag: str, *words: str, **env: str) -> tuple[int, str]:
    done = container.prisma(tag, *words, DATABASE_URL=dsn, **env)
    return done.code, done.output


def test_it_is_the_real_prisma(container):
    done = container.run("v1.1.0", "npx", "prisma", "version", DATABASE_URL="postgresql://x@127.0.0.1:1/x")
    assert re.search(r"prisma\s*:\s*7\.10\.1", done.output), done.output
    assert re.search(r"Node\.js\s*:\s*v24\.21\.0", done.output)
    other = container.run("v1.1.0", "npx", "cowsay")
    assert (other.code, "only prisma" in other.output) == (1, True)


def test_a_fresh_database_then_the_next_release_then_nothing(container, database):
    assert by_prisma(container, database, "v1.0.0", "status")[0] == 1
    code, said = by_prisma(container, database, "v1.0.0", "deploy")
    assert code == 0, said
    assert "All migrations have been successfully applied" in said
    code, said = by_prisma(container, database, "v1.1.0", "status")
    assert (code, CHANNEL in said, BASE[0] in said) == (1, True, False)
    assert by_prisma(container, database, "v1.1.0", "deploy")[0] == 0
    assert [row.name for row in rows(database)] == [*BASE, CHANNEL]
    code, said = by_prisma(container, database, "v1.1.0", "deploy")
    assert (code, "No pending migrations" in said) == (0, True)
    code, said = by_prisma(container, database, "v1.1.0", "status")
    assert (code, "up to date" in said) == (0, True)


def test_a_failing_migration_leaves_nothing_and_blocks_until_it_is_resolved(container, database):
    assert by_prisma(container, database, "v1.1.0", "deploy")[0] == 0
    query(database, TWO_GUESTS)
    code, said = by_prisma(container, database, "v1.6.0", "deploy")
    assert code == 1
    assert "bookings_room_night_key" in said
    assert query(database, LEFT) == [(0,)], "the first statement of the failed migration is undone"
    code, said = by_prisma(container, database, "v1.6.0", "deploy")
    assert (code, "P3009" in said, FAILING in said) == (1, True, True)
    with pytest.raises(runner.MigrationRefused, match=FAILING):
        runner.apply(Database.from_uri(database), bundle("v1.6.0"), LIMITS)
    code, said = by_prisma(container, database, "v1.6.0", "resolve", "--rolled-back", FAILING)
    assert (code, "marked as rolled back" in said) == (0, True)
    query(database, "DELETE FROM bookings")
    assert runner.apply(Database.from_uri(database), bundle("v1.6.0"), LIMITS).names == (FAILING,)
    assert "No pending" in by_prisma(container, database, "v1.6.0", "deploy")[1]
    before = rows(database)
    code, said = by_prisma(container, database, "v1.6.0", "resolve", "--rolled-back", BASE[0])
    assert (code, "P3012" in said) == (1, True)
    # For one that failed, was resolved and then applied, Prisma says yes and does nothing: its answer proves nothing.
    assert by_prisma(container, database, "v1.6.0", "resolve", "--rolled-back", FAILING)[0] == 0
    assert migrations.applied(rows(database)) == migrations.applied(before)


@pytest.mark.plan("Current Database → Prisma ORM → New Database")
def test_prisma_follows_our_runner(container, database):
    assert runner.apply(Database.from_uri(database), bundle("v1.0.0"), LIMITS).names == BASE
    assert "No pending migrations" in by_prisma(container, database, "v1.0.0", "deploy")[1]
    code, said = by_prisma(container, database, "v1.1.0", "deploy")
    assert (code, CHANNEL in said, BASE[1] in said) == (0, True, False)
    assert [row.name for row in rows(database)] == [*BASE, CHANNEL]
    assert migrations.drift(bundle("v1.1.0"), rows(database)) == []


@pytest.mark.plan("npx prisma migrate deploy --skip-verify")
def test_our_runner_follows_prisma(container, database):
    assert by_prisma(container, database, "v1.0.0", "deploy")[0] == 0
    assert {row.name: row.checksum for row in rows(database)} == {s.name: s.checksum for s in bundle("v1.0.0").scripts}
    assert runner.apply(Database.from_uri(database), bundle("v1.0.0"), LIMITS).names == ()
    assert runner.apply(Database.from_uri(database), bundle("v1.1.0"), LIMITS).names == (CHANNEL,)
    assert "No pending migrations" in by_prisma(container, database, "v1.1.0", "deploy")[1]
    assert "up to date" in by_prisma(container, database, "v1.1.0", "status")[1]


def test_both_write_the_same_rows(container, database):
    """Every column but those that are made anew each time; and the table itself."""
    columns = "migration_name, checksum, logs, rolled_back_at, applied_steps_count, finished_at >= started_at"
    shape = "SELECT column_name, data_type, character_maximum_length, is_nullable, column_default \
        FROM information_schema.columns WHERE table_name = '_prisma_migrations' ORDER BY ordinal_position"
    seen = []
    for apply in (
        lambda: by_prisma(container, database, "v1.1.0", "deploy"),
        lambda: runner.apply(Database.from_uri(database), bundle("v1.1.0"), LIMITS),
    ):
        apply()
        seen.append((query(database, f"SELECT {columns} FROM _prisma_migrations ORDER BY 1"), query(database, shape)))
        query(database, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    assert seen[0] == seen[1]
    assert len(seen[0][0]) == len(release("v1.1.0").migrations)


def test_prisma_tries_again_what_failed_in_our_runner(container, database):
    runner.apply(Database.from_uri(database), bundle("v1.1.0"), LIMITS)
    query(database, TWO_GUESTS)
    with pytest.raises(runner.MigrationFailed, match=FAILING):
        runner.apply(Database.from_uri(database), bundle("v1.6.0"), LIMITS)
    code, said = by_prisma(container, database, "v1.6.0", "deploy")
    assert (code, "bookings_room_night_key" in said) == (1, True), "it left nothing, so Prisma does not call it failed"
    assert [row.name for row in rows(database)].count(FAILING) == 2
    query(database, "DELETE FROM bookings")
    assert by_prisma(container, database, "v1.6.0", "resolve", "--rolled-back", FAILING)[0] == 0
    assert by_prisma(container, database, "v1.6.0", "deploy")[0] == 0
    assert migrations.applied(rows(database))[-1] == FAILING


def test_prisma_waits_for_our_lock(container, database):
    with Database.from_uri(database).connect() as connection, ledger.locked(connection, 1):
        code, said = by_prisma(container, database, "v1.0.0", "deploy")
        assert code == 1
        assert "P1002" in said or "advisory lock" in said
    assert query(database, "SELECT to_regclass('users') IS NULL") == [(True,)]
    assert by_prisma(container, database, "v1.0.0", "deploy")[0] == 0


def test_a_lock_timeout_reaches_prisma(container, database):
    assert by_prisma(container, database, "v1.0.0", "deploy")[0] == 0
    with psycopg.connect(database) as reader:
        reader.execute("SELECT count(*) FROM bookings")
        begin = time.monotonic()
        code, said = by_prisma(container, database, "v1.1.0", "deploy", PGOPTIONS="-c lock_timeout=300ms")
        assert (code, "lock timeout" in said) == (1, True), said
        assert time.monotonic() - begin < 30
    assert [row.name for row in rows(database)][-1] == CHANNEL


@pytest.mark.parametrize(
    ("change", "code"),
    [({"port": "1"}, "P1001"), ({"database": "nobody"}, "P1003"), ({"query": "?sslmode=require"}, "no TLS")],
)
def test_a_database_that_is_not_there(container, postgres, change, code):
    parts = urlsplit(postgres)
    host = f"{parts.hostname}:{change.get('port', parts.port)}"
    dsn = f"postgresql://postgres@{host}/{change.get('database', 'postgres')}{change.get('query', '')}"
    ended, said = by_prisma(container, dsn, "v1.0.0", "deploy")
    assert (ended, code in said) == (1, True), said


def test_the_other_commands_of_a_release(container):
    done = container.run("v1.1.0", "npm", "test")
    assert (done.code, "OK" in done.output) == (0, True), done.output
    assert container.run("v1.1.0", "id", "-u").output.strip() == "10001"
    assert "Permission denied" in container.run("v1.1.0", "touch", "/app/x").output
    assert not Path(container.root / "app" / "x").exists()
