"""A stage that fails or is given up leaves nothing behind that is in anybody's way."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from handover.adapters.postgres import Database
from handover.database.backfill import statements
from handover.database.backfill.stages import NotNow
from tests.database.backfill.conftest import TOTAL, Bench
from tests.support.postgres import Servers

pytestmark = pytest.mark.sandbox
CHECKS = "SELECT conname FROM pg_constraint WHERE conrelid = 'sales'::regclass AND contype = 'c'"
REQUIRED = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'sales'::regclass AND attname = 'total'"
NOTHING_TOLD = "INSERT INTO sales (id, pieces, price) VALUES (%d, 0, 1)"


@pytest.fixture
def bench(database: Database) -> Bench:
    """Required, and NULL for a sale of nothing."""
    bench = Bench(database, TOTAL | {"columns": {"total": "nullif(pieces, 0) * price"}, "required": True})
    bench.ask("UPDATE sales SET pieces = 0 WHERE id = 77")
    return bench


def test_null_in_a_required_column_is_found_before_the_cutover(bench: Bench) -> None:
    shape = bench.expand()
    bench.backfill(shape)
    found = bench.stages.compare(shape)
    assert (found.rows, found.wrong, found.null, found.keys) == (5000, 0, 1, (("77",),))
    assert found.told(shape).startswith("1 rows of sales have no value in total, which is required")
    assert found.told(shape).endswith("the first: id=77")
    bench.ask("UPDATE sales SET pieces = 1 WHERE id = 77")
    assert bench.stages.compare(shape).told(shape) == ""


def test_a_cutover_that_meets_null_leaves_no_check_behind_and_may_come_again(bench: Bench) -> None:
    shape = bench.expand()
    bench.backfill(shape)
    for number in (1, 2):
        with pytest.raises(NotNow, match="sales has rows without a value in total: compare names them"):
            bench.stages.cut_over(shape, required=True)
        assert bench.ask(CHECKS) == []
        bench.ask(NOTHING_TOLD % -number)
    assert not bench.stages.is_over(shape)
    bench.ask("UPDATE sales SET pieces = 1 WHERE pieces = 0")
    bench.stages.cut_over(shape, required=True)
    assert (bench.ask(CHECKS), bench.ask(REQUIRED), bench.stages.is_over(shape)) == ([], [(True,)], True)


@pytest.mark.parametrize("broken", ["check", "not_null", "function"])
def test_a_cutover_that_fails_anywhere_leaves_the_table_as_it_was(
    bench: Bench, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(bench.database, bench.move.model_dump() | {"reverse": {"note": "total::text"}})
    bench.ask("UPDATE sales SET pieces = 1 WHERE pieces = 0")
    shape = bench.expand()
    bench.backfill(shape)
    right = getattr(statements, broken)

    def wrong(*args: Any, **more: Any) -> Any:
        made = right(*args, **more)
        last = statements.SQL("SELECT 1 / 0")
        return (*made, last) if isinstance(made, tuple) else last

    with monkeypatch.context() as patch:
        patch.setattr(statements, broken, wrong)
        with pytest.raises(psycopg.errors.DivisionByZero):
            bench.stages.cut_over(shape, required=True)
    assert (bench.ask(CHECKS), bench.ask(REQUIRED), bench.stages.is_over(shape)) == ([], [(False,)], False)
    bench.ask(NOTHING_TOLD % -1)


def test_abort_takes_away_the_check_of_a_cutover_that_was_killed(bench: Bench) -> None:
    shape = bench.expand()
    bench.backfill(shape)
    bench.ask(statements.check(shape)[0].as_string(None))
    assert bench.ask(CHECKS) != []
    bench.stages.abort(shape.name, "sales")
    assert bench.ask(CHECKS) == []
    bench.ask(NOTHING_TOLD % -1)


def test_rows_that_no_trigger_saw_are_filled_when_it_runs_again(database: Database, servers: Servers) -> None:
    bench = Bench(database, TOTAL)
    shape = bench.expand()
    bench.backfill(shape)
    with servers.primary.named(database.name).connect() as replayed:
        replayed.execute("SET session_replication_role = replica")
        replayed.execute("INSERT INTO sales (id, pieces, price) VALUES (-5, 2, 3), (9000, 2, 3)")
        replayed.execute("UPDATE sales SET pieces = 100 WHERE id = 3")
    said = bench.stages.compare(shape).told(shape)
    assert said.startswith("3 rows of sales are not what the expressions say: clear the backfill, which fills them; ")
    assert said.endswith("the first: id=-5; id=3; id=9000")
    ended = bench.backfill(shape)
    assert (ended.how, ended.state.stage, ended.state.filled) == ("done", "filled", 5003)
    assert bench.stages.compare(shape).told(shape) == ""
    assert bench.backfill(shape).state.batches == ended.state.batches
    bench.stages.cut_over(shape, required=False)
    bench.ask("UPDATE sales SET total = 0 WHERE id = 3")
    assert bench.backfill(shape).state.stage == "cut over"
