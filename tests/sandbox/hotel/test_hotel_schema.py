"""Both versions on both schemas, and while a migration comes and goes beneath them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
import pytest

from sandbox.hotel import migrations
from sandbox.hotel.releases import BASE, CHANNEL, CORRUPTING, FAILING, MIGRATIONS, RELEASES, release
from sandbox.hotel.scripts.checks import Client
from sandbox.hotel.scripts.e2e import serving
from tests.sandbox.hotel.conftest import log_in, settings

pytestmark = pytest.mark.sandbox

STAY = {"roomId": 1, "checkIn": "2030-01-01", "checkOut": "2030-01-02", "channel": "web"}


def migrate(dsn: str, *names: str) -> list[str]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return migrations.apply(connection, names)


def undo(dsn: str, name: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute((MIGRATIONS / name / "down.sql").read_bytes())


def one(dsn: str, query: str) -> object:
    with psycopg.connect(dsn) as connection:
        row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return row[0]


def channel_of(client: Client, booking: int) -> str | None:
    found: dict[str, str] = next(row for row in client.want(200, "GET", "/bookings") if row["id"] == booking)
    return found.get("channel")


@pytest.mark.plan("Application continues running on current schema", "New schema deployed alongside")
@pytest.mark.parametrize("version", ["v1.0.0", "v1.1.0"])
@pytest.mark.parametrize("migrated", [False, True])
def test_each_version_runs_on_each_schema(database: str, version: str, migrated: bool) -> None:
    if migrated:
        assert migrate(database, CHANNEL) == [CHANNEL]
    with serving(settings(database, version)) as url:
        client = Client(url)
        log_in(client)
        booking = client.want(201, "POST", "/bookings", STAY)["id"]
        expected = "web" if (version, migrated) == ("v1.1.0", True) else None
        assert channel_of(client, booking) == expected
    if migrated:
        stored = one(database, f"SELECT channel FROM bookings WHERE booking_id = {booking}")
        assert stored == (expected or "direct")


def under_load(dsn: str, version: str, during: Callable[[], None]) -> set[int]:
    """Statuses of bookings and lists that three clients got while something happened."""
    statuses: set[int] = set()
    stop = threading.Event()

    def work(url: str, token: str) -> None:
        client = Client(url)
        client.token = token
        while not stop.is_set():
            statuses.add(client.call("GET", "/bookings")[0])
            statuses.add(client.call("POST", "/bookings", STAY)[0])

    with serving(settings(dsn, version)) as url:
        client = Client(url)
        log_in(client)
        threads = [threading.Thread(target=work, args=(url, client.token)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            during()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    return statuses


@pytest.mark.plan("Zero-downtime approach:")
@pytest.mark.parametrize("version", ["v1.0.0", "v1.1.0"])
def test_a_migration_and_its_way_back_cost_no_request(database: str, version: str) -> None:
    def there_and_back() -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            for _ in range(4):
                connection.execute((MIGRATIONS / CHANNEL / "migration.sql").read_bytes())
                threading.Event().wait(0.3)
                connection.execute((MIGRATIONS / CHANNEL / "down.sql").read_bytes())

    assert under_load(database, version, there_and_back) == {200, 201}


def test_new_columns_are_used_soon_after_the_migration(database: str) -> None:
    with serving(settings(database)) as url:
        client = Client(url)
        log_in(client)
        migrate(database, CHANNEL)
        threading.Event().wait(1.3)
        assert channel_of(client, client.want(201, "POST", "/bookings", STAY)["id"]) == "web"


def test_the_failing_migration_leaves_nothing(database: str) -> None:
    migrate(database, CHANNEL)
    with pytest.raises(psycopg.errors.UniqueViolation):
        migrate(database, FAILING)
    assert one(database, "SELECT count(*) FROM information_schema.columns WHERE column_name = 'exclusive'") == 0
    query = f"SELECT logs FROM _prisma_migrations WHERE migration_name = '{FAILING}' AND finished_at IS NULL"
    assert "bookings_room_night_key" in str(one(database, query))


def test_the_corrupting_migration_succeeds_and_loses_data(database: str) -> None:
    before = one(database, "SELECT count(*) FROM bookings")
    assert migrate(database, CHANNEL, CORRUPTING) == [CHANNEL, CORRUPTING]
    after = one(database, "SELECT count(*) FROM bookings")
    assert isinstance(before, int)
    assert isinstance(after, int)
    assert after < before
    assert one(database, "SELECT count(*) FROM users WHERE email IS NULL") != 0
    undo(database, CORRUPTING)
    assert one(database, "SELECT count(*) FROM users WHERE email IS NULL") == 0
    query = "SELECT is_nullable FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'email'"
    assert one(database, query) == "NO"
    assert one(database, "SELECT count(*) FROM bookings") == after


def test_migrations_are_applied_once_and_recorded_as_prisma_does(database: str) -> None:
    assert migrate(database, *BASE, CHANNEL) == [CHANNEL]
    assert migrate(database, *BASE, CHANNEL) == []
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT migration_name, checksum, applied_steps_count, finished_at >= started_at, rolled_back_at, logs "
            "FROM _prisma_migrations ORDER BY started_at"
        ).fetchall()
    assert rows == [(name, migrations.checksum(name), 1, True, None, None) for name in (*BASE, CHANNEL)]


def test_every_migration_can_be_undone(database: str) -> None:
    for name in reversed(BASE):
        undo(database, name)
    assert one(database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 1  # Prisma's own


def test_releases_only_add_migrations() -> None:
    for one_release in RELEASES[1:]:
        assert one_release.migrations[: len(BASE) + 1] == (*BASE, CHANNEL)
        assert list(one_release.migrations) == sorted(one_release.migrations)
    assert release("v1.0.0").migrations == BASE
    with pytest.raises(KeyError):
        release("v9.9.9")
