"""Samples of a watch: they reach the ledger when it is there, wait when it is not, and never hold the watch up."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from handover import clock
from handover.analysis.observations import Observations, Probed
from handover.models import names
from handover.models.evidence import Measurement
from handover.models.record import Sample
from handover.record.ledger import write_samples
from handover.workflows.watch import samples as module
from handover.workflows.watch.samples import Samples
from tests.analysis.made import healthy, plan_with
from tests.analysis.made import seen as observed
from tests.record import made
from tests.record.conftest import book, connected, empty, server  # noqa: F401 - fixtures

PLACE = made.RUN, made.RUN, "p2.watch"


@pytest.fixture
def record(quick_plan):
    return quick_plan.record


def seeing(quick_plan) -> Observations:
    return Observations(quick_plan, 0.0)


def probed(seen: Observations, now: float) -> None:
    seen.probe(now, Probed(0.01))
    for what in (names.REPLICATION_LAG, names.CONNECTIONS, names.CPU, names.MEMORY):
        seen.point(now, what, 0.25, "s", "database: replica 1")


async def kept(samples: Samples, seen: Observations, seconds: float) -> Samples:
    """Runs a sampler while probes come in."""
    task, until = asyncio.create_task(samples.keep()), clock.monotonic() + seconds
    while clock.monotonic() < until:
        probed(seen, clock.monotonic())
        await asyncio.sleep(0.1)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return samples


class Kept(Samples):
    """A ledger in memory takes what it is given, when it is there."""

    away: str = ""

    async def _write(self, samples: list[Sample]) -> None:
        if self.away == "silent":
            await asyncio.Event().wait()
        if self.away:
            raise OSError(self.away)
        self.ledger = [*getattr(self, "ledger", []), *samples]


def sampled(virtual_time, quick_plan, away: str = "", seconds: float = 30) -> Kept:
    seen = seeing(quick_plan)
    found = Kept(quick_plan.record, seen, *PLACE)
    found.away = away
    return virtual_time.run(kept(found, seen, seconds))


def test_they_reach_the_ledger_while_the_watch_goes_on(virtual_time, quick_plan):
    found = sampled(virtual_time, quick_plan)
    assert len({s.at for s in found.ledger if s.what == names.P99}) >= 20
    assert {(s.what, s.source) for s in found.ledger} >= {
        (names.ERROR_RATE, "probe"), (names.P50, "probe"), (names.P99, "probe"), (names.REPLICATION_LAG, "database"),
    }  # fmt: skip
    assert {(s.deployment, s.run, s.step) for s in found.ledger} == {PLACE}
    both = {(s.what, s.source, s.at) for s in found.ledger} & {(s["what"], s["source"], s["at"]) for s in found.left()}
    assert both == set()


@pytest.mark.parametrize("away", ["connection refused", "silent"])
def test_what_the_ledger_did_not_take_is_left_over_and_holds_nothing_up(virtual_time, quick_plan, away):
    found = sampled(virtual_time, quick_plan, away)
    assert len({s["at"] for s in found.left() if s["what"] == names.P99}) >= 28  # one a second, whatever it does
    assert [Sample.model_validate(one) for one in json.loads(json.dumps(found.left()))]


def test_two_hours_without_a_ledger_fit_into_memory_and_into_an_event(quick_plan):
    seen = seeing(quick_plan)
    found = Samples(quick_plan.record, seen, *PLACE)
    for second in range(7200):
        probed(seen, second)
        found.look(second)
    left = found.left()
    moments = {s["at"] for s in left if s["what"] == names.P99}
    assert module.MAX_MOMENTS / 2 <= len(moments) <= module.MAX_MOMENTS
    assert len(json.dumps(left)) < 1_000_000


def test_a_value_that_is_measured_seldom_is_kept_once(quick_plan):
    seen = seeing(quick_plan)
    seen.point(0.0, names.REPLICATION_LAG, 0.25, "s", "database")
    found = Samples(quick_plan.record, seen, *PLACE)
    found.look(0.0)
    found.look(1.0)
    assert [s["what"] for s in found.left()] == [names.REPLICATION_LAG]


def test_everything_that_the_plan_measures_is_sampled_under_the_names_of_the_plan():
    plan = plan_with({"name": "queue", "source": "broker", "limit": {"above": 9}, "unit": "s"})
    seen = observed(plan, sources=("database",))
    now = healthy(seen, 3.0)
    found = [Measurement(what="queue", value=4000, unit="ms", source="broker in its own words")]
    seen.measured(now, "broker", found)
    sampled = {(one.what, one.source): (one.value, one.unit) for one in seen.sample(now)}
    assert sampled["queue", "broker"] == (4, "s")
    assert sampled.keys() >= {
        ("cpu", "pods"), ("memory", "pods"), ("cache_hit_rate", "pods"), ("replication_lag_seconds", "database"),
        ("error_rate", "pods"), ("error_rate", "probe"), ("p99_seconds", "pods"), ("p99_seconds", "probe"),
    }  # fmt: skip
    assert len(sampled) == len(seen.sample(now)), "each measure once"


def test_many_measures_without_a_ledger_fit_into_an_event_too(quick_plan):
    seen = seeing(quick_plan)
    seen.sample = lambda now: [Measurement(what=f"m{n}", value=now, source="s", at=now) for n in range(50)]
    found = Samples(quick_plan.record, seen, *PLACE)
    for second in range(7200):
        found.look(second)
    assert module.MAX_SAMPLES / 2 <= len(found.left()) <= module.MAX_SAMPLES


@pytest.mark.sandbox
def test_a_real_ledger_takes_them(connected):  # noqa: F811
    one = Sample(what=names.P99, source="probe", at=made.START + 1, value=0.25, unit="s").of(*PLACE)

    async def write() -> None:
        from handover.adapters.postgres import database_async

        connection = await (await database_async("pms_record")).open()
        await write_samples(connection, [one])
        await connection.close()

    connected.ledger.write([made.deployment()])
    asyncio.run(write())
    assert connected.ledger.read(made.RUN).samples == (one,)
