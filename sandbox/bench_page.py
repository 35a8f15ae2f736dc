"""`python -m sandbox.bench_page`: seconds and bytes of what the page asks the ledger, with 500 past deployments and one
of two hours with 50 measures, on a PostgreSQL of its own. Airflow's login is left out; everything behind it is there.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
from rich.console import Console
from rich.table import Table

from handover.adapters.postgres import Database
from handover.record.schema import migrate
from sandbox.services import postgres
from sandbox.settings import Subnet

DEPLOYMENTS, MEASURES, SECONDS, ROUNDS = 500, 50, 7200, 7
PASSWORD = "bench"
ONE = f"run_{DEPLOYMENTS:04}"
PATHS = {
    "a page of 50 deployments": "deployments",
    "the last page": f"deployments?offset={DEPLOYMENTS - 50}",
    "one deployment": f"deployments/{ONE}",
    "its measurements": f"deployments/{ONE}/measurements",
    "the last minute of them": f"deployments/{ONE}/measurements?since={{minute}}",
    "the numbers": "numbers?days=366",
}
FILL = """
INSERT INTO deployments
SELECT r, r, 'open', 'pms', 'v1.' || n || '.0', 'image', 'v1.0.0', 'image', 'sql', 'lead', 'a release', '',
       now() - (500 - n) * interval '15 hours', now(), '', ''
FROM generate_series(1, {deployments}) n, LATERAL (SELECT 'run_' || to_char(n, 'FM0000') AS r) x;
INSERT INTO outcomes
SELECT deployment, deployment, 'close', CASE WHEN random() < 0.1 THEN 'rolled_back' ELSE 'succeeded' END,
       started_at + interval '4 hours', started_at + interval '1 hour', ''
FROM deployments WHERE deployment <> '{one}';
INSERT INTO checks
SELECT deployment, deployment, 'phase_' || n % 5 || '.group.step_' || n, 1, 'step_' || n, 'pass', repeat('reason ', 30),
       '[{{"what": "error_rate", "value": 0.1, "unit": "", "source": "pods", "at": 1.0, "why": ""}}]',
       started_at + n * interval '1 minute', started_at + n * interval '1 minute'
FROM deployments, generate_series(1, 60) n;
INSERT INTO decisions
SELECT deployment, deployment, 'decide_' || n, started_at + n * interval '5 minutes', 'Proceed?', 'Yes', 'lead', ''
FROM deployments, generate_series(1, 12) n;
INSERT INTO messages
SELECT deployment, deployment, 'announce_' || n, started_at + n * interval '9 minutes', 'slack', repeat('text ', 60), ''
FROM deployments, generate_series(1, 20) n;
INSERT INTO measurements
SELECT '{one}', '{one}', 'watch', 'measure_' || m, 'source_' || m % 5, started_at + n * interval '1 second', random(),
       's'
FROM deployments, generate_series(1, {measures}) m, generate_series(0, {seconds} - 1) n WHERE deployment = '{one}'
ORDER BY n, m;
"""


def bench(home: Path, console: Console) -> None:
    """Prints a table and writes ``bench-page.json``."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-page-", dir=home) as folder, _ledger(Path(folder)) as (owner, dsn):
        migrate(Database.from_uri(owner), "record")
        with psycopg.connect(owner, autocommit=True) as connection:
            text = FILL.format(deployments=DEPLOYMENTS, one=ONE, measures=MEASURES, seconds=SECONDS)
            connection.execute(text.encode())
            connection.execute("ANALYZE")
            last = connection.execute("SELECT date_part('epoch', max(at)) FROM measurements").fetchone()
        assert last
        os.environ["AIRFLOW_CONN_PMS_RECORD"] = dsn
        result = asyncio.run(_asked(float(last[0]) - 60))
    (home / "bench-page.json").write_text(json.dumps(result, indent=1) + "\n")
    table = Table("answer", "median s", "worst s", "kB", "kB as sent (gzip)")
    for name, one in result.items():
        table.add_row(name, f"{one['median']:.3f}", f"{one['worst']:.3f}", f"{one['kB']:.0f}", f"{one['gzip_kB']:.0f}")
    console.print(table)


async def _asked(minute: float) -> dict[str, Any]:
    from handover.workflows.page.access import may_read
    from handover.workflows.page.application import application
    from handover.workflows.page.parts import Shared

    app = application()
    app.dependency_overrides[may_read] = lambda: None
    found = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as web:
        for name, path in PATHS.items():
            seconds, body = [], b""
            for _ in range(ROUNDS):
                for reader in app.state.readers.values():
                    reader.shared = Shared()  # nobody else has just asked the same
                began = time.perf_counter()
                answer = await web.get(f"/plans/pms/{path.format(minute=minute)}", timeout=60)
                seconds.append(time.perf_counter() - began)
                body = answer.raise_for_status().content
            found[name] = {
                "median": statistics.median(seconds), "worst": max(seconds), "kB": len(body) / 1000,
                "gzip_kB": len(gzip.compress(body, 5)) / 1000,
            }  # fmt: skip
    return found


@contextmanager
def _ledger(folder: Path) -> Iterator[tuple[str, str]]:
    """DSNs of an empty ledger's owner and of its writer, on a server that is gone afterwards."""
    subnet, log = Subnet(), folder / "log"
    host, port = f"{subnet.prefix}.0.2", 15432
    try:
        postgres.initdb(folder / "data", log)
        postgres.set_roles(folder / "data", {"owner": (PASSWORD, "SUPERUSER"), "record": (PASSWORD, "")}, log)
        postgres.execute_stopped(folder / "data", ["CREATE DATABASE record OWNER owner"], log)
        process = postgres.serve("bench", folder / "data", host, port, {**postgres.ALONE, "max_wal_size": "1GB"}, log)
        try:
            owner, writer = (f"postgresql://{who}:{PASSWORD}@{host}:{port}/record" for who in ("owner", "record"))
            postgres.wait_ready(owner, process)
            yield owner, writer
        finally:
            process.stop(grace_seconds=60)
    finally:
        subnet.close()


if __name__ == "__main__":
    bench(Path(".sandbox"), Console())
