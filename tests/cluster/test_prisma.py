"""Whole deployments with the plan's recommended method: the real `npx prisma migrate deploy`, a Job of the release."""

from __future__ import annotations

import psycopg
import pytest

from sandbox.hotel.releases import CHANNEL, FAILING
from sandbox.runs import DEPLOYMENT, Team
from sandbox.stack import Sandbox
from tests.conftest import overlay_for_little_data
from tests.runs.conftest import Production

pytestmark = pytest.mark.cluster
MIGRATE = "phase_3_database_migration.execute_migration"


@pytest.fixture(scope="module")
def endpoints(real_cluster, tmp_path_factory):
    """A sandbox in which no migration has run; gone again before the next one, which needs the same addresses."""
    folder = tmp_path_factory.mktemp("prisma")
    with Sandbox(folder / "home", small=True, overlay=overlay_for_little_data(folder), cluster=real_cluster) as running:
        Team(running.endpoints).admin.pause("pms_followups")
        yield running.endpoints


def rows(endpoints, name: str) -> list[tuple[bool, bool]]:
    """Whether it finished and whether it was taken back, of every try of a migration."""
    query = (
        "SELECT finished_at IS NOT NULL, rolled_back_at IS NOT NULL FROM _prisma_migrations WHERE migration_name = %s"
    )
    with psycopg.connect(endpoints["postgres"]["primary"]) as connection:
        return connection.execute(query, (name,)).fetchall()


@pytest.mark.plan("npx prisma migrate deploy --skip-verify")
def test_prisma_migrates_in_a_deployment_and_a_failed_one_comes_back(endpoints, guests):
    team, production = Team(endpoints, print), Production(endpoints)
    assert rows(endpoints, CHANNEL) == []
    good = team.deploy("v1.1.0", method="prisma")
    assert good.outcome == "succeeded", good
    assert rows(endpoints, CHANNEL) == [(True, False)]
    assert production.state()["migration"]["applied"] == [CHANNEL]
    assert "prisma" in team.admin.log(DEPLOYMENT, good.run_id, MIGRATE).lower()

    bad = team.deploy("v1.6.0", method="prisma")
    assert bad.outcome == "rolled_back", bad
    assert "bookings_room_night_key" in team.admin.log(DEPLOYMENT, bad.run_id, MIGRATE)
    assert rows(endpoints, FAILING) == [(False, True)], "else Prisma would refuse every release after it"
    assert production.serving() == "v1.1.0"
    assert not production.lock_holder()
    assert (guests.report()["failed"], guests.report()["bad_answers"]) == (0, 0)
