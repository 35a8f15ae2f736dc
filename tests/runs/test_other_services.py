"""Services that nobody here wrote, adopted by the commands of docs/adopt.md and deployed beside the first one."""

from __future__ import annotations

import json

import psycopg
import pytest

from sandbox.bench import Eyes
from sandbox.others import miniflux
from sandbox.others.miniflux import MINIFLUX
from sandbox.others.podinfo import BAD, FIRST, GOOD, NEVER_READY, PODINFO
from sandbox.runs import Team
from sandbox.services.databases import superuser_dsn

pytestmark = [pytest.mark.run, pytest.mark.slow]


def version_of(_, body: bytes) -> str:
    try:
        return f"v{json.loads(body)['version']}"
    except (ValueError, KeyError):
        return ""


def adopted(service, sandbox, endpoints, version):
    """Its team, and what it took to get to its first dry run."""
    team = Team(endpoints, print, plan=service.name)
    service.add_images(sandbox.settings)
    service.begin(sandbox.settings)
    done = service.adopt(sandbox.settings, team.roles["lead"], f"v{version}")
    print(*done.commands, f"{done.lines} lines by hand, {done.minutes} minutes", sep="\n")
    return team, done


@pytest.fixture(scope="module")
def podinfo(sandbox, endpoints):
    return adopted(PODINFO, sandbox, endpoints, GOOD)


@pytest.fixture
def eyes(podinfo):
    with Eyes(podinfo[1].url, "/", version_of) as looking:
        yield looking
    tell(looking)


def tell(eyes):
    print(f"{len(eyes.seen)} requests, {sum(look.status != 200 for look in eyes.seen)} of them failed")


def serving(eyes):
    """The version of the newest answers."""
    versions = {look.version for look in eyes.seen[-20:]}
    assert len(versions) == 1, versions
    return versions.pop()


def test_three_commands_and_no_line_by_hand_lead_to_its_first_dry_run(podinfo):
    _, done = podinfo
    assert [command.split()[3:4] for command in done.commands[:2]] == [["adopt"], ["prepare"]]
    assert (len(done.commands), done.lines) == (3, 0)


def test_a_good_release_goes_out_without_losing_a_request(podinfo, eyes):
    outcome = podinfo[0].deploy(f"v{GOOD}")
    assert outcome.outcome == "succeeded", outcome
    assert serving(eyes) == f"v{GOOD}"
    assert {look.status for look in eyes.seen} == {200}
    assert {look.version for look in eyes.seen} == {f"v{FIRST}", f"v{GOOD}"}


def test_a_bad_one_is_taken_off_by_the_watch(podinfo, eyes):
    outcome = podinfo[0].deploy(f"v{BAD}")
    assert outcome.outcome == "rolled_back", outcome
    assert serving(eyes) != f"v{BAD}"
    bad = [look.began for look in eyes.seen if look.status != 200]
    print(f"{len(bad)} of {len(eyes.seen)} answers were bad, in {bad[-1] - bad[0]:.3f} s")
    assert bad[-1] - bad[0] < 5


def test_one_that_never_gets_ready_meets_nobody(podinfo, eyes):
    outcome = podinfo[0].deploy(f"v{NEVER_READY}")
    assert outcome.outcome == "rolled_back", outcome
    assert {look.status for look in eyes.seen} == {200}
    assert f"v{NEVER_READY}" not in {look.version for look in eyes.seen}


def schema_version(settings) -> int:
    with psycopg.connect(superuser_dsn(settings, "primary", MINIFLUX.name)) as connection:
        return int(connection.execute("SELECT version FROM schema_version").fetchone()[0])


def test_a_service_whose_own_migration_comes_first_goes_out_without_losing_a_request(sandbox, endpoints):
    team, done = adopted(MINIFLUX, sandbox, endpoints, miniflux.NEXT)
    assert len(done.commands) == 3
    before = schema_version(sandbox.settings)
    with Eyes(done.url, "/healthcheck") as eyes:
        outcome = team.deploy(f"v{miniflux.NEXT}")
    tell(eyes)
    print(*outcome.failed_tasks.values(), sep="\n")
    assert outcome.outcome == "succeeded"
    assert {look.status for look in eyes.seen} == {200}
    assert schema_version(sandbox.settings) > before
    said = team.admin.log(team.deployment, outcome.run_id, "phase_3_database_migration.execute_migration")
    assert f"applied {schema_version(sandbox.settings)}" in said
