"""The sample's releases, good and bad, tried on its own data."""

from __future__ import annotations

import pytest

from handover.database.migrations import Bundle
from handover.database.rehearsal.trial import Trial
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from sandbox.hotel.releases import BASE, MIGRATIONS, release
from tests.database.conftest import small_hotel
from tests.support.postgres import Servers


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("v1.1.0", ""),
        ("v1.9.0", ""),
        ("v1.6.0", "20261110100000_one_guest_per_room_night: statement 2 (CREATE UNIQUE INDEX"),
        ("v1.7.0", "the reverse does not bring back what was there before"),
    ],
)
def test_a_bad_migration_is_found_before_anybody_is_asked_to_come(servers: Servers, version: str, problem: str) -> None:
    files = {
        f"{name}/{file.name}": file.read_bytes()
        for name in release(version).migrations
        for file in (MIGRATIONS / name).glob("*.sql")
    }
    hotel = servers.copy("hotel", "owner", small_hotel)
    trial = Trial(load_plan(INCLUDE / "plans" / "pms.yaml"), hotel, Bundle.from_files(files), done=BASE)
    trial.run()
    assert "; ".join(trial.problems).startswith(problem)
    assert bool(trial.problems) is bool(problem)
