"""Samples of a watch: they reach the ledger when it is there, wait when it is not, and never hold the watch up."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time

import pytest

from handover.adapters.postgres import database_async
from handover.analysis.observations import Observations, Probed
from handover.models import names
from handover.models.record import Sample
from handover.workflows.watch import samples as module
from handover.workflows.watch.samples import Samples
from tests.record import made
from tests.record.conftest import book, connected, empty, plan, server  # noqa: F401 - fixtures

pytestmark = pytest.mark.sandbox


@pytest.fixture
def quick(plan):  # noqa: F811
    return plan.model_copy(
        update={"record": plan.record.model_copy(update={"sample_seconds": 0.05, "flush_seconds": 0.2})}
    )


def seeing(plan) -> Observations:  # noqa: F811
    return Observations(plan, time.monotonic())


async def kept(plan, seen: Observations, seconds: float) -> Samples:  # noqa: F811
    """Runs a sampler while probes come in."""
    found = Samples(plan.record, seen, made.RUN, made.RUN, "p2.watch")
    task = asyncio.create_task(found.keep())
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        seen.probe(time.monotonic(), Probed(0.01))
        seen.point(time.monotonic(), names.REPLICATION_LAG, 0.25, "s", "database: replica 1")
        await asyncio.sleep(0.02)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    return found


def test_they_reach_the_ledger_while_the_watch_goes_on(quick, connected):  # noqa: F811
    asyncio.run(database_async("pms_record"))  # the first time Airflow imports much
    found = asyncio.run(kept(quick, seeing(quick), 2.5))
    connected.ledger.write([made.deployment()])
    written = connected.ledger.read(made.RUN).samples
    assert len({s.at for s in written if s.what == names.P99}) >= 5
    assert {(s.what, s.source) for s in written} >= {
        (names.ERROR_RATE, "probe"), (names.P50, "probe"), (names.P99, "probe"), (names.REPLICATION_LAG, "database"),
    }  # fmt: skip
    assert {(s.run, s.step) for s in written} == {(made.RUN, "p2.watch")}
    both = {(s.what, s.source, s.at) for s in written} & {(s["what"], s["source"], s["at"]) for s in found.left()}
    assert both == set()


def test_what_the_ledger_did_not_take_is_left_over_for_later(quick, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", "postgresql://record:x@127.0.0.1:1/none")
    found = asyncio.run(kept(quick, seeing(quick), 1.0))
    assert len({s["at"] for s in found.left() if s["what"] == names.P99}) >= 5
    assert [Sample.model_validate(one) for one in json.loads(json.dumps(found.left()))]


def test_a_ledger_that_never_answers_holds_nothing_up(quick, monkeypatch):
    """It takes the connection and stays silent; the loop goes on at its own pace."""
    monkeypatch.setattr(module, "WRITE_SECONDS", 0.3)

    async def lateness() -> float:
        seen, worst = seeing(quick), 0.0
        sampling = asyncio.create_task(kept(quick, seen, 1.0))
        while not sampling.done():
            begun = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - begun - 0.01)
        assert sampling.result().left()
        return worst

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AIRFLOW_CONN_PMS_RECORD", f"postgresql://record:x@127.0.0.1:{port}/none")
        assert asyncio.run(lateness()) < 0.5


def test_two_hours_without_a_ledger_fit_into_memory_and_into_an_event(quick, monkeypatch):
    seen = seeing(quick)
    found = Samples(quick.record, seen, made.RUN, made.RUN, "p2.watch")
    for _ in range(7200):
        seen.probe(time.monotonic(), Probed(0.01))
        for what in (names.REPLICATION_LAG, names.CONNECTIONS, names.CPU, names.MEMORY):
            seen.point(time.monotonic(), what, 0.25, "s", "database")
        found._look()
    left = found.left()
    moments = {s["at"] for s in left if s["what"] == names.P99}
    assert module.MAX_MOMENTS / 2 <= len(moments) <= module.MAX_MOMENTS
    assert len(json.dumps(left)) < 1_000_000


def test_a_value_that_is_measured_seldom_is_kept_once(quick):
    seen = seeing(quick)
    seen.point(time.monotonic(), names.REPLICATION_LAG, 0.25, "s", "database")
    found = Samples(quick.record, seen, made.RUN, made.RUN, "p2.watch")
    found._look()
    found._look()
    assert [s["what"] for s in found.left()] == [names.REPLICATION_LAG]
