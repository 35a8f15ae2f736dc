"""A primary and its streaming replica for as long as the measurement lasts; nothing of them stays."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from handover.adapters.postgres import Database
from sandbox.processes import Process, run
from sandbox.services import postgres
from sandbox.settings import Subnet

PORT = 15432
PASSWORD = "bench"
OPTIONS = {
    **postgres.REPLICATED,
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "maintenance_work_mem": "128MB",
    "wal_retrieve_retry_interval": "200ms",
    "max_prepared_transactions": "5",
}
"""As the sandbox's primary has it (nothing is synced to disk), with memory and WAL for some gigabytes."""


@dataclass(frozen=True)
class Pair:
    """Both servers as their superuser sees them. ``address``: the first two numbers of the network that is ours."""

    primary: Database
    replica: Database
    address: str
    folder: Path
    options: Mapping[str, str]
    processes: dict[str, Process]
    """``primary`` and ``replica``."""

    def serve(self, name: str) -> None:
        """Starts one again."""
        host = {"primary": self.primary, "replica": self.replica}[name].host
        self.processes[name] = _serve(name, self.folder, host, self.options)

    def new(self, name: str) -> Database:
        """An empty database of the primary; one of this name goes first."""
        with self.primary.connect() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
            admin.execute(f"CREATE DATABASE {name}".encode())
        return self.primary.named(name)

    def drop(self, database: Database) -> None:
        with self.primary.connect() as admin:
            admin.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)".encode())


@contextmanager
def pair(home: Path, options: Mapping[str, str] = OPTIONS) -> Iterator[Pair]:
    """Starts both under ``home``, whose file system has to have room for twice the data."""
    home.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-database-", dir=home)))
        subnet = stack.enter_context(closing(Subnet()))
        hosts = {name: f"{subnet.prefix}.0.{number}" for name, number in (("primary", 2), ("replica", 3))}
        log = folder / "setup.log"
        _lay_primary(folder / "primary", log)
        processes: dict[str, Process] = {}
        stack.callback(_stop, processes)
        processes["primary"] = _serve("primary", folder, hosts["primary"], options)
        _copy_primary(folder / "replica", hosts["primary"], log)
        processes["replica"] = _serve("replica", folder, hosts["replica"], options)
        at = {name: Database(host, PORT, "postgres", "postgres", PASSWORD) for name, host in hosts.items()}
        yield Pair(at["primary"], at["replica"], subnet.prefix, folder, options, processes)


def _lay_primary(data: Path, log: Path) -> None:
    postgres.initdb(data, log)
    roles = {"postgres": (PASSWORD, "SUPERUSER"), "replicator": (PASSWORD, "REPLICATION")}
    postgres.set_roles(data, roles, log)


def _copy_primary(data: Path, host: str, log: Path) -> None:
    source = f"host={host} port={PORT} user=replicator application_name=replica"
    argv = postgres.command(
        "pg_basebackup", "-d", source, "-D", data, "-R", "-X", "stream", "-C", "-S", "replica_1", "--no-sync",
        "-c", "fast",
    )  # fmt: skip
    run(argv, what="pg_basebackup", log=log, env={**os.environ, "PGPASSWORD": PASSWORD})


def _stop(processes: dict[str, Process]) -> None:
    for process in reversed(processes.values()):
        process.stop(grace_seconds=60)


def _serve(name: str, folder: Path, host: str, options: Mapping[str, str]) -> Process:
    process = postgres.serve(name, folder / name, host, PORT, options, folder / f"{name}.log")
    postgres.wait_ready(f"postgresql://postgres:{PASSWORD}@{host}:{PORT}/postgres", process)
    return process
