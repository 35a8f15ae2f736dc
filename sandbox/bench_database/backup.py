"""Our backup to S3 beside ``pg_dump -Fc -Z0`` to nowhere, in turn on the same rows of text, each by its best wall time;
and what it costs to digest what tables hold, to encrypt it, and to have a pg_dump without zstd.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from pyrage.x25519 import Identity

from handover.adapters.postgres import Database
from handover.database import tools
from handover.database.dump import Taken, dump_to_s3
from handover.database.encryption import BackupKey
from handover.database.storage import delete, place
from sandbox.bench_database import pg_dump
from sandbox.bench_database.bench import Bench, Line, Part, Stopwatch, timed
from sandbox.processes import Process
from sandbox.services import postgres, ready

ROUNDS = 3
RATIO = 1.15
ROW_BYTES = 330
"""Of the table and its key, about."""
BUCKET = "bench"
TABLE = """
CREATE UNLOGGED TABLE letters (id bigint PRIMARY KEY, sender text NOT NULL, at timestamptz NOT NULL, body text);
INSERT INTO letters SELECT n, 'guest-' || n % 90001 || '@example.com', timestamptz '2026-01-01' + n * interval '7 s',
    'Dear team, this is about booking ' || n || '. We arrive at ' || n % 24 || ':00 with ' || n % 5 || ' people and'
    || ' would like a quiet room with a view of the garden, two extra pillows and breakfast at ' || 6 + n % 5
    || '. Our code is ' || md5(n::text) || '. Many thanks and kind regards'
FROM generate_series(1, {rows}) n;
"""


def measure(bench: Bench) -> Part:
    """All of the gigabytes in one table: a single COPY, as the floor's."""
    rows = int(bench.gigabytes * 1e9 / ROW_BYTES)
    database = bench.servers.new("backup")
    bench.say(f"{rows} rows")
    with database.connect() as connection:
        connection.execute(TABLE.format(rows=rows).encode())
        connection.execute("VACUUM ANALYZE letters")
    with store(bench) as client, programs(pg_dump.bin_dir()):
        floors, ours, busy = list[float](), list[Taken](), list[float]()
        for number in range(1, ROUNDS + 1):
            floors.append(_floor(database))
            with _processors() as used:
                ours.append(_ours(database, client, "auto"))
            busy.append(used.seconds)
            bench.say(f"round {number}: floor {floors[-1]:.1f} s, ours {ours[-1].seconds:.1f} s")
        undigested = [_ours(database, client, "auto", content_digest=False) for _ in range(ROUNDS)]
        key = BackupKey("bench", str(Identity.generate()))
        encrypted = [_ours(database, client, "auto", encrypt_with=key) for _ in range(ROUNDS)]
        with programs(postgres.bin_dir()):
            packed = [_ours(database, client, "auto") for _ in range(ROUNDS)]
            gzip = [_ours(database, client, "gzip")]
    bench.servers.drop(database)
    floor, last, processors = min(floors), ours[-1], psutil.cpu_count() or 1
    ratio = _best(ours) / floor
    lines = [
        Line(f"backup over pg_dump -Z0 to nowhere ({last.compression})", f"{ratio:.2f}", f"at most {RATIO}",
             ratio <= RATIO),
        Line(f"what {processors} processors, never idle, would take", f"{min(busy) / processors / floor:.2f}"),
        Line("the same without a digest of what tables hold", f"{_best(undigested) / floor:.2f}"),
        Line("the same, encrypted before it leaves", f"{_best(encrypted) / floor:.2f}"),
        Line(f"the same by a pg_dump without zstd ({packed[-1].compression})", f"{_best(packed) / floor:.2f}"),
        Line(f"the same by its {gzip[-1].compression}", f"{_best(gzip) / floor:.2f}"),
        Line("size in S3", f"{last.record.size_bytes / 1e6:.0f} MB, gzip {gzip[-1].record.size_bytes / 1e6:.0f} MB"),
    ]  # fmt: skip
    each = {"backup": ours, "undigested": undigested, "encrypted": encrypted, "packed": packed, "gzip": gzip}
    detail = {
        "rows": rows, "floor_seconds": floors, "processor_seconds": busy, "bytes": last.record.size_bytes,
        **{f"{name}_seconds": [taken.seconds for taken in some] for name, some in each.items()},
    }  # fmt: skip
    return Part({"backup_ratio": round(ratio, 3)}, lines, detail)


def _best(some: list[Taken]) -> float:
    return min(taken.seconds for taken in some)


@contextmanager
def programs(folder: Path) -> Iterator[None]:
    """PostgreSQL's programs are first looked for there."""
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before


@contextmanager
def _processors() -> Iterator[Stopwatch]:
    """Seconds that all processors of this machine together were at work, whoever for."""
    used, before = Stopwatch(), _worked()
    try:
        yield used
    finally:
        used.seconds = _worked() - before


def _worked() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0))


def _floor(database: Database) -> float:
    """Seconds that pg_dump alone takes."""
    program = tools.program("pg_dump", 18)
    with timed() as watch:
        subprocess.run(
            [program, "-Fc", "-Z0", "--no-password"], stdout=subprocess.DEVNULL, env=database.environment(), check=True
        )
    return watch.seconds


def _ours(database: Database, client: Any, compression: str, **options: Any) -> Taken:
    taken = dump_to_s3(database, client, BUCKET, f"{compression}.dump", compression=compression, **options)
    delete(client, *place(taken.record.uri))
    return taken


@contextmanager
def store(bench: Bench) -> Iterator[Any]:
    """moto's S3 in a process of its own, which keeps on a disk what is large."""
    import boto3
    from botocore.config import Config

    host, port = f"{bench.servers.address}.0.5", 15433
    process = Process("s3", [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
                      bench.servers.folder / "s3.log")  # fmt: skip
    try:
        ready.until_answering(f"http://{host}:{port}/moto-api/data.json", process)
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="bench",
            aws_secret_access_key="bench", config=Config(proxies={}),
        )  # fmt: skip
        with closing(client):
            client.create_bucket(Bucket=BUCKET)
            yield client
    finally:
        process.stop()
