"""Services that nobody here wrote, adopted by the commands of docs/adopt.md and deployed beside the first one."""

from __future__ import annotations

import json

import pytest

from sandbox import podinfo
from sandbox.bench import Eyes
from sandbox.runs import Team
from tests.support.until import until

pytestmark = [pytest.mark.run, pytest.mark.slow]


def version_of(_, body: bytes) -> str:
    try:
        return f"v{json.loads(body)['version']}"
    except (ValueError, KeyError):
        return ""


@pytest.fixture(scope="module")
def adopted(sandbox, endpoints):
    team = Team(endpoints, print, plan=podinfo.NAME)
    podinfo.add_images(sandbox.settings)
    podinfo.begin(sandbox.settings)
    done = podinfo.adopt(sandbox.settings, sandbox.settings.plans.parent, team.admin)
    print("\n".join(done.commands))
    dags = {team.deployment, team.rollback}
    until(lambda: dags <= {dag["dag_id"] for dag in team.admin.dags()}, "that the plan is read")
    return done


@pytest.fixture
def shop(adopted, endpoints):
    return Team(endpoints, print, plan=podinfo.NAME)


@pytest.fixture
def eyes(adopted):
    with Eyes(adopted.url, "/", version_of) as looking:
        yield looking


def test_a_good_release_goes_out_without_losing_a_request(shop, adopted, eyes):
    outcome = shop.deploy(f"v{podinfo.GOOD}")
    assert outcome.outcome == "succeeded", outcome
    assert adopted.serving() == {podinfo.GOOD}
    assert {look.status for look in eyes.seen} == {200}
    assert {look.version for look in eyes.seen} == {f"v{podinfo.FIRST}", f"v{podinfo.GOOD}"}


def test_a_bad_one_is_taken_off_by_the_watch(shop, adopted, eyes):
    before = adopted.serving()
    outcome = shop.deploy(f"v{podinfo.BAD}")
    assert outcome.outcome == "rolled_back", outcome
    assert adopted.serving() == before
    bad = [look for look in eyes.seen if look.status != 200]
    print(f"{len(bad)} bad answers in {max(look.began for look in bad) - bad[0].began:.3f} s of {len(eyes.seen)}")
    assert max(look.began for look in bad) - bad[0].began < 5


def test_one_that_never_gets_ready_meets_nobody(shop, adopted, eyes):
    before = adopted.serving()
    outcome = shop.deploy(f"v{podinfo.NEVER_READY}")
    assert outcome.outcome == "rolled_back", outcome
    assert adopted.serving() == before
    assert {look.status for look in eyes.seen} == {200}
