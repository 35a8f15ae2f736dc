"""The watch, run for real against pods that turn bad while clients use them.

Only the database is a stand-in here; it has its own tests.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from handover.models.evidence import Evidence, Measurement, Verdict
from handover.models.names import CONNECTIONS, DISK_IO, ERROR_RATE, NETWORK_IO, NEW_ERRORS, P50, P99, REPLICATION_LAG
from handover.models.record import Sample
from handover.traffic import switch
from handover.traffic.service import change
from handover.workflows.watch import trigger as watch_trigger
from handover.workflows.watch.steps import baseline_sources
from handover.workflows.watch.trigger import WatchTrigger
from tests.support.cluster import cluster  # noqa: F401 - fixture
from tests.support.colours import load, made_world, until, world  # noqa: F401 - fixtures
from tests.support.steps import connect_to, revived
from tests.support.web import Answer, serving

pytestmark = pytest.mark.sandbox


@dataclass
class Database:
    """What the watch is told about the database."""

    lag: float | None = 0.0
    connections: float = 10
    fails: bool = False
    asked: int = 0
    closed: int = 0
    name = "database"

    async def measure(self) -> list[Measurement]:
        self.asked += 1
        if self.fails:
            raise OSError("connection refused")
        return [
            Measurement(what=CONNECTIONS, value=self.connections, source=self.name),
            Measurement(what=REPLICATION_LAG, value=self.lag, unit="s", source=self.name),
        ]

    async def close(self) -> None:
        self.closed += 1


@pytest.fixture
def database(monkeypatch):
    database = Database()
    monkeypatch.setattr(watch_trigger, "DatabaseSource", lambda primary, replicas: database)
    return database


@pytest.fixture
def issues(monkeypatch):
    """The unresolved issues of the error tracker, as a list to be changed."""
    found: list[dict[str, Any]] = []
    with serving(lambda _: Answer(body=found)) as web:
        connect_to(monkeypatch, "pms_sentry", host=web.host, port=web.port, schema="http", password="x")
        yield found


@pytest.fixture
def serves(world, database, issues):  # noqa: F811
    """The new colour serves."""

    async def forward(kube) -> None:
        for intent in (switch.overlap, switch.narrow):
            await change(kube, "pms-api", partial(intent, cluster=world.plan.cluster, token=world.token))

    world.run(forward)
    return world


def trigger(world, seconds: float = 2.5, **changes: Any) -> WatchTrigger:  # noqa: F811
    arguments = {
        "plan": world.plan.model_dump(mode="json"), "ticket": world.token.model_dump(mode="json"),
        "check": "watch", "seconds": seconds, "colour": "new", "on_breach": "move_back",
    }  # fmt: skip
    return revived(WatchTrigger(**(arguments | changes)))


@dataclass
class Watching:
    task: asyncio.Task[list[Any]]
    samples: list[Sample] = field(default_factory=list)
    """What came with the event for the record: all of it, since there is no ledger here."""

    async def evidence(self, seconds: float = 20) -> Evidence:
        async with asyncio.timeout(seconds):
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


def watched(world, subject: WatchTrigger, happens=None, warm: float = 0.6) -> tuple[Evidence, float]:  # noqa: F811
    """Runs the watch, lets something happen after a second; gives the evidence, and the time until it came."""

    async def run(kube) -> tuple[Evidence, float]:
        async with watching(subject, warm) as watch:
            if happens:
                await happens(kube)
            begun = time.monotonic()
            return await watch.evidence(), time.monotonic() - begun

    return world.run(run)


def values(evidence: Evidence, what: str) -> list[float]:
    return [m.value for m in evidence.measurements if m.what == what]


def test_a_good_release_passes_with_evidence_of_everything(serves):
    with load(serves.url):
        evidence, _ = watched(serves, trigger(serves))
    assert evidence.passed, evidence.reason
    assert values(evidence, "error_rate") == [0, 0]
    assert min(values(evidence, "requests")) >= 20
    assert {m.what for m in evidence.measurements} >= {
        "requests_per_second", "p50_seconds", "p99_seconds", "cpu", "memory", CONNECTIONS, REPLICATION_LAG, NEW_ERRORS,
    }  # fmt: skip
    assert serves.run(serves.service) == ("green", "new")


@pytest.mark.parametrize("pods", ["all", "one"])
def test_errors_move_traffic_back_at_once(serves, pods, database):
    faults: list[float] = []

    async def turn_bad(kube):
        subject = (await serves.pods(kube, "green"))[: 1 if pods == "one" else 2]
        faults.append(time.monotonic())
        await serves.tell(kube, "green", only=subject, mode="errors")

    with load(serves.url) as guests:
        evidence, _ = watched(serves, trigger(serves, 30), turn_bad)
        time.sleep(0.2)
    assert guests.failed == []
    assert serves.run(serves.service) == ("blue", "back")
    assert evidence.verdict is Verdict.FAIL
    assert evidence.reason.startswith("error_rate: ")
    assert evidence.reason.endswith("traffic is back on blue")
    seconds = guests.last["v1.1.0"] - faults[0]
    print(f"{pods} bad: from fault to traffic back {seconds:.3f} s, patch {values(evidence, 'traffic_back_seconds')}")
    assert seconds < 2
    assert database.closed == 1


def test_errors_are_seen_by_probes_alone_when_nobody_else_asks(serves):
    begun: list[float] = []

    async def turn_bad(kube):
        begun.append(time.monotonic())
        await serves.tell(kube, "green", mode="errors")

    evidence, seconds = watched(serves, trigger(serves, 30), turn_bad)
    print(f"without clients: {seconds:.3f} s")
    assert evidence.reason.startswith("error_rate: probe: ") or evidence.reason.startswith("error_rate: pods: ")
    assert seconds < 2


def test_slow_answers_move_traffic_back_before_they_arrive(serves):
    async def turn_slow(kube):
        await serves.tell(kube, "green", mode="slow", delay_seconds=5.0)

    evidence, seconds = watched(serves, trigger(serves, 30), turn_slow)
    print(f"slow: {seconds:.3f} s: {evidence.reason}")
    assert evidence.reason.startswith(f"{P99}: probe: ")
    assert serves.run(serves.service) == ("blue", "back")
    assert seconds < 3


def test_one_bad_answer_is_no_breach(serves):
    async def hiccup(kube):
        (pod, _) = await serves.pods(kube, "green")
        await serves.tell(kube, "green", only=[pod], mode="errors")
        await kube.proxy(pod, 8080, "/health")

    async def once(kube):
        with pytest.raises(Exception, match="500"):
            await hiccup(kube)
        await serves.tell(kube, "green", mode="none")

    evidence, _ = watched(serves, trigger(serves, 2.5), once)
    assert evidence.passed, evidence.reason


def test_a_source_that_falls_silent_is_a_breach(serves):
    async def mute(kube):
        await serves.tell(kube, "green", mode="mute")

    evidence, seconds = watched(serves, trigger(serves, 30), mute)
    assert evidence.reason.startswith("no_data: pods gave no data for ")
    assert "500" in evidence.reason
    assert 1 < seconds < 5
    assert serves.run(serves.service) == ("blue", "back")


def test_a_single_pod_that_falls_silent_is_a_breach(serves):
    async def mute(kube):
        await serves.tell(kube, "green", only=(await serves.pods(kube, "green"))[:1], mode="mute")

    evidence, _ = watched(serves, trigger(serves, 30), mute)
    assert evidence.reason.startswith("no_data: pods gave no data")


@pytest.mark.parametrize(("facts", "rule"), [
    ({"fails": True}, "no_data: database"), ({"lag": None}, "no_data: database"), ({"lag": 9.0}, REPLICATION_LAG),
])  # fmt: skip
def test_a_bad_database_is_a_breach(serves, database, facts, rule):
    async def breaks(_):
        for name, value in facts.items():
            setattr(database, name, value)

    evidence, seconds = watched(serves, trigger(serves, 30), breaks)
    assert evidence.reason.startswith(rule)
    assert seconds < 8


def test_new_issues_are_a_breach(serves, issues):
    async def crash(_):
        issues.append({"id": "1"})

    evidence, _ = watched(serves, trigger(serves, 30), crash)
    assert evidence.reason.startswith(NEW_ERRORS)


def test_old_issues_of_the_old_version_are_no_breach(serves, issues):
    issues.append({"id": "1"})
    serves.run(lambda kube: change(kube, "pms-api", partial(
        switch.back, cluster=serves.plan.cluster, token=serves.token, reason="x")))  # fmt: skip
    evidence, _ = watched(serves, trigger(serves, 2.5, colour="old", on_breach="fail"))
    assert evidence.passed, evidence.reason


def test_the_watch_of_the_old_colour_moves_nothing(serves):
    serves.run(lambda kube: change(kube, "pms-api", partial(
        switch.back, cluster=serves.plan.cluster, token=serves.token, reason="x")))  # fmt: skip

    async def turn_bad(kube):
        await serves.tell(kube, "blue", mode="errors")

    evidence, _ = watched(serves, trigger(serves, 30, colour="old", on_breach="fail"), turn_bad)
    assert evidence.verdict is Verdict.FAIL
    assert serves.run(serves.service) == ("blue", "back")


def test_the_record_sees_the_breach_that_ends_the_watch(serves):
    async def run(kube):
        async with watching(trigger(serves, 30), warm=1.3) as watch:
            await serves.tell(kube, "green", mode="errors")
            await watch.evidence()
            return watch.samples

    with load(serves.url):
        samples = serves.run(run)
    rates = [s.value for s in sorted(samples, key=lambda s: s.at) if s.what == ERROR_RATE]
    assert rates[0] == 0
    assert rates[-1] > 0
    assert {s.what for s in samples} >= {P50, P99, REPLICATION_LAG, CONNECTIONS}


def test_without_an_old_colour_traffic_stays_and_the_evidence_says_so(serves):
    async def turn_bad(kube):
        await serves.scale(kube, "blue", 0)
        await asyncio.sleep(1.2)
        await serves.tell(kube, "green", mode="errors")

    evidence, _ = watched(serves, trigger(serves, 30), turn_bad)
    assert "traffic was not moved back: pms-blue has no ready pod" in evidence.reason
    assert serves.run(serves.service) == ("green", "new")


def test_the_watch_ends_when_somebody_else_moves_traffic(serves):
    async def by_hand(kube):
        patch = {"spec": {"selector": {"app": "pms", "version": "blue"}}}
        await kube.merge("services", "pms-api", patch)

    evidence, seconds = watched(serves, trigger(serves, 30), by_hand)
    assert evidence.verdict is Verdict.FAIL
    assert evidence.reason.startswith("traffic is not on green any more: Service pms-api selects blue")
    assert seconds < 2


def test_a_watch_whose_deployment_is_over_watches_nothing(serves):
    stale = serves.token.model_copy(update={"generation": 99}).model_dump(mode="json")
    evidence, _ = watched(serves, trigger(serves, 30, token=stale), warm=0)
    assert "generation 99 is over" in evidence.reason
    assert serves.run(serves.service) == ("green", "new")


def test_a_cancelled_watch_ends_quietly_and_leaves_nothing_behind(serves, database):
    async def cancelled(_):
        async with watching(trigger(serves, 30)) as watch:
            await until(lambda: asyncio.sleep(0, bool(database.asked)))
            watch.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await watch.task
        await asyncio.sleep(0.05)
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    serves.run(cancelled)
    assert database.closed == 1
    assert serves.run(serves.service) == ("green", "new")


def test_a_watch_that_begins_again_begins_from_zero(serves):
    """The triggerer died: continuous observation is what counts."""

    async def twice(_):
        async with watching(trigger(serves, 2.5)) as first:
            first.task.cancel()
        async with watching(trigger(serves, 2.5), warm=2.2) as second:
            return await second.evidence()

    evidence = serves.run(twice)
    assert evidence.passed, evidence.reason


def test_a_triggerer_that_was_held_up_does_not_blame_the_release(serves):
    """Its clock ran while it did nothing, so every probe that was under way looks slow."""
    patient = serves.plan.thresholds.model_copy(update={"max_p50_seconds": 0.9})
    plan = serves.plan.model_copy(update={"thresholds": patient})

    async def held_up(kube):
        await asyncio.sleep(0.6)
        time.sleep(1.2)  # noqa: ASYNC251 - another trigger that blocks the loop

    async def slow(kube):
        await serves.tell(kube, "green", mode="slow", delay_seconds=0.5)

    serves.run(slow)
    evidence, _ = watched(serves, trigger(serves, 5, plan=plan.model_dump(mode="json")), held_up)
    assert evidence.passed, evidence.reason


def test_the_log_tells_how_it_goes(serves, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("handover.analysis.observer.PROGRESS_SECONDS", 0.5)
    subject = trigger(serves, 1.2, on_breach="fail")
    monkeypatch.setattr(type(subject), "log", SimpleNamespace(info=lambda text, *how: said.append(text % how)))
    watched(serves, subject, warm=0)
    assert said[0] == "watching green for 1.2 s"
    assert re.match(r"\d+ answers of 2 pods \(0 bad\), \d+ probes \(0 bad\), p50_seconds 0\.\d+", said[-1])


def test_disk_network_and_connections_of_the_old_pods_are_a_baseline(serves, database):
    """Two looks, as the `Baseline` step takes them."""
    (first, pods) = baseline_sources(serves.plan, SimpleNamespace(stable="blue"))
    assert first.name == "database"

    async def looks():
        await pods.measure()
        await asyncio.sleep(0.1)
        return await pods.measure()

    assert {m.what for m in asyncio.run(looks())} == {DISK_IO, NETWORK_IO}


def test_a_watch_costs_little(serves):
    """The triggerer shares one event loop between all triggers."""
    with load(serves.url, clients=1):
        begun = time.process_time()
        idle = time.thread_time()
        evidence, _ = watched(serves, trigger(serves, 3))
        share = (time.thread_time() - idle) / 3
        print(f"{share:.1%} of a core in the loop's thread, {time.process_time() - begun:.2f} s with the clients")
    assert evidence.passed, evidence.reason
    assert share < 0.25
