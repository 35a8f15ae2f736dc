"""A breach after the decision point: noted or asked, fixed or not, with pods that turn bad in virtual time."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from handover import clock
from handover.analysis import judge
from handover.coordination import state
from handover.models.incident import Incident, Resolution, Severity
from handover.models.measures import Phase
from handover.plan.model import Plan
from handover.ports.kube import KubeError
from handover.ports.router import Stage
from handover.workflows.watch import incidents as noting
from handover.workflows.watch.incidents import add
from tests.workflows.watch.test_background import (
    _with_cpu,
    clean_since,
    database,  # noqa: F401 - fixture
    ends,
    remember,
    serves,  # noqa: F401 - fixture
    then,
    told,  # noqa: F401 - fixture
    tracker,  # noqa: F401 - fixture
    trigger,
    watched,
    watching,
)

BREACH = judge.Finding("error_rate", "30 % of requests fail")


def incidents(world) -> tuple[Incident, ...]:
    return world.run(partial(state.read, name=world.plan.lock_name)).incidents


def planned(world, **severities: str) -> Plan:
    changed = world.plan.incidents.model_copy(update={"severities": {k: Severity(v) for k, v in severities.items()}})
    return world.plan.model_copy(update={"incidents": changed})


def pause(seconds: float):
    async def happens(_) -> None:
        await asyncio.sleep(seconds)

    return happens


def bad(world, seconds: float | None = None):
    """Every new pod answers 500, for good or for so long."""

    async def happens(kube) -> None:
        await world.tell(kube, "green", mode="errors")
        if seconds:
            await asyncio.sleep(seconds)
            await world.tell(kube, "green", mode="none")

    return happens


@pytest.fixture
def monitored(serves):  # noqa: F811
    """The decision point has passed."""
    serves.run(lambda kube: remember(serves, kube, phase=Phase.MONITORING))
    return serves


def resolved(world, outcome: Resolution):
    """A happening: somebody answers, or has mended it."""

    async def happens(kube) -> None:
        await add(kube, world.plan, world.token, "said", outcome)

    return happens


@pytest.mark.plan("Assess severity (Critical/High/Medium/Low)", "If Critical:")
def test_a_critical_incident_is_put_to_people_once_and_leaves_traffic_where_it_is(monitored, told):  # noqa: F811
    with monitored.guests():
        evidence, _ = watched(monitored, trigger(monitored), then(bad(monitored), ends(monitored, 10.0)))
    assert evidence.passed
    assert monitored.run(monitored.where) == ("green", Stage.PROMOTED)
    (found,) = incidents(monitored)
    assert (found.severity, found.rule, found.open) == (Severity.CRITICAL, "error_rate", True)
    assert len(told) == 1


def test_two_watches_put_an_incident_to_people_once(monitored, told):  # noqa: F811
    async def both(kube):
        async with watching(trigger(monitored)) as one, watching(trigger(monitored)) as other:
            await bad(monitored)(kube)
            await ends(monitored, 5.0)(kube)
            return await one.evidence(), await other.evidence()

    with monitored.guests():
        monitored.run(both)
    assert len(incidents(monitored)) == len(told) == 1


@pytest.mark.plan("Assess severity (Critical/High/Medium/Low)")
def test_an_incident_that_is_not_critical_is_noted_and_the_watch_goes_on(monitored):
    with monitored.guests():
        subject = trigger(monitored, planned(monitored, error_rate="high", p99_seconds="low"))
        evidence, _ = watched(monitored, subject, then(bad(monitored, seconds=1.0), ends(monitored, 12.0)))
    assert evidence.passed, evidence.reason
    assert monitored.run(monitored.where) == ("green", Stage.PROMOTED)
    assert incidents(monitored)
    assert {found.outcome for found in incidents(monitored)} == {Resolution.NOTED}


def test_after_a_fix_a_second_critical_incident_is_rolled_back_at_once(monitored):
    mended = then(bad(monitored, seconds=2.0), resolved(monitored, Resolution.FIXED), pause(7.0))
    with monitored.guests():
        evidence, seconds = watched(monitored, trigger(monitored), then(mended, bad(monitored)))
    assert not evidence.passed
    assert evidence.reason.endswith("; traffic is back on blue")
    assert seconds < 1
    assert monitored.run(monitored.where) == ("blue", Stage.ABORTED)
    assert [found.outcome for found in incidents(monitored)] == [Resolution.FIXED, Resolution.ROLLED_BACK]


def test_an_answer_of_rollback_moves_traffic_back_at_once(monitored):
    """While it is still bad; the rollback does the rest."""
    answered = then(bad(monitored), pause(3.0), resolved(monitored, Resolution.ROLLED_BACK))
    with monitored.guests():
        evidence, seconds = watched(monitored, trigger(monitored), answered)
    assert evidence.reason.endswith("; traffic is back on blue")
    assert seconds < 3
    assert [found.outcome for found in incidents(monitored)] == [Resolution.ROLLED_BACK]


@pytest.mark.plan("If Fix: Deploy hotfix within 15 minutes")
def test_a_fix_that_works_is_seen_clean(monitored):
    async def clean(kube):
        await bad(monitored, seconds=2.0)(kube)
        await asyncio.sleep(12.0)
        return await clean_since(monitored, kube)

    async def run(kube):
        async with watching(trigger(monitored)) as watch:
            begun = clock.epoch()
            since = await clean(kube)
            watch.task.cancel()
            return since - begun

    with monitored.guests():
        assert 2 < monitored.run(run) < 10


def test_the_watch_that_moves_traffic_records_the_incident_as_rolled_back_and_tells_people_at_once(serves, told):  # noqa: F811
    with serves.guests():
        watched(serves, trigger(serves), bad(serves))
    (found,) = incidents(serves)
    assert (found.outcome, found.severity) == (Resolution.ROLLED_BACK, Severity.CRITICAL)
    assert found.timeline[-1].what == "traffic is back on blue"
    assert told == [str(found)]


def test_what_two_watches_have_taken_back_is_told_once(serves, told):  # noqa: F811
    async def both(kube):
        async with watching(trigger(serves)) as one, watching(trigger(serves)) as other:
            await bad(serves)(kube)
            return await one.evidence(), await other.evidence()

    with serves.guests():
        found = serves.run(both)
    assert not any(evidence.passed for evidence in found)
    assert len(incidents(serves)) == len(told) == 1


def test_what_no_client_met_and_what_cannot_be_recorded_is_not_told_by_the_watch(serves, told, monkeypatch):  # noqa: F811
    def noted(met: bool) -> None:
        serves.run(partial(
            noting.rolled_back, plan=serves.plan, token=serves.token, finding=BREACH, what="traffic is back", met=met
        ))  # fmt: skip

    noted(met=False)
    assert (len(incidents(serves)), told) == (1, [])

    async def away(*_):
        raise KubeError(0, "away")

    monkeypatch.setattr(noting, "_change", away)
    noted(met=True)
    assert told == []


def test_a_channel_that_hangs_holds_up_no_rollback(serves, monkeypatch):  # noqa: F811
    answers = threading.Event()
    monkeypatch.setattr(noting, "_tell", lambda *_: answers.wait(60))

    async def noted(kube) -> bool:
        given = serves.plan, serves.token, BREACH, "traffic is back"
        await noting.rolled_back(kube, *given, met=True)
        hangs = not answers.is_set()
        answers.set()
        return hangs

    assert serves.run(noted)


def test_an_incident_that_could_not_be_noted_is_found_again(monitored, told, monkeypatch):  # noqa: F811
    """The API server refuses the first time."""
    note, refused = noting.note, []

    async def refuse_once(*given) -> None:
        if not refused:
            refused.append(True)
            raise KubeError(503, "not now")
        await note(*given)

    monkeypatch.setattr(noting, "note", refuse_once)
    with monitored.guests():
        subject = trigger(monitored, planned(monitored, error_rate="high"))
        watched(monitored, subject, then(bad(monitored, seconds=3.0), ends(monitored, 3.0)))
    assert [found.rule for found in incidents(monitored)] == ["error_rate"]


def test_a_channel_that_is_slow_blinds_nobody(monitored, monkeypatch):
    """While people are being told of something small, something critical is asked about."""
    note, said = noting.note, list[str]()

    async def slowly(kube, plan, token, finding) -> None:
        said.append("low" if finding.severity is Severity.LOW else finding.rule)
        await asyncio.sleep(60.0 if finding.severity is Severity.LOW else 0.0)
        await note(kube, plan, token, finding)

    monkeypatch.setattr(noting, "note", slowly)
    found: list[str] = []
    monkeypatch.setattr("tests.twins.service.App.metrics", _with_cpu({"cpu": 0.9}))

    async def happens(kube) -> None:
        await asyncio.sleep(10.0)
        await bad(monitored)(kube)
        await asyncio.sleep(4.0)
        found.extend(one.rule for one in (await state.read(kube, monitored.plan.lock_name)).incidents)
        await ends(monitored, 0.5)(kube)

    with monitored.guests():
        rules = monitored.plan.watch.model_copy(update={"sustained_seconds": 2.0})
        plan = planned(monitored, cpu="low").model_copy(update={"watch": rules})
        watched(monitored, trigger(monitored, plan), happens)
    assert found == ["error_rate"]
    assert sorted(said) == ["error_rate", "low"]
