"""A real PostgreSQL for the session, and another one with a streaming replica; tests take databases of them.

Each server has an address that no other test process has, so its port is never anybody else's. The replica has a
primary of its own because it copies all databases that are there, and most tests need none.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from handover.adapters.postgres import Database
from sandbox.services.postgres import bin_dir, command
from sandbox.settings import Subnet

PASSWORD = "only-for-tests-5f1c"
PORT = 15432
PATIENCE = 120.0
"""Seconds; a server that takes so long is broken on any machine."""
CONF = """
unix_socket_directories=''
fsync=off
autovacuum=off
wal_level=replica
max_wal_senders=5
max_replication_slots=5
max_prepared_transactions=5
shared_buffers=64MB
wal_retrieve_retry_interval=200ms
"""
HBA = "host all all 127.0.0.0/8 scram-sha-256\nhost replication all 127.0.0.0/8 scram-sha-256\n"
Fill = Callable[[Database], object]
_NUMBERS = itertools.count(1)


@dataclass
class Servers:
    """A primary, and its replica if it has one, as their superuser sees them."""

    folder: Path
    prefix: str
    started: list[str] = field(default_factory=list)
    templates: dict[str, Database] = field(default_factory=dict)

    @property
    def primary(self) -> Database:
        return Database(f"{self.prefix}.0.2", PORT, "postgres", "postgres", PASSWORD)

    @property
    def other_address(self) -> str:
        """Where the primary answers as well, as if it were another server."""
        return f"{self.prefix}.0.4"

    @property
    def replica(self) -> Database:
        return Database(f"{self.prefix}.0.3", PORT, "postgres", "postgres", PASSWORD)

    def make_primary(self) -> None:
        data = self.folder / "p"
        _run("initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", "--pwfile=/dev/stdin", "--no-sync",
             "-E", "UTF8", "--no-locale", input=f"{PASSWORD}\n".encode())  # fmt: skip
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(CONF)
        (data / "pg_hba.conf").write_text(HBA)
        self.start("p")
        for role, rights in (("owner", "CREATEDB"), ("record_owner", ""), ("record", "")):
            self.ask(self.primary, f"CREATE ROLE {role} LOGIN {rights} PASSWORD '{PASSWORD}'")
        self.ask(self.primary, "GRANT pg_monitor TO owner")

    def make_replica(self) -> None:
        source = f"host={self.primary.host} port={PORT} user=postgres password={PASSWORD}"
        _run("pg_basebackup", "-D", self.folder / "r", "-R", "-X", "stream", "-C", "-S", "r1", "--no-sync", "-c",
             "fast", "-d", source)  # fmt: skip
        self.start("r")

    @property
    def log(self) -> Path:
        """What the primary logs."""
        return self.folder / "p.log"

    def start(self, name: str) -> None:
        """``p`` or ``r``."""
        hosts = f"{self.primary.host},{self.other_address}" if name == "p" else f"{self.prefix}.0.3"
        _run("pg_ctl", "-w", "-t", str(int(PATIENCE)), "-D", self.folder / name, "-l", self.folder / f"{name}.log",
             "-o", f"-p {PORT} -c listen_addresses={hosts}", "start")  # fmt: skip
        self.started.append(name)

    def stop(self, name: str, how: str = "immediate") -> None:
        _run("pg_ctl", "-w", "-D", self.folder / name, "-m", how, "stop")
        self.started.remove(name)

    def ask(self, where: Database, query: str) -> Any:
        with where.connect() as connection:
            found = connection.execute(query.encode())
            return found.fetchone() if found.description else None

    def new(self, owner: str, template: str = "template1") -> Database:
        """A new database, as its owner sees it, who is no superuser. It is never dropped: that costs a checkpoint."""
        name = f"db{next(_NUMBERS)}"
        self.ask(self.primary, f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}")
        return self.owned(name, owner)

    def latin(self, owner: str) -> Database:
        """A new database whose encoding is not the server's."""
        name = f"latin{next(_NUMBERS)}"
        self.ask(
            self.primary, f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C'"
            " LC_CTYPE 'C'",
        )  # fmt: skip
        return self.owned(name, owner)

    def template(self, what: str, owner: str, fill: Fill) -> Database:
        """A database that is made and filled once, for tests that change nothing in it."""
        if what not in self.templates:
            made = self.new(owner)
            fill(made)
            self.templates[what] = made
        return self.templates[what]

    def copy(self, what: str, owner: str, fill: Fill) -> Database:
        """A copy of its own of such a database."""
        return self.new(owner, self.template(what, owner, fill).name)

    def owned(self, name: str, owner: str = "owner") -> Database:
        return Database(self.primary.host, PORT, name, owner, PASSWORD)


def _run(program: str, *arguments: str | Path, **more: Any) -> None:
    argv = command(program, *arguments)
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=PATIENCE, **more)


@contextlib.contextmanager
def _running(folder: Path, replica: bool) -> Iterator[Servers]:
    with contextlib.closing(Subnet()) as own:
        there = Servers(folder, own.prefix)
        try:
            there.make_primary()
            if replica:
                there.make_replica()
            yield there
        finally:
            for name in sorted(there.started, reverse=True):
                there.stop(name)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Its roles: ``owner`` of databases, who may make some, and ``record_owner`` and ``record`` of ledgers."""
    with _running(tmp_path_factory.mktemp("pg"), replica=False) as there:
        yield there


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The same with a replica."""
    with _running(tmp_path_factory.mktemp("pair"), replica=True) as there:
        yield there


@pytest.fixture(scope="session")
def programs() -> Iterator[None]:
    """PostgreSQL's programs of the server's own version come first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{bin_dir()}{os.pathsep}{os.environ['PATH']}")
        yield
