"""The page's server, with a ledger on a real PostgreSQL."""

from __future__ import annotations

import pytest

from tests.record.conftest import book, connected, server  # noqa: F401 - fixtures
from tests.support.page import Desk, people
from tests.twins.service import TwinService
from tests.twins.world import quick_plan  # noqa: F401 - a fixture


@pytest.fixture
def desk(quick_plan, connected, monkeypatch):  # noqa: F811
    """Nothing was ever deployed, traffic is on blue; nothing is recorded."""
    people(monkeypatch)
    return Desk(TwinService(quick_plan))
