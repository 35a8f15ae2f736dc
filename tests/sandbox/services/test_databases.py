"""PostgreSQL for real: who may do what, and a replica that follows."""

from __future__ import annotations

import time

import psycopg
import pytest

from sandbox.services.databases import PRODUCTION, superuser_dsn


def app_dsn(settings, server):
    return settings.dsn(server, PRODUCTION, "pms", settings.secrets.pms)


def wait_for(condition, timeout_seconds=5.0):
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_hotel_is_seeded_and_its_test_guest_can_log_in(settings):
    from sandbox.hotel.security import verify_password

    with psycopg.connect(app_dsn(settings, "primary")) as connection:
        assert connection.execute("SELECT count(*) FROM bookings").fetchone()[0] >= 500
        stored = connection.execute("SELECT password_hash FROM users WHERE email = 'test@example.com'").fetchone()[0]
    assert verify_password(settings.secrets.test_password, stored)
    assert not verify_password("test123", stored)


def test_the_replica_streams_and_refuses_writes(settings):
    with (
        psycopg.connect(app_dsn(settings, "primary"), autocommit=True) as primary,
        psycopg.connect(app_dsn(settings, "replica"), autocommit=True) as replica,
    ):
        primary.execute("CREATE TABLE follows AS SELECT 42 AS answer")
        wait_for(lambda: replica.execute("SELECT to_regclass('follows')").fetchone()[0])
        wait_for(lambda: replica.execute("SELECT answer FROM follows").fetchall() == [(42,)])
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("DROP TABLE follows")
        primary.execute("DROP TABLE follows")


def test_the_deployment_can_see_the_replication_without_being_superuser(settings):
    with psycopg.connect(app_dsn(settings, "primary")) as primary:
        rows = primary.execute("SELECT application_name, state, replay_lsn IS NOT NULL FROM pg_stat_replication")
        assert rows.fetchall() == [("replica", "streaming", True)]
        slots = primary.execute("SELECT slot_name, active FROM pg_replication_slots").fetchall()
        assert slots == [("replica_1", True)]
        assert primary.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (False,)
    with psycopg.connect(app_dsn(settings, "replica")) as replica:
        assert replica.execute("SELECT status FROM pg_stat_wal_receiver").fetchone() == ("streaming",)


@pytest.mark.parametrize("server", ["primary", "replica"])
@pytest.mark.parametrize("user", ["postgres", "pms", "replicator"])
def test_nobody_gets_in_with_a_wrong_password_or_none(settings, server, user):
    for password in ("wrong", ""):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(settings.dsn(server, PRODUCTION, user, password)).close()


def test_passwords_are_stored_as_scram(settings):
    with psycopg.connect(superuser_dsn(settings, "primary")) as connection:
        stored = connection.execute("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL").fetchall()
    assert stored
    assert all(password.startswith("SCRAM-SHA-256$") for (password,) in stored)


def test_data_folders_are_closed_to_others(settings):
    for server in ("primary", "replica"):
        assert (settings.home / "postgres" / server).stat().st_mode & 0o077 == 0
