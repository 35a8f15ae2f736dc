"""What a release is to be judged by is tried on what serves now: refused by name, before anything changes."""

from __future__ import annotations

import pytest

from handover.models.evidence import Measurement
from handover.models.names import CONNECTIONS, ERROR_RATE, NEW_ERRORS, P50, P99, PODS, REPLICATION_LAG
from handover.plan.measures import MeasureEntry
from handover.plan.traffic import Origin
from handover.ports.public import Answer
from handover.workflows.watch import preflight
from handover.workflows.watch.preflight import WatchPreflight
from tests.support.steps import release, run
from tests.twins.service import TwinAddress
from tests.workflows.watch.test_background import TwinSource, remember


@pytest.fixture
def database():
    return TwinSource("database", {CONNECTIONS: 10, REPLICATION_LAG: 0.0})


@pytest.fixture
def tracker():
    return TwinSource("error_tracker", {NEW_ERRORS: 0})


@pytest.fixture
def evidence(world, database, tracker, monkeypatch):
    monkeypatch.setattr(preflight, "sources_of", lambda plan, version, colour: [database, tracker])

    def judged():
        with world.guests():
            return run(WatchPreflight(task_id="watch_preflight", plan=world.plan), world.token, release("x")).evidence

    return judged


def test_a_service_that_can_be_judged_passes(evidence, database, tracker):
    found = evidence()
    assert found.passed, found.reason
    assert found.reason.startswith("every source was read for v1.0.0")
    assert "left out: a measure is missing: no cache_misses_total in the metrics" in found.reason
    assert (database.closed, tracker.closed) == (1, 1)


def test_metrics_that_cannot_be_read_are_refused(world, evidence):
    world.service.tell("blue", mode="mute")
    found = evidence()
    assert not found.passed
    assert found.reason.startswith("unreadable: ")
    assert "pms-blue" in found.reason
    assert found.reason.endswith("nothing was changed")


def test_a_source_that_is_away_is_named(evidence, tracker):
    tracker.values = None
    assert evidence().reason == "error_tracker: OSError: connection refused; nothing was changed"


def test_a_value_that_a_source_does_not_know_is_named(evidence, database, monkeypatch):
    async def measure():
        return [Measurement(what=REPLICATION_LAG, value=None, source="database", why="the replica is cut off")]

    monkeypatch.setattr(database, "measure", measure)
    assert evidence().reason.startswith("database: replication_lag_seconds: the replica is cut off")


def test_an_address_that_answers_badly_is_refused(world, evidence):
    world.service.tell("blue", mode="errors")
    assert "probe: GET /health: status 500" in evidence().reason


def test_a_health_path_that_a_cache_answers_is_refused(world, evidence, monkeypatch):
    async def get(address, path, timeout):
        return Answer(0.01, 200, {"x-version": "v1.0.0", "age": "300"})

    monkeypatch.setattr(TwinAddress, "get", get)
    assert "probe: GET /health: a cache has had this answer for 300 s" in evidence().reason


def test_answers_that_do_not_say_which_version_gave_them_are_refused(world, evidence):
    world.service.plan = world.with_plan(traffic={"origin": Origin(header="X-Nobody-Sends-This")})
    assert "answers say nothing in the header X-Nobody-Sends-This (status 200)" in evidence().reason


@pytest.mark.parametrize("origin", [
    Origin(field="build.version"), Origin(field="hostname", names_pod=True), Origin(header="X-Version", path="/v"),
], ids=str)  # fmt: skip
def test_the_version_is_looked_for_where_the_plan_says(world, evidence, origin):
    world.service.plan = world.with_plan(traffic={"origin": origin})
    assert evidence().passed


def test_what_answers_do_not_tell_is_left_out_by_name(world, evidence):
    world.service.plan = world.with_plan(traffic={"origin": None, "entry_seconds": 5.0})
    found = evidence()
    assert found.passed
    assert "which version an answer is from (no traffic.origin): both serve for 5 s" in found.reason


def test_answers_of_another_version_than_the_one_that_is_known_are_refused(world, evidence):
    world.run(lambda kube: remember(world, kube, previous_version="v0.9.0"))
    assert "the header X-Version says v1.0.0, and v0.9.0 serves" in evidence().reason


def test_build_metadata_makes_no_other_version(world, evidence):
    world.run(lambda kube: remember(world, kube, previous_version="v1.0.0+5f3a91c"))
    assert evidence().passed


def test_metrics_that_the_plan_leaves_out_may_be_unreadable(world, evidence):
    left_out = [MeasureEntry(name=name, source=PODS, phases=()) for name in (ERROR_RATE, P99, P50)]
    world.service.plan = world.plan.model_copy(update={"measures": tuple(left_out)})
    world.service.tell("blue", mode="mute")
    found = evidence()
    assert found.passed, found.reason
    assert "left out: unreadable: " in found.reason
