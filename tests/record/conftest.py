"""A real PostgreSQL with a fresh ledger for each test: an owner of the tables, and a role that may add and read."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from handover.adapters.postgres import Database
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.record.ledger import Ledger
from handover.record.schema import migrate
from tests.support.postgres import Servers


@pytest.fixture(scope="session")
def server(servers: Servers) -> Servers:
    return servers


@dataclass(frozen=True)
class Book:
    """The same ledger as its owner and as its writer see it."""

    owner: Database
    writer: Database

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.writer)


def _book(server: Servers, owner: Database) -> Book:
    return Book(owner, server.owned(owner.name, "record"))


@pytest.fixture
def empty(server: Servers) -> Book:
    """A database without tables."""
    return _book(server, server.new("record_owner"))


@pytest.fixture
def book(server: Servers) -> Book:
    return _book(server, server.copy("ledger", "record_owner", lambda owner: migrate(owner, "record")))


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
