"""A real PostgreSQL with a fresh ledger for each test: an owner of the tables, and a role that may add and read."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from handover.adapters.postgres import Database
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.record.ledger import Ledger
from handover.record.schema import migrate
from sandbox.services.postgres import command

PASSWORD = "only-for-tests-77aa"
CONF = "\nlisten_addresses='127.0.0.1'\nunix_socket_directories=''\nfsync=off\nshared_buffers=32MB\n"
_NUMBERS = itertools.count(1)


@dataclass
class Server:
    """One server that can be taken away and brought back."""

    folder: Path
    port: int

    def start(self) -> None:
        self._ctl("-l", str(self.folder / "log"), "-o", f"-p {self.port}", "start")

    def stop(self) -> None:
        self._ctl("-m", "immediate", "stop")

    def database(self, name: str, user: str) -> Database:
        return Database("127.0.0.1", self.port, name, user, PASSWORD)

    def _ctl(self, *arguments: str) -> None:
        argv = command("pg_ctl", "-w", "-D", self.folder / "data", *arguments)
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, timeout=60)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ledger")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found = Server(folder, probe.getsockname()[1])
    subprocess.run(
        command("initdb", "-D", folder / "data", "-U", "postgres", "--auth=scram-sha-256", "--pwfile=/dev/stdin",
                "--no-sync", "-E", "UTF8", "--no-locale"),
        check=True, stdout=subprocess.DEVNULL, input=f"{PASSWORD}\n".encode(), timeout=60,
    )  # fmt: skip
    with (folder / "data" / "postgresql.conf").open("a") as conf:
        conf.write(CONF)
    found.start()
    try:
        with found.database("postgres", "postgres").connect() as admin:
            for role in ("record_owner", "record"):
                admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'".encode())
        yield found
    finally:
        found.stop()


@dataclass(frozen=True)
class Book:
    """The same ledger as its owner and as its writer see it."""

    owner: Database
    writer: Database

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.writer)


@pytest.fixture
def empty(server: Server) -> Book:
    """A database without tables."""
    name = f"ledger{next(_NUMBERS)}"
    with server.database("postgres", "postgres").connect() as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER record_owner".encode())
    return Book(server.database(name, "record_owner"), server.database(name, "record"))


@pytest.fixture
def book(empty: Book) -> Book:
    migrate(empty.owner, "record")
    return empty


@pytest.fixture
def connected(book: Book, monkeypatch: pytest.MonkeyPatch) -> Book:
    """The plan's connection leads to this ledger."""
    where = book.writer
    connection = {
        "conn_type": "postgres", "host": where.host, "port": where.port, "login": where.user,
        "password": where.password, "schema": where.name,
    }  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", json.dumps(connection))
    return book


@pytest.fixture(scope="session")
def plan() -> Plan:
    return load_plan(INCLUDE / "plans" / "pms.yaml")
