"""What holds batches, what undoes one, and that a plan that is wrong says where."""

from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from pydantic import ValidationError

from handover.database import catalog
from handover.database.backfill.pressure import Pressure, nobody_deploys
from handover.database.backfill.runner import Backfill
from handover.plan.data_migrations import DataMigrations, LowTraffic
from tests.database.backfill.conftest import TOTAL, Bench, rules
from tests.support.postgres import Servers
from tests.support.until import until

pytestmark = pytest.mark.sandbox


def started(bench: Bench, held: Any = nobody_deploys) -> tuple[Backfill, Pressure]:
    shape = bench.expand()
    with bench.database.connect() as connection:
        table = catalog.find(connection, shape.table)
    assert table is not None
    pressure = Pressure(bench.database, bench.replicas, bench.rules, table, held)
    return Backfill(bench.database, shape, bench.rules, pressure, "test"), pressure


def test_a_row_that_somebody_keeps_locked_is_waited_for_in_small_pieces(database: Any) -> None:
    bench = Bench(database, TOTAL, lock_timeout_seconds=0.01)
    worker, pressure = started(bench)
    ended: list[Any] = []
    with bench.database.connect(autocommit=False) as other, pressure.watching():
        other.execute("UPDATE sales SET pieces = 9 WHERE id = 3000")
        thread = threading.Thread(target=lambda: ended.append(worker.run(600)))
        thread.start()
        until(lambda: worker.undone > 3, "batches that are undone")
        other.commit()
        thread.join()
    assert ended[0].how == "done"
    assert ended[0].undone > 3
    assert bench.ask("SELECT count(*) FROM sales WHERE total IS DISTINCT FROM pieces * price") == [(0,)]


def test_while_a_replica_cannot_be_asked_no_batch_begins(
    database: Any, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handover.database.backfill.runner.HELD_SECONDS", 0.0)
    bench = Bench(database, TOTAL, (servers.replica,))  # nobody is there
    worker, pressure = started(bench)
    with pressure.watching():
        ended = worker.run(600)
    assert (ended.how, ended.state.batches) == ("held", 0)
    assert "cannot be asked" in ended.why or "not known" in ended.why


def test_a_deployment_and_a_cluster_that_does_not_answer_hold_it(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handover.database.backfill.runner.HELD_SECONDS", 0.0)

    async def somebody() -> str:
        return "run-1 has been deploying"

    async def silent() -> str:
        raise TimeoutError

    for held, said in ((somebody, "run-1 has been deploying"), (silent, "whether somebody deploys is not known")):
        worker, pressure = started(Bench(database, TOTAL), held)
        with pressure.watching():
            ended = worker.run(600)
        assert (ended.how, ended.state.batches) == ("held", 0)
        assert said in ended.why


@pytest.mark.parametrize(("more", "said"), [
    ({"reverse": {"total": "1"}}, "reverse: total is a new column"),
    ({"drop": ["total"]}, "drop: total is a new column"),
    ({"add": {"other": "int"}}, "add: other is none of columns"),
    ({"columns": {}}, "at least 1 item"),
    ({"columns": {"total": "  "}}, "should match pattern"),
    ({"key": []}, "key: name each of its columns once"),
    ({"table": "a.b.c"}, "is no name of a table"),
])  # fmt: skip
def test_a_wrong_entry_of_the_plan_says_what_is_wrong(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as wrong:
        rules(TOTAL | more)
    assert said in str(wrong.value)


def test_a_column_is_written_by_one_entry_alone() -> None:
    asked = {"role": "dba", "response_seconds": 60, "tables": {"a": TOTAL, "b": TOTAL}}
    with pytest.raises(ValidationError, match=r"tables\.b: sales\.total is written by a already"):
        DataMigrations.model_validate(asked)


@pytest.mark.parametrize(("hours", "at", "seconds"), [
    (("02:00", "05:00"), "03:00", 0), (("02:00", "05:00"), "05:00", 21 * 3600), (("02:00", "05:00"), "01:30", 1800),
    (("23:00", "01:00"), "00:30", 0), (("23:00", "01:00"), "01:00", 22 * 3600), (("23:00", "01:00"), "23:00", 0),
])  # fmt: skip
def test_the_hours_of_low_traffic_come_every_day(hours: tuple[str, str], at: str, seconds: float) -> None:
    now = datetime.datetime.fromisoformat(f"2026-11-24T{at}:00+00:00")
    assert LowTraffic(opens=hours[0], closes=hours[1]).seconds_until(now) == seconds
