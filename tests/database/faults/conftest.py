"""The tests' own servers as places where faults are tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from handover.adapters.postgres import Database
from sandbox.database_faults.killing import Processes, processes
from sandbox.database_faults.place import OWNER, Place
from tests.support.postgres import PASSWORD, Servers


@pytest.fixture(scope="session")
def place(servers: Servers, replicated: Servers, s3: Any, s3_endpoint: str, with_programs: None) -> Place:
    """Without a replica: nobody here waits for one."""
    elsewhere = Database(replicated.primary.host, replicated.primary.port, "postgres", OWNER, PASSWORD)
    return Place(servers.primary, None, elsewhere, s3_endpoint, PASSWORD)


@pytest.fixture(scope="session")
def tries(with_programs: None) -> Iterator[Processes]:
    with processes() as those:
        yield those
