"""The watch, run in virtual time against pods that turn bad while clients use them; hours take milliseconds."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from time import thread_time
from types import SimpleNamespace
from typing import Any

import pytest

from handover.coordination import heartbeat, promotion, state
from handover.coordination.routing import move
from handover.models.deployment import MigrationRecord, Status
from handover.models.evidence import Evidence, Measurement, Verdict
from handover.models.incident import Resolution, Severity
from handover.models.measures import Phase, Response
from handover.models.names import (
    CONNECTIONS,
    CPU,
    DISK_IO,
    ERROR_RATE,
    NETWORK_IO,
    NEW_ERRORS,
    P50,
    P99,
    REPLICATION_LAG,
)  # fmt: skip
from handover.models.record import Sample
from handover.plan.measures import MeasureEntry
from handover.plan.model import Plan
from handover.ports.kube import Kube
from handover.ports.router import Stage
from handover.step import StepRun
from handover.traffic.operators import SwitchTraffic
from handover.workflows.watch import incidents
from handover.workflows.watch import trigger as watch_trigger
from handover.workflows.watch.steps import baseline_sources
from handover.workflows.watch.trigger import StableTrigger, WatchTrigger
from tests.support.steps import Ti, release, revived, run
from tests.twins.world import World


@dataclass
class TwinSource:
    """A source of the watch in memory. ``values``: what it says next; None fails as a network does."""

    name: str
    values: dict[str, float | None] | None
    asked: int = 0
    closed: int = 0

    async def measure(self) -> list[Measurement]:
        self.asked += 1
        if self.values is None:
            raise OSError("connection refused")
        return [Measurement(what=what, value=value, source=self.name) for what, value in self.values.items()]

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def database(monkeypatch):
    return TwinSource("database", {CONNECTIONS: 10, REPLICATION_LAG: 0.0})


@pytest.fixture
def tracker():
    return TwinSource("error_tracker", {NEW_ERRORS: 0})


@pytest.fixture
def told(monkeypatch):
    """What people were told of incidents; the channels have tests of their own."""
    said: list[str] = []
    monkeypatch.setattr(incidents, "_tell", lambda plan, state, found: said.append(str(found)))
    return said


@pytest.fixture
def serves(world, database, tracker, told, monkeypatch):
    """The preview colour serves."""
    monkeypatch.setattr(watch_trigger, "sources_of", lambda plan, version, colour: [database, tracker])

    async def forward(kube) -> None:
        await move(world.router(kube), partial(promotion.overlap, token=world.token, at=1.0))
        await move(world.router(kube), partial(promotion.promote, token=world.token))

    world.run(forward)
    return world


def trigger(world: World, plan: Plan | None = None, **changes: Any) -> WatchTrigger:
    return revived(WatchTrigger(**(_arguments(world, plan) | changes)))


def of_stable(world: World, seconds: float = 2.5) -> StableTrigger:
    """The watch after a rollback."""
    return revived(StableTrigger(seconds=seconds, **_arguments(world)))


def _arguments(world: World, plan: Plan | None = None) -> dict[str, Any]:
    return {
        "plan": (plan or world.plan).model_dump(mode="json"), "token": world.token.model_dump(mode="json"),
        "check": "watch", "run": "a run",
    }  # fmt: skip


async def remember(world: World, kube: Kube, **facts: Any) -> None:
    await state.update(kube, world.plan.lock_name, world.token, lambda old: old.model_copy(update=facts))


def ends(world: World, seconds: float = 2.5):
    """A happening: the deployment ends well after a while."""

    async def happen(kube: Kube) -> None:
        await asyncio.sleep(seconds)
        await remember(world, kube, status=Status.SUCCEEDED)

    return happen


def then(*happenings):
    async def happen(kube: Kube) -> None:
        for one in happenings:
            await one(kube)

    return happen


@dataclass
class Watching:
    task: asyncio.Task[list[Any]]
    samples: list[Sample] = field(default_factory=list)
    """What came with the event for the record: all of it, since there is no ledger here."""

    async def evidence(self) -> Evidence:
        (event,) = await self.task
        payload = json.loads(json.dumps(event.payload))
        self.samples = [Sample.model_validate(one) for one in payload["samples"]]
        return Evidence.model_validate(payload["evidence"])


@asynccontextmanager
async def watching(subject: WatchTrigger, warm: float = 0.6) -> AsyncIterator[Watching]:
    async def events() -> list[Any]:
        return [event async for event in subject.run()]

    found = Watching(asyncio.create_task(events()))
    await asyncio.sleep(warm)
    assert not found.task.done(), found.task
    yield found


def watched(world, subject: WatchTrigger, happens=None, warm: float = 0.6) -> tuple[Evidence, float]:
    """Runs the watch, lets something happen after a moment; gives the evidence, and the seconds until it came."""

    async def run(kube) -> tuple[Evidence, float]:
        async with watching(subject, warm) as watch:
            if happens:
                await happens(kube)
            begun = asyncio.get_running_loop().time()
            return await watch.evidence(), asyncio.get_running_loop().time() - begun

    return world.run(run)


def bad(world, colour: str = "green", *, one: bool = False, **fault: Any):
    """A happening: pods of a colour misbehave."""

    async def happen(_) -> None:
        for pod in world.service.pods(colour)[: 1 if one else None]:
            app = world.service.app(pod)
            for name, value in fault.items():
                setattr(app, name, value)

    return happen


def known(world):
    return world.run(lambda kube: state.read(kube, world.plan.lock_name))


async def clean_since(world: World, kube: Kube) -> float | None:
    (beat,) = await heartbeat.read(kube, world.plan.lock_name, world.token)
    return beat.clean_since


def values(evidence: Evidence, what: str) -> list[float]:
    return [m.value for m in evidence.measurements if m.what == what]


@pytest.mark.plan(
    "DevOps/Operations | Infrastructure",
    "QA/Monitoring | Real-time monitoring",
    "Monitor performance metrics (DataDog/APM)",
    "Phase 6: Monitoring stabilized",
)
def test_a_good_release_passes_with_evidence_of_everything(serves):
    with serves.guests():
        evidence, _ = watched(serves, trigger(serves), ends(serves))
    assert evidence.passed, evidence.reason
    assert values(evidence, "error_rate") == [0, 0]
    assert min(values(evidence, "requests")) >= 20
    assert {m.what for m in evidence.measurements} >= {
        "requests_per_second", "p50_seconds", "p99_seconds", "cpu", "memory", CONNECTIONS, REPLICATION_LAG, NEW_ERRORS,
    }  # fmt: skip
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)


@pytest.mark.plan(
    "Check error rates, response times, database connections",
    "No error spikes observed",
    "Error rate: <0.1%",
    "Critical errors affecting core functionality",
    "Error rates normal",
)
@pytest.mark.parametrize("one", [False, True])
def test_errors_move_traffic_back_at_once(serves, one, database):
    with serves.guests() as guests:
        evidence, seconds = watched(serves, trigger(serves), bad(serves, one=one, mode="errors"))
    assert guests.failed == []
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.reason.startswith("error_rate: ")
    assert evidence.reason.endswith("traffic is back on blue")
    assert values(evidence, "traffic_back_seconds")
    assert seconds < 0.5
    assert database.closed == 1


def test_errors_are_seen_by_probes_alone_when_nobody_else_asks(serves):
    evidence, seconds = watched(serves, trigger(serves), bad(serves, mode="errors"))
    assert re.match("error_rate: (probe|pods): ", evidence.reason)
    assert seconds < 1


@pytest.mark.plan(
    "Check error rates, response times, database connections", "Response time p99: <1000ms", "Response times normal"
)
def test_slow_answers_move_traffic_back_before_they_arrive(serves):
    evidence, seconds = watched(serves, trigger(serves), bad(serves, mode="slow", delay_seconds=5.0))
    assert re.match(f"{P99}: (probe|pods): ", evidence.reason)
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)
    assert seconds < 2


def test_one_bad_answer_is_no_breach(serves):
    async def once(_):
        (pod, _) = serves.service.pods("green")
        serves.service.app(pod).answers[500] += 1

    evidence, _ = watched(serves, trigger(serves), then(once, ends(serves)))
    assert evidence.passed, evidence.reason


@pytest.mark.plan("No infrastructure issues")
def test_a_source_that_falls_silent_is_a_breach(serves):
    evidence, seconds = watched(serves, trigger(serves), bad(serves, mode="mute"))
    assert evidence.reason.startswith("no_data: pods gave no data for ")
    assert "broken" in evidence.reason
    assert 1 < seconds < 5
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)


@pytest.mark.plan("watch kubectl get pods -n production")
def test_a_single_pod_that_falls_silent_is_a_breach(serves):
    evidence, _ = watched(serves, trigger(serves), bad(serves, one=True, mode="mute"))
    assert evidence.reason.startswith("no_data: pods gave no data")


@pytest.mark.plan("Database replication failure", "No database issues")
@pytest.mark.parametrize(("said", "rule"), [
    (None, "no_data: database"), ({REPLICATION_LAG: None}, "no_data: database"),
    ({CONNECTIONS: 10, REPLICATION_LAG: 9.0}, REPLICATION_LAG),
])  # fmt: skip
def test_a_bad_database_is_a_breach(serves, database, said, rule):
    async def breaks(_):
        database.values = said

    evidence, seconds = watched(serves, trigger(serves), breaks)
    assert evidence.reason.startswith(rule)
    assert seconds < 8


@pytest.mark.plan(
    "Monitor error rates (Sentry)", "No new issues in error tracker", "Monitor error tracking service (Sentry)"
)
def test_new_issues_are_a_breach(serves, tracker):
    async def crash(_):
        tracker.values = {NEW_ERRORS: 1}

    evidence, _ = watched(serves, trigger(serves), crash)
    assert evidence.reason.startswith(NEW_ERRORS)


@pytest.fixture
def aborted(serves):
    """Traffic is back on the stable colour."""
    serves.run(lambda kube: move(serves.router(kube), partial(promotion.abort, token=serves.token, reason="x")))
    return serves


def test_old_issues_of_the_old_version_are_no_breach(aborted, tracker):
    tracker.values = {NEW_ERRORS: 1}
    evidence, _ = watched(aborted, of_stable(aborted))
    assert evidence.passed, evidence.reason


@pytest.mark.plan("Check error rates, performance metrics", "Monitor for 10 minutes to ensure stability")
def test_the_watch_of_the_old_colour_moves_nothing(aborted):
    subject = of_stable(aborted, 30)
    evidence, _ = watched(aborted, subject, bad(aborted, "blue", mode="errors"))
    assert evidence.verdict is Verdict.FAIL
    assert aborted.run(aborted.where) == ("blue", Stage.ABORTED)


def test_the_record_sees_the_breach_that_ends_the_watch(serves):
    async def run(kube):
        async with watching(trigger(serves), warm=1.3) as watch:
            await bad(serves, mode="errors")(kube)
            await watch.evidence()
            return watch.samples

    with serves.guests():
        samples = serves.run(run)
    rates = [s.value for s in sorted(samples, key=lambda s: s.at) if s.what == ERROR_RATE]
    assert rates[0] == 0
    assert rates[-1] > 0
    assert {s.what for s in samples} >= {P50, P99, REPLICATION_LAG, CONNECTIONS}


def test_without_a_stable_colour_traffic_stays_and_the_evidence_says_so(serves):
    async def turn_bad(kube):
        await serves.scale(kube, "blue", 0)
        await asyncio.sleep(1.2)
        await bad(serves, mode="errors")(kube)

    evidence, _ = watched(serves, trigger(serves), turn_bad)
    assert "traffic was not moved back: pms-blue has no ready pod" in evidence.reason
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)


def test_the_watch_ends_when_somebody_else_moves_traffic(serves):
    async def by_hand(kube):
        patch = {"spec": {"selector": {"app": "pms", "version": "blue"}}}
        await kube.merge("services", "pms-api", patch)

    evidence, seconds = watched(serves, trigger(serves), by_hand)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.reason.startswith("traffic is not on green any more: Service pms-api sends traffic to blue")
    assert seconds < 3


def test_a_watch_whose_deployment_is_over_watches_nothing(serves):
    stale = serves.token.model_copy(update={"generation": 99}).model_dump(mode="json")
    evidence, _ = watched(serves, trigger(serves, token=stale), warm=0)
    assert "generation 99 is over" in evidence.reason
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)


def test_a_cancelled_watch_ends_quietly_and_leaves_nothing_behind(serves, database):
    async def cancelled(_):
        async with watching(trigger(serves)) as watch:
            watch.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watch.task
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    serves.run(cancelled)
    assert (database.asked > 0, database.closed) == (True, 1)
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)


def test_a_watch_that_begins_again_begins_from_zero(serves):
    """The triggerer died: continuous observation is what counts."""

    async def twice(kube):
        async with watching(trigger(serves), warm=3.5) as first:
            before = await clean_since(serves, kube)
            first.task.cancel()
        async with watching(trigger(serves), warm=3.5) as second:
            after = await clean_since(serves, kube)
            second.task.cancel()
        return after - before

    assert serves.run(twice) > 3


def test_a_triggerer_that_was_held_up_does_not_blame_the_release(serves):
    """Its clock ran while it did nothing, so every probe that was under way looks slow."""
    plan = serves.with_plan(thresholds={"max_p50_seconds": 0.9})

    async def held_up(_):
        await asyncio.sleep(0.6)
        asyncio.get_running_loop().setup_looptime(start=asyncio.get_running_loop().time() + 1.2)

    serves.service.tell("green", mode="slow", delay_seconds=0.5)
    evidence, _ = watched(serves, trigger(serves, plan), then(held_up, ends(serves, 4.0)))
    assert evidence.passed, evidence.reason


def test_the_log_tells_how_it_goes(serves, monkeypatch):
    said: list[str] = []
    subject = trigger(serves)
    monkeypatch.setattr(type(subject), "log", SimpleNamespace(info=lambda text, *how: said.append(text % how)))
    watched(serves, subject, ends(serves, 13.0), warm=0)
    assert said[0] == "watching green"
    assert re.match(r"\d+ answers of 2 pods \(0 bad\), \d+ probes \(0 bad\), p50_seconds 0\.\d+", said[-1])


def test_disk_network_and_connections_of_the_old_pods_are_a_baseline(serves):
    """Two looks, as the `Baseline` step takes them."""

    async def looks(_):
        (first, pods) = baseline_sources(serves.plan, SimpleNamespace(stable="blue", previous_version="v1.0.0"))
        assert first.name == "database"
        await pods.measure()
        await asyncio.sleep(0.1)
        return await pods.measure()

    assert {m.what for m in serves.run(looks)} == {DISK_IO, NETWORK_IO}


def test_a_rule_that_is_not_critical_is_noted_as_what_it_is_and_moves_nothing(serves, monkeypatch):
    """After the decision point. CPU is high in the plan: it must not become something else on the way."""
    busy = {"mode": "none", "cpu": 0.0}
    monkeypatch.setattr("tests.twins.service.App.metrics", _with_cpu(busy))

    async def turn_busy(kube):
        await remember(serves, kube, phase=Phase.MONITORING)
        busy["cpu"] = 0.9

    plan = serves.with_plan(watch={"sustained_seconds": 2.0})
    with serves.guests():
        evidence, _ = watched(serves, trigger(serves, plan), then(turn_busy, ends(serves, 12.0)))
    assert evidence.passed, evidence.reason
    assert serves.run(serves.where) == ("green", Stage.PROMOTED)
    (first,) = known(serves).incidents
    assert (first.rule, first.severity, first.outcome) == (CPU, "high", Resolution.NOTED)
    assert first.timeline[0].what.count("cpu: ") == 1


def test_what_people_were_told_of_hides_nothing_else(serves, monkeypatch, told):
    """CPU goes on being too high, and is told once; errors that come then are put to the lead at once."""
    busy = {"mode": "none", "cpu": 0.9}
    monkeypatch.setattr("tests.twins.service.App.metrics", _with_cpu(busy))
    found: list[list[str]] = []

    async def happens(kube):
        await remember(serves, kube, phase=Phase.MONITORING)
        for turn_worse in (asyncio.sleep(20.0), bad(serves, mode="errors")(kube)):
            await turn_worse
            await asyncio.sleep(2.0)
            state_now = await state.read(kube, serves.plan.lock_name)
            found.append([one.rule for one in state_now.incidents])
        await ends(serves, 0.5)(kube)

    with serves.guests():
        watched(serves, trigger(serves, serves.with_plan(watch={"sustained_seconds": 2.0})), happens)
    assert found == [[CPU], [CPU, ERROR_RATE]]
    assert len(told) == 2


def test_a_measure_that_does_not_count_in_a_phase_moves_nothing_in_it_and_does_in_the_next(serves, database):
    lag = MeasureEntry(name=REPLICATION_LAG, source="database", phases=(Phase.STABILIZATION,))
    plan = serves.with_plan(watch={"sustained_seconds": 2.0}).model_copy(update={"measures": (lag,)})
    database.values = {CONNECTIONS: 10, REPLICATION_LAG: 60.0}

    async def happens(kube):
        await remember(serves, kube, phase=Phase.MIGRATION)
        await asyncio.sleep(20.0)
        assert await serves.where(kube) == ("green", Stage.PROMOTED)
        await remember(serves, kube, phase=Phase.STABILIZATION)

    with serves.guests():
        evidence, seconds = watched(serves, trigger(serves, plan), happens)
    assert REPLICATION_LAG in evidence.reason
    assert seconds < 5
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)


@pytest.mark.parametrize("stops", [True, False])
def test_where_the_plan_wants_it_a_running_migration_is_cancelled_before_traffic_goes_back(serves, stops):
    said = {Phase.MIGRATION: {Severity.CRITICAL: Response.CANCEL_MIGRATION}}
    plan, migrating = serves.with_plan(watch={"on_breach": said}), MigrationRecord(started=True, running=True)
    seen: list[tuple[str | None, str]] = []

    async def migrates(kube):
        """The step that migrates; it stops when it is told to, or not at all."""
        while not (known := await state.read(kube, serves.plan.lock_name)).migration.cancelled:
            await asyncio.sleep(0.05)
        seen.append((await serves.where(kube), known.migration.cancelled))
        if stops:
            await remember(serves, kube, migration=known.migration.model_copy(update={"running": False}))

    async def happens(kube):
        await remember(serves, kube, phase=Phase.MIGRATION, migration=migrating)
        await asyncio.sleep(1.5)
        await bad(serves, mode="errors")(kube)
        await migrates(kube)

    with serves.guests():
        evidence, seconds = watched(serves, trigger(serves, plan), happens)
    assert evidence.reason.endswith("; traffic is back on blue")
    ((where, why),) = seen
    assert where == ("green", Stage.PROMOTED)
    assert why.startswith(ERROR_RATE)
    assert (seconds < 1.0) if stops else (4.5 <= seconds < 5.5)


def _with_cpu(busy):
    from tests.twins.service import App

    plain = App.metrics

    def metrics(self):
        seconds = asyncio.get_running_loop().time() * busy["cpu"]
        return plain(self).replace("process_cpu_seconds_total 1", f"process_cpu_seconds_total {seconds}")

    return metrics


def test_the_five_minutes_of_the_plan_take_a_moment_and_little_of_the_triggerers_loop(serves):
    """The triggerer shares one event loop between all triggers."""
    idle, began = thread_time(), serves.time.now
    evidence, _ = watched(serves, trigger(serves), ends(serves, 300.0), warm=0)
    assert evidence.passed, evidence.reason
    assert (seconds := serves.time.now - began) == pytest.approx(300, abs=2)
    assert (thread_time() - idle) / seconds < 0.25


# --- before clients meet the version, and beside another watch


@pytest.fixture
def before_the_switch(world, database, tracker, told, monkeypatch):
    """The preview colour is deployed, and clients do not meet it."""
    monkeypatch.setattr(watch_trigger, "sources_of", lambda plan, version, colour: [database, tracker])
    return world


def test_the_switch_waits_until_every_source_was_heard(before_the_switch, tracker):
    world = before_the_switch
    tracker.values = None

    async def switch(kube) -> Evidence:
        step = SwitchTraffic(task_id="switch_traffic", plan=world.plan)
        async with watching(trigger(world)) as watch:
            waiting = asyncio.create_task(step.act(StepRun(world.plan, {"ti": Ti(world.token, release("x"))}, "open")))
            await asyncio.sleep(5)
            assert not waiting.done()
            assert (await world.where(kube))[0] == "blue"
            tracker.values = {NEW_ERRORS: 0}
            evidence = await waiting
            watch.task.cancel()
        return evidence

    # a source that is silent for too long is a breach: here it has patience
    evidence = before_the_switch_with_patience(world, switch)
    assert evidence.passed, evidence.reason
    assert world.run(world.where) == ("green", Stage.PROMOTED)


def before_the_switch_with_patience(world, work):
    world.service.plan = world.with_plan(watch={"no_data_seconds": 60.0})
    return world.run(work)


def test_nobody_watching_means_no_switch(world):
    ran = run(SwitchTraffic(task_id="switch_traffic", plan=world.plan), world.token, release("x"))
    assert ran.evidence.reason == "nobody watches: no watch has begun; nothing was changed"
    assert world.run(world.where) == ("blue", None)


def test_a_breach_before_the_switch_keeps_it_from_ever_happening(before_the_switch, database):
    async def breaks(_):
        database.values = {CONNECTIONS: 10, REPLICATION_LAG: 9.0}

    evidence, _ = watched(before_the_switch, trigger(before_the_switch), breaks)
    assert evidence.reason.startswith(REPLICATION_LAG)
    assert before_the_switch.run(before_the_switch.where) == ("blue", Stage.ABORTED)


@pytest.mark.parametrize("stage", [Stage.OVERLAP, Stage.PROMOTED])
def test_errors_move_traffic_back_from_the_first_patch_on(before_the_switch, stage):
    world = before_the_switch

    async def goes_bad(kube):
        await move(world.router(kube), partial(promotion.overlap, token=world.token, at=1.0))
        if stage is Stage.PROMOTED:
            await move(world.router(kube), partial(promotion.promote, token=world.token))
        await bad(world, mode="errors")(kube)

    with world.guests():
        evidence, seconds = watched(world, trigger(world), goes_bad)
    assert evidence.reason.startswith("error_rate: ")
    assert seconds < 1
    assert world.run(world.where) == ("blue", Stage.ABORTED)


def test_of_two_watches_one_moves_traffic_and_the_incident_is_there_once(serves):
    """As Airflow's triggerer and the service beside it do."""

    async def both(kube):
        async with watching(trigger(serves)) as one, watching(trigger(serves)) as other:
            await bad(serves, mode="errors")(kube)
            return await one.evidence(), await other.evidence()

    with serves.guests():
        found = serves.run(both)
    assert [evidence.passed for evidence in found] == [False, False]
    assert serves.run(serves.where) == ("blue", Stage.ABORTED)
    assert len(known(serves).incidents) == 1


def test_a_rollback_that_takes_over_ends_the_watch(serves):
    async def taken_over(kube):
        await state.update(
            kube, serves.plan.lock_name, serves.token,
            lambda old: old.model_copy(update={"status": Status.ROLLING_BACK, "generation": 2}),
        )  # fmt: skip

    evidence, seconds = watched(serves, trigger(serves), taken_over)
    assert not evidence.passed
    assert "generation 1 is over" in evidence.reason
    assert seconds < 2
