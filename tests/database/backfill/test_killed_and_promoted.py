"""Workers that are killed, primaries that are gone, keys and rows that anybody may have."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handover.adapters.postgres import Database
from handover.database.backfill import checkpoint
from handover.database.backfill.batches import Pace, time_left
from tests.database.backfill.conftest import TOTAL, Bench
from tests.support.postgres import PASSWORD, Servers
from tests.support.until import until

pytestmark = pytest.mark.sandbox


def filled(bench: Bench) -> int:
    return bench.ask("SELECT count(total) FROM sales")[0][0]


def progress(bench: Bench) -> tuple[int, int, int]:
    """Checkpoint, rows filled by what it says, batches."""
    return bench.ask(f"SELECT coalesce(checkpoint[1]::int, 0), filled, batches FROM {checkpoint.TABLE}")[0]


def test_a_worker_is_killed_in_the_middle_of_batches_and_nothing_is_lost_or_done_twice(bench: Bench) -> None:
    shape, there, at = bench.expand(), bench.database, 0
    uri = f"postgresql://{there.user}:{there.password}@{there.host}:{there.port}/{there.name}"
    for _ in range(3):
        argv = [sys.executable, "-m", "tests.database.backfill.worker", uri]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as worker:
            until(lambda before=at: progress(bench)[0] > before + random.randint(20, 200), "some batches")
            worker.send_signal(signal.SIGKILL)
        until(lambda: bench.ask("SELECT count(*) FROM pg_stat_activity WHERE xact_start IS NOT NULL AND"
                                " datname = current_database() AND pid <> pg_backend_pid()") == [(0,)],
              "the session of the killed one to end")  # fmt: skip
        at, counted, _ = progress(bench)
        assert at == counted == filled(bench)  # each batch came with its checkpoint, or not at all
    ended = bench.backfill(shape)
    assert (ended.state.filled, filled(bench)) == (5000, 5000)
    assert bench.stages.compare(shape).wrong == 0


@pytest.mark.slow
def test_after_a_failover_it_goes_on_from_the_checkpoint_on_the_new_primary(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    from tests.database.backfill.conftest import SALES
    from tests.support.postgres import _run, _running

    with _running(tmp_path_factory.mktemp("failover"), replica=True) as servers:
        there = servers.new("owner")
        with there.connect() as connection:
            connection.execute(SALES.encode())
        replica = Database(servers.replica.host, servers.replica.port, there.name, "owner", PASSWORD)
        bench = Bench(there, TOTAL, (replica,), first_batch=100, max_batch=100)
        shape = bench.expand()
        bench.ask("ALTER TABLE sales ADD CHECK (total <> 2500 * 2500) NOT VALID")
        bench.ask("UPDATE sales SET pieces = 2500 WHERE id = 1")
        bench.ask("ALTER TABLE sales DISABLE TRIGGER ALL; UPDATE sales SET pieces = price WHERE id = 2500")
        bench.ask("ALTER TABLE sales ENABLE TRIGGER ALL")
        with pytest.raises(Exception, match="the row id=2500 of sales cannot be filled"):
            bench.backfill(shape)
        at = progress(bench)
        with there.connect() as connection:
            lsn = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        until(lambda: servers.ask(servers.replica, f"SELECT pg_last_wal_replay_lsn() >= '{lsn[0]}'") == (True,), "lag")
        servers.stop("p")
        _run("pg_ctl", "-w", "-D", servers.folder / "r", "promote")
        promoted = Bench(replica, TOTAL)
        assert progress(promoted) == at
        promoted.ask("UPDATE sales SET pieces = 1 WHERE id = 2500")
        ended = promoted.backfill(promoted.shape())
        assert ended.how == "done"
        assert filled(promoted) == 5000
        assert promoted.stages.compare(promoted.shape()).wrong == 0


KEYS: dict[str, st.SearchStrategy[Any]] = {
    "integer": st.integers(-(2**31), 2**31 - 1),
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=9),
    "uuid": st.uuids(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=3) | st.just("NaN"),
    "date": st.dates(),
    "double precision": st.floats(), "bytea": st.binary(max_size=6), "boolean": st.booleans(),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[tuple[str, ...], list[tuple[Any, ...]], list[int | None]]:
    kinds = tuple(draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3)))
    rows = draw(st.lists(st.tuples(*(KEYS[kind] for kind in kinds)), max_size=40))
    values = draw(st.lists(st.none() | st.integers(-1000, 1000), min_size=len(rows), max_size=len(rows)))
    return kinds, rows, values


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(table=tables(), size=st.integers(1, 12))
def test_whatever_the_key_and_the_rows_every_row_is_what_the_expression_says(
    servers: Servers, table: tuple[tuple[str, ...], list[tuple[Any, ...]], list[int | None]], size: int
) -> None:
    kinds, rows, values = table
    database = servers.copy("nothing", "owner", lambda _: None)
    names = [f"k{n}" for n in range(len(kinds))]
    with database.connect() as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(names, kinds, strict=True))
        connection.execute(
            f"CREATE TABLE odd ({columns}, old int, new text, PRIMARY KEY ({', '.join(names)}))".encode()
        )
        for key, value in zip(rows, values, strict=True):
            marks = ", ".join(["%s"] * (len(key) + 1))
            connection.execute(f"INSERT INTO odd VALUES ({marks}) ON CONFLICT DO NOTHING".encode(), (*key, value))
        connection.execute("ANALYZE odd")
    bench = Bench(database, {"table": "odd", "columns": {"new": "'n' || old"}}, first_batch=size, max_batch=size)
    shape = bench.expand()
    assert bench.backfill(shape).how == "done"
    assert bench.ask("SELECT count(*) FROM odd WHERE new IS DISTINCT FROM 'n' || old") == [(0,)]
    assert bench.stages.compare(shape).wrong == 0


@given(st.lists(st.tuples(st.sampled_from(["after", "halved", "narrowed"]), st.floats(0, 60)), max_size=60))
def test_batches_stay_within_their_bounds_whatever_happens(events: list[tuple[str, float]]) -> None:
    pace = Pace(1000, 0.06, 20_000)
    for what, seconds in events:
        size = pace.size
        pace = (
            pace.after(size, seconds) if what == "after" else pace.halved() if what == "halved" else pace.narrowed(size)
        )
        assert 1 <= pace.size <= max(20_000, size)


def test_batches_become_as_large_as_their_time_allows() -> None:
    pace = Pace(1000, 0.06, 20_000)
    for _ in range(30):
        pace = pace.after(pace.size, pace.size * 6e-6)
    assert 9_000 < pace.size < 10_000
    assert time_left(500, 1000, 100) == 5
    assert time_left(0, 1000, 0) is None


def test_a_failing_row_is_found_by_halving() -> None:
    pace = Pace(64, 1, 1000)
    while pace.size > 1:
        pace = pace.narrowed(pace.size)
    assert (pace.size, pace.narrowing) == (1, 2)
    assert pace.after(1, 1).size == 1
