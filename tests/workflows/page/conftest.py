"""The page's server, and a ledger on a real PostgreSQL for those who ask for it."""

from __future__ import annotations

import pytest

from handover.adapters.postgres import Database
from tests.record.conftest import book, server  # noqa: F401 - fixtures
from tests.support.page import Desk, connection_to, people
from tests.twins.service import TwinService
from tests.twins.world import quick_plan  # noqa: F401 - a fixture

NOBODY = Database("127.0.0.1", 1, "none", "none")
"""A ledger that does not answer."""


@pytest.fixture
def desk(quick_plan, monkeypatch):  # noqa: F811
    """Nothing was ever deployed, traffic is on blue; the ledger is away."""
    people(monkeypatch)
    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", connection_to(NOBODY))
    return Desk(TwinService(quick_plan))


@pytest.fixture
def recorded(book, desk, monkeypatch):  # noqa: F811
    """The ledger is there, and empty; what the page's server knows of it is forgotten."""
    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", connection_to(book.writer))
    return book
