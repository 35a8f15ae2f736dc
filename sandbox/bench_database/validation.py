"""Seconds to validate a large table after a migration over those of ``COUNT(*)``, which sees no changed value; and how
long a digest of all rows takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg

from handover.database import digest, sketch, validation
from handover.models.evidence import Evidence
from sandbox.bench_database.bench import Bench, Line, Part, timed

ROWS = 10_000_000
ROUNDS = 3
CHANGED = 0.05
TABLE = """
CREATE UNLOGGED TABLE stays (id bigint PRIMARY KEY, guest text NOT NULL, at date NOT NULL, price numeric(9, 2) NOT NULL);
INSERT INTO stays SELECT n, 'guest-' || n % 90001 || '@example.com', date '2020-01-01' + (n % 3000)::int, n % 50000 / 100.0
FROM generate_series(1, {rows}) n;
"""  # noqa: E501


def measure(bench: Bench) -> Part:
    """Ten million rows at two gigabytes; one in twenty loses its value beside the measurement."""
    rows = int(ROWS * bench.gigabytes / 2)
    database = bench.servers.new("validation")
    bench.say(f"{rows} rows")
    with database.connect() as connection:
        connection.execute(TABLE.format(rows=rows).encode())
        connection.execute("VACUUM ANALYZE stays")
        before = validation.count(connection, ["stays"])
        assert rows > sketch.SMALL, "this table is compared in full: take more gigabytes"
        count = _best(lambda: connection.execute("SELECT count(*) FROM stays").fetchone())
        counted = _best(lambda: validation.compare_counts(connection, before))
        ours = counted + _best(lambda: sketch.compare(connection, before.sketches))
        whole = _best(lambda: digest.content_digests(connection, ["stays"]))
        found = _found(connection, before)
    bench.servers.drop(database)
    ratio = ours / count
    lines = [
        Line("rows and a sample of what they hold, over COUNT(*)", f"{ratio:.2f} ({ours:.2f} s)"),
        Line("rows from before by key alone", f"{counted / count:.2f}"),
        Line("a digest of all rows", f"{whole / count:.2f}"),
        Line(f"{CHANGED:.0%} of the values changed", found.reason, "seen", "price has changed" in found.reason),
    ]
    detail = {"rows": rows, "count_seconds": count, "validation_seconds": ours, "digest_seconds": whole}
    return Part({"validation_ratio": round(ratio, 3)}, lines, detail)


def _best(work: Callable[[], Any]) -> float:
    """Seconds of the quickest try."""
    seconds = []
    for _ in range(ROUNDS):
        with timed() as watch:
            work()
        seconds.append(watch.seconds)
    return min(seconds)


def _found(connection: psycopg.Connection[Any], before: validation.Counts) -> Evidence:
    """What is said once some values are others."""
    connection.execute("UPDATE stays SET price = 0 WHERE hashint8(id) % 20 = 0")
    (found,) = sketch.compare(connection, before.sketches)
    return found
