"""Rows filled in a second while two writers go on and a replica follows: ours beside one big UPDATE, and the rules of
pgroll (1000 rows, no throttle) and of GitLab (an average of the last batches), as simulated here.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg.sql import SQL, Literal

from handover.adapters.postgres import Database
from handover.database import catalog
from handover.database.backfill import checked
from handover.database.backfill.pressure import Pressure, nobody_deploys
from handover.database.backfill.runner import Backfill
from handover.database.backfill.stages import Stages
from handover.plan.data_migrations import DataMigrations
from sandbox.bench_database.bench import Bench, Line, Part

ROWS = 2_000_000
RATIO, WRITER_MS, LAG_SECONDS = 0.8, 150.0, 2.0
TABLE = """
CREATE TABLE entries (id bigint PRIMARY KEY, a int NOT NULL, b int NOT NULL, note text NOT NULL, total bigint);
INSERT INTO entries SELECT n, n % 1000, n % 77, md5(n::text), NULL FROM generate_series(1, {rows}) n;
"""
RULES = {
    "role": "dba", "response_seconds": 60,
    "tables": {"totals": {"table": "entries", "columns": {"total": "a * b::bigint"}}},
}  # fmt: skip


@dataclass
class Met:
    """What a way of filling did to others."""

    rows_per_second: float = 0.0
    writes: int = 0
    writer_max_ms: float = 0.0
    writer_p99_ms: float = 0.0
    lag_max_seconds: float = 0.0


Way = Callable[[Database, Database, int], None]


def measure(bench: Bench) -> Part:
    """Two million rows at two gigabytes."""
    rows = int(ROWS * bench.gigabytes / 2)
    found = compared(bench.servers.new("backfill"), bench.servers.replica.named("backfill"), rows, bench.say)
    ours, whole = found["ours"], found["one UPDATE"]
    ratio = ours.rows_per_second / whole.rows_per_second
    lines = [
        Line("rows a second over one big UPDATE", f"{ratio:.2f}", f"at least {RATIO}", ratio >= RATIO),
        Line("longest write beside it", f"{ours.writer_max_ms:.0f} ms", f"below {WRITER_MS:.0f} ms",
             ours.writer_max_ms < WRITER_MS),
        Line("longest lag", f"{ours.lag_max_seconds:.2f} s", f"below {LAG_SECONDS:g} s",
             ours.lag_max_seconds < LAG_SECONDS),
    ]  # fmt: skip
    for name, met in found.items():
        said = f"{met.rows_per_second:.0f} rows/s, writers {met.writer_max_ms:.0f} ms, lag {met.lag_max_seconds:.2f} s"
        lines.append(Line(name, said))
    figures = {
        "backfill_ratio": round(ratio, 3), "writers_max_ms": round(ours.writer_max_ms, 1),
        "lag_max_seconds": round(ours.lag_max_seconds, 3),
    }  # fmt: skip
    return Part(dict(figures), lines, {"rows": rows, "ways": {name: asdict(met) for name, met in found.items()}})


def compared(primary: Database, replica: Database, rows: int, say: Callable[[str], None]) -> dict[str, Met]:
    """Every way, each on a table made anew."""
    ways: dict[str, Way] = {"one UPDATE": _whole, "ours": _ours, "pgroll's rule": _pgroll, "GitLab's rule": _gitlab}
    found = {}
    for name, way in ways.items():
        say(f"{name}: {rows} rows")
        _table(primary, rows)
        _caught_up(primary, replica)
        met = Met()
        with _others(primary, replica, rows, met):
            begin = time.monotonic()
            way(primary, replica, rows)
            met.rows_per_second = rows / (time.monotonic() - begin)
        with primary.connect() as connection:
            left = connection.execute("SELECT count(*) FROM entries WHERE total IS DISTINCT FROM a * b::bigint")
            assert left.fetchone() == (0,), name
        found[name] = met
    return found


def _table(primary: Database, rows: int) -> None:
    with primary.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS entries, handover_data_migrations")
        connection.execute("DROP FUNCTION IF EXISTS zzz_handover_totals")
        connection.execute(TABLE.format(rows=rows).encode())
        connection.execute("VACUUM ANALYZE entries")
        connection.execute("CHECKPOINT")
    rules, stages = DataMigrations.model_validate(RULES), Stages(primary, 1, time.sleep)
    with primary.connect() as connection:
        stages.expand(checked.shape(connection, "totals", rules.tables["totals"]))


def _caught_up(primary: Database, replica: Database) -> None:
    with primary.connect() as one, replica.named("postgres").connect() as other:
        row = one.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        assert row is not None
        while other.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", row).fetchone() != (True,):
            time.sleep(0.05)


@contextmanager
def _others(primary: Database, replica: Database, rows: int, met: Met) -> Iterator[None]:
    """Two writers, and the replica's lag."""
    over, times = threading.Event(), list[float]()

    def write(first: int) -> None:
        number = first
        with primary.connect() as connection:
            while not over.is_set():
                number = (number * 7919 + 13) % rows
                begin = time.monotonic()
                connection.execute("UPDATE entries SET a = a + 1 WHERE id = %s", (number + 1,))
                times.append(time.monotonic() - begin)
                over.wait(0.002)

    def follow() -> None:
        with primary.connect() as one, replica.named("postgres").connect() as other:
            seen: list[tuple[float, int]] = []
            while not over.is_set():
                seen.append((time.monotonic(), _lsn(one, "pg_current_wal_lsn()")))
                replayed = _lsn(other, "pg_last_wal_replay_lsn()")
                seen = [sample for sample in seen if sample[1] > replayed]
                met.lag_max_seconds = max(met.lag_max_seconds, time.monotonic() - seen[0][0] if seen else 0.0)
                over.wait(0.02)

    threads = [threading.Thread(target=write, args=(number,)) for number in (1, 5)] + [threading.Thread(target=follow)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    times.sort()
    met.writes, met.writer_max_ms = len(times), times[-1] * 1000
    met.writer_p99_ms = times[int(len(times) * 0.99)] * 1000


def _lsn(connection: psycopg.Connection[Any], function: str) -> int:
    row = connection.execute(f"SELECT pg_wal_lsn_diff({function}, '0/0')::bigint".encode()).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def _session(primary: Database) -> Iterator[psycopg.Connection[Any]]:
    """The trigger leaves these alone, too, so that all ways have the same work."""
    with primary.connect() as connection:
        connection.execute("SET handover.data_migration = 'totals'")
        yield connection


def _whole(primary: Database, _replica: Database, _rows: int) -> None:
    with _session(primary) as connection:
        connection.execute("UPDATE entries SET total = a * b::bigint")


def _ours(primary: Database, replica: Database, _rows: int) -> None:
    rules = DataMigrations.model_validate(RULES)
    with primary.connect() as connection:
        shape = checked.shape(connection, "totals", rules.tables["totals"])
        table = catalog.find(connection, "entries")
    assert table is not None
    pressure = Pressure(primary, [replica.named("postgres")], rules, table, nobody_deploys)
    with pressure.watching():
        ended = Backfill(primary, shape, rules, pressure, "bench").run(3600)
    assert ended.how == "done", ended


def _pgroll(primary: Database, _replica: Database, rows: int) -> None:
    """Batch after batch of 1000 rows in the order of the key, each found by the last key."""
    last = 0
    with _session(primary) as connection:
        while last < rows:
            found = connection.execute(
                SQL(
                    "WITH batch AS (SELECT id FROM entries WHERE id > {} ORDER BY id LIMIT 1000 FOR NO KEY UPDATE),"
                    " done AS (UPDATE entries SET total = a * b::bigint FROM batch WHERE entries.id = batch.id"
                    " RETURNING entries.id) SELECT max(id) FROM done"
                ).format(Literal(last))
            ).fetchone()
            assert found is not None
            last = found[0]


def _gitlab(primary: Database, _replica: Database, rows: int) -> None:
    """Sizes by the smoothed efficiency of the last batches: 90 to 95 % of the interval are aimed at, growth by a fifth
    at most. Its interval of two minutes and its pauses make a day of this; here the interval is 0.06 s.
    """
    size, last, smoothed = 1000.0, 0, None
    with _session(primary) as connection:
        while last < rows:
            begin = time.monotonic()
            up_to = last + int(size)
            connection.execute("UPDATE entries SET total = a * b::bigint WHERE id > %s AND id <= %s", (last, up_to))
            efficiency = (time.monotonic() - begin) / 0.06
            smoothed = efficiency if smoothed is None else 0.4 * efficiency + 0.6 * smoothed
            if not 0.9 <= smoothed <= 0.95:
                size = min(max(size * min(0.95 / smoothed, 1.2), 1000), 2_000_000)
            last = up_to
