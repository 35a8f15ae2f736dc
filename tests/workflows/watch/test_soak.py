"""Soaks: by signs of life alone, and as Airflow runs them beside a watch, in virtual time."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from handover import clock
from handover.coordination import heartbeat, lock, state
from handover.foundation import EVIDENCE_KEY
from handover.models.evidence import Evidence, Measurement, Verdict
from handover.models.heartbeat import Heartbeat
from handover.models.incident import Resolution, Severity, began
from handover.workflows.watch.soak import soaked
from handover.workflows.watch.steps import Monitoring, Soak, Stabilization
from tests.support.steps import RUN_ID, Ti, release, revived

SILENT_SECONDS = 30.0


def sign(at: float = 1000.0, clean_since: float | None = 100.0, verdict=Verdict.PASS, watcher="airflow", **more):
    return Heartbeat(watcher=watcher, at=at, armed=True, clean_since=clean_since, verdict=verdict, reason="so", **more)


def judged(*beats, now=1000.0, since=200.0, seconds=300.0, silent_since=0.0):
    return soaked(
        "soak", beats, now, since=since, seconds=seconds, silent_since=silent_since, silent_seconds=SILENT_SECONDS
    )


def test_clean_for_long_enough_passes_with_what_the_watch_measured():
    found = judged(sign(measurements=(Measurement(what="error_rate", value=0, source="pods"),)))
    assert found.passed
    assert found.reason == "clean for 800 s in one piece; since the cutover so"
    assert [m.what for m in found.measurements] == ["error_rate"]


@pytest.mark.parametrize("beat", [
    sign(clean_since=701.0), sign(clean_since=None), sign(at=980.0, clean_since=690.0),
])  # fmt: skip
def test_what_was_not_clean_for_long_enough_goes_on(beat):
    assert judged(beat) is None


def test_what_was_seen_before_it_began_does_not_count():
    assert judged(sign(), since=701.0) is None
    assert judged(sign(), since=700.0).passed


def test_the_watch_that_saw_it_clean_for_longest_decides():
    restarted = sign(clean_since=990.0)
    assert judged(restarted, sign(watcher="service")).passed
    assert judged(restarted, sign(at=960.0, watcher="service")) is None  # but one that is dead says nothing


def test_nobody_watching_is_a_failure_once_it_has_been_listened_for_long_enough():
    assert judged(sign(at=960.0), silent_since=970.0) is None
    found = judged(sign(at=960.0), silent_since=960.0)
    assert found.verdict is Verdict.FAIL
    assert found.reason == "nobody watches: no sign of life for 40 s"
    assert judged(silent_since=969.0).verdict is Verdict.FAIL


def test_a_release_that_cannot_be_judged_has_a_little_more_time():
    few = sign(clean_since=680.0, verdict=Verdict.UNKNOWN)
    assert judged(few) is None
    found = judged(sign(clean_since=670.0, verdict=Verdict.UNKNOWN))
    assert (found.verdict, found.reason) == (Verdict.UNKNOWN, "so")


# --- as Airflow runs them


def deferred(world, step, **facts) -> TaskDeferred | Evidence:
    if facts:
        world.run(
            lambda kube: state.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=facts))
        )
    ti = Ti(world.token, release("x"))
    try:
        step.execute({"run_id": RUN_ID, "ti": ti})
    except TaskDeferred as waiting:
        return waiting
    except AirflowFailException:
        pass
    return Evidence.model_validate(ti.pushed[EVIDENCE_KEY])


def ended(world, waiting: TaskDeferred, beats: Any) -> tuple[Evidence, float]:
    """Runs the trigger while ``beats(kube)`` goes on; gives its evidence and how long it took."""

    async def both(kube):
        beside = asyncio.create_task(beats(kube))
        begun = clock.monotonic()
        try:
            (event,) = [event async for event in revived(waiting.trigger).run()]
        finally:
            beside.cancel()
        return Evidence.model_validate(event.payload), clock.monotonic() - begun

    return world.run(both)


async def beats(world, kube, clean_since: float | None = 0.0, seconds: float = 1e9) -> None:
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        one = sign(at=clock.epoch(), clean_since=clean_since)
        await heartbeat.beat(kube, world.plan.lock_name, world.token, one)
        await asyncio.sleep(1.0)


def test_a_soak_counts_from_the_cutover(world):
    waiting = deferred(
        world, Soak(task_id="soak", plan=world.plan, seconds=300.0), switched_at=world.time.epoch() - 290
    )
    evidence, seconds = ended(world, waiting, partial(beats, world))
    assert evidence.passed, evidence.reason
    assert seconds == pytest.approx(10, abs=2)


def test_a_stabilization_counts_from_its_beginning(world):
    step = Stabilization(task_id="stabilization", plan=world.plan, seconds=300.0)
    evidence, seconds = ended(world, deferred(world, step, switched_at=1.0), partial(beats, world))
    assert evidence.passed, evidence.reason
    assert seconds == pytest.approx(300, abs=2)


def test_a_watch_that_dies_fails_the_soak(world):
    waiting = deferred(world, Soak(task_id="soak", plan=world.plan, seconds=300.0))
    evidence, seconds = ended(world, waiting, partial(beats, world, seconds=20))
    assert evidence.reason.startswith("nobody watches")
    assert seconds < 25


def test_a_soak_that_is_never_clean_ends_at_its_deadline(world):
    waiting = deferred(world, Soak(task_id="soak", plan=world.plan, seconds=300.0))
    evidence, seconds = ended(world, waiting, partial(beats, world, clean_since=None))
    assert evidence.reason == "it was not clean for long enough: airflow: so"
    assert seconds == pytest.approx(600, abs=5)


def test_a_rollback_that_takes_the_lock_ends_the_soak(world):
    async def taken(kube):
        await asyncio.sleep(5)
        await lock.acquire(kube, world.plan.lock_name, "rollback", "a test", take_over=True)

    waiting = deferred(world, Soak(task_id="soak", plan=world.plan, seconds=300.0))
    evidence, seconds = ended(world, waiting, taken)
    assert "generation 1 is over" in evidence.reason or "nobody watches" in evidence.reason
    assert seconds < 10


def test_monitoring_writes_down_when_it_ends_once(world):
    step, found = Monitoring(task_id="monitoring", plan=world.plan, seconds=500), []
    for _ in range(2):  # the second one is another try
        waiting = deferred(world, step)
        found.append(world.run(partial(state.read, name=world.plan.lock_name)).watch_until)
        world.time.pass_by(100)
    assert found[0] == found[1]
    evidence, seconds = ended(world, waiting, partial(beats, world))
    assert evidence.passed, evidence.reason
    assert seconds < 401


@pytest.mark.plan("Assess severity (Critical/High/Medium/Low)", "If Critical:")
def test_an_incident_that_waits_for_an_answer_ends_the_monitoring_early(world):
    waiting = deferred(world, Monitoring(task_id="monitoring", plan=world.plan, seconds=500))

    async def broken(kube):
        asked = began("error_rate", "30 % of answers failed", Severity.CRITICAL, clock.epoch(), Resolution.ASKED)
        await state.update(
            kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update={"incidents": (asked,)})
        )
        await beats(world, kube)

    evidence, seconds = ended(world, waiting, broken)
    assert evidence.passed
    assert evidence.reason == "critical incident: 30 % of answers failed; somebody is asked"
    assert seconds < 2
