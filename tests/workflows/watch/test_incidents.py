"""A breach after the decision point: noted or asked, fixed or not, with pods that turn bad in virtual time."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from handover.coordination import state
from handover.models.incident import Incident, Resolution, Severity
from handover.ports.router import Stage
from tests.workflows.watch.test_watch_trigger import (
    database,  # noqa: F401 - fixture
    serves,  # noqa: F401 - fixture
    told,  # noqa: F401 - fixture
    tracker,  # noqa: F401 - fixture
    trigger,
    watched,
)


def incidents(world) -> tuple[Incident, ...]:
    return world.run(partial(state.read, name=world.plan.lock_name)).incidents


def planned(world, **severities: str) -> dict:
    changed = world.plan.incidents.model_copy(update={"severities": {k: Severity(v) for k, v in severities.items()}})
    return {"plan": world.plan.model_copy(update={"incidents": changed}).model_dump(mode="json")}


def bad(world, seconds: float | None = None):
    """Every new pod answers 500, for good or for so long."""

    async def happens(kube) -> None:
        await world.tell(kube, "green", mode="errors")
        if seconds:
            await asyncio.sleep(seconds)
            await world.tell(kube, "green", mode="none")

    return happens


@pytest.mark.plan("Assess severity (Critical/High/Medium/Low)", "If Critical:")
def test_a_critical_incident_ends_the_watch_and_leaves_traffic_where_it_is(serves):  # noqa: F811
    with serves.guests():
        evidence, seconds = watched(serves, trigger(serves, 30, on_breach="ask"), bad(serves))
    assert evidence.passed
    assert evidence.reason.startswith("critical incident: error_rate: ")
    assert seconds < 5
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)
    (found,) = incidents(serves)
    assert (found.severity, found.rule, found.open) == (Severity.CRITICAL, "error_rate", True)


def test_a_watch_that_begins_again_asks_for_the_incident_that_is_open(serves):  # noqa: F811
    with serves.guests():
        watched(serves, trigger(serves, 30, on_breach="ask"), bad(serves))
        evidence, seconds = watched(serves, trigger(serves, 30, on_breach="ask"), warm=0.0)
    assert evidence.passed
    assert seconds < 2
    assert len(incidents(serves)) == 1


@pytest.mark.plan("Assess severity (Critical/High/Medium/Low)")
def test_an_incident_that_is_not_critical_is_noted_and_the_watch_goes_on(serves):  # noqa: F811
    with serves.guests():
        subject = trigger(serves, 12, on_breach="ask", **planned(serves, error_rate="high", p99_seconds="low"))
        evidence, seconds = watched(serves, subject, bad(serves, seconds=1.0))
    assert evidence.passed, evidence.reason
    assert seconds > 4
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)
    assert incidents(serves)
    assert {found.outcome for found in incidents(serves)} == {Resolution.NOTED}


def test_a_guard_moves_traffic_back_for_a_critical_incident(serves):  # noqa: F811
    with serves.guests():
        evidence, seconds = watched(serves, trigger(serves, 30, on_breach="guard"), bad(serves))
    assert not evidence.passed
    assert evidence.reason.endswith("; traffic is back on blue")
    assert seconds < 5
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)
    (found,) = incidents(serves)
    assert (found.outcome, found.rule) == (Resolution.ROLLED_BACK, "error_rate")


def test_a_guard_notes_what_is_not_critical_and_watches_on(serves):  # noqa: F811
    with serves.guests():
        subject = trigger(serves, 12, on_breach="guard", **planned(serves, error_rate="high", p99_seconds="low"))
        evidence, _ = watched(serves, subject, bad(serves, seconds=1.0))
    assert evidence.passed, evidence.reason
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)
    assert {found.outcome for found in incidents(serves)} == {Resolution.NOTED}


@pytest.mark.plan("If Fix: Deploy hotfix within 15 minutes")
def test_a_fix_that_works_ends_the_wait(serves):  # noqa: F811
    with serves.guests():
        subject = trigger(serves, 2.5, on_breach="recover", patience=40)
        evidence, seconds = watched(serves, subject, bad(serves, seconds=2.0))
    assert evidence.passed, evidence.reason
    assert 2 < seconds < 30


@pytest.mark.plan("If Fix: Deploy hotfix within 15 minutes")
def test_a_fix_that_does_not_work_in_time_fails(serves):  # noqa: F811
    with serves.guests():
        subject = trigger(serves, 2.5, on_breach="recover", patience=2)
        evidence, _ = watched(serves, subject, bad(serves))
    assert not evidence.passed
    assert evidence.reason.startswith("nothing that was tried worked within")
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)


def test_the_watch_that_moves_traffic_records_the_incident_as_rolled_back(serves):  # noqa: F811
    with serves.guests():
        watched(serves, trigger(serves, 30), bad(serves))
    (found,) = incidents(serves)
    assert (found.outcome, found.severity) == (Resolution.ROLLED_BACK, Severity.CRITICAL)
    assert found.timeline[-1].what == "traffic is back on blue"
