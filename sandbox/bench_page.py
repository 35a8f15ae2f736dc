"""`make bench-page`: what the page costs, with 500 past deployments and one of two hours with 50 measures, on a
PostgreSQL of its own; written to ``bench-page.json``. Airflow's login is left out; everything behind it is there.

Seconds and bytes of each answer of the server; seconds until Debian's Chromium has painted, and bytes that it was sent;
CPU of ten open pages, while the watch writes its measurements, beside the same without a page.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from rich.console import Console
from rich.table import Table

from handover.adapters.postgres import Database
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from handover.record.schema import migrate
from sandbox.bench_load import cluster_of
from sandbox.load import page
from sandbox.load.cluster import Scale, deployment_of, kubeconfig
from sandbox.services import postgres
from sandbox.settings import SandboxError, Subnet

DEPLOYMENTS, MEASURES, SECONDS, ROUNDS = 500, 50, 7200, 7
PASSWORD = "bench"
PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
ONE = deployment_of(PLAN).deployment
PAGES, MINUTE, WARM_SECONDS = 10, 60.0, 10.0
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--no-first-run"]
PATIENCE_SECONDS = 120
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
       now() - interval '2 hours' - ({deployments} - n) * interval '15 hours', now(), '', ''
FROM generate_series(1, {deployments}) n,
     LATERAL (SELECT CASE n WHEN {deployments} THEN '{one}' ELSE 'run_' || to_char(n, 'FM0000') END AS r) x;
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


GROW = """
INSERT INTO measurements
SELECT '{one}', '{one}', 'watch', 'measure_' || m, 'source_' || m % 5, now(), random(), 's'
FROM generate_series(1, {measures}) m
"""
"""What the watch adds every second."""
NAVIGATION = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime / 1000"
NOW = "() => performance.now() / 1000"


def bench(home: Path, console: Console) -> None:
    """Prints tables and writes ``bench-page.json``, after each part: a machine with other things to do takes long."""
    home.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {}

    def keep(**found: Any) -> None:
        result.update(found, load_at_the_end=os.getloadavg())
        (home / "bench-page.json").write_text(json.dumps(result, indent=1) + "\n")

    with (
        tempfile.TemporaryDirectory(prefix="bench-page-", dir=home) as name,
        _ledger(Path(name)) as (owner, dsn, process),
    ):
        last = _filled(owner)
        os.environ["AIRFLOW_CONN_PMS_RECORD"] = dsn
        keep(load=os.getloadavg(), answers=asyncio.run(_asked(last - 60)))
        if CHROMIUM:
            with _served(Path(name), dsn) as (url, server):
                asyncio.run(_browsed(url, owner, server, process, keep))
        else:
            console.print("There is no Chromium here: nothing was painted.")
        _print(console, result)


def _filled(ledger: str) -> float:
    """Writes the ledger; gives when the last measurement was made (Unix seconds)."""
    migrate(Database.from_uri(ledger), "record")
    with psycopg.connect(ledger, autocommit=True) as connection:
        text = FILL.format(deployments=DEPLOYMENTS, one=ONE, measures=MEASURES, seconds=SECONDS)
        connection.execute(text.encode())
        connection.execute("ANALYZE")
        last = connection.execute("SELECT date_part('epoch', max(at)) FROM measurements").fetchone()
    assert last
    return float(last[0])


def _print(console: Console, result: dict[str, Any]) -> None:
    table = Table("answer", "median s", "worst s", "kB", "kB as sent (gzip)")
    for name, one in result["answers"].items():
        table.add_row(name, f"{one['median']:.3f}", f"{one['worst']:.3f}", f"{one['kB']:.0f}", f"{one['gzip_kB']:.0f}")
    console.print(table)
    if "browser" not in result:
        return
    table = Table("the browser", "median s", "worst s")
    for name, seconds in result["browser"]["seconds"].items():
        table.add_row(name, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}")
    console.print(table)
    console.print(f"{result['browser']['kB']:.0f} kB over the wire, {result['browser']['requests']} requests")
    table = Table("CPU seconds in a minute", "server", "database")
    for name, used in result["cpu"].items():
        table.add_row(name, f"{used['server']:.2f}", f"{used['database']:.2f}")
    console.print(table)


@contextmanager
def _served(folder: Path, ledger: str) -> Iterator[tuple[str, psutil.Process]]:
    """The page's address, and the process behind it."""
    ours, theirs = multiprocessing.Pipe()
    with cluster_of(PLAN, Scale(1, 2, 20_000)) as (port, _):
        (folder / "kubeconfig").write_text(kubeconfig(port))
        spawn = multiprocessing.get_context("spawn")
        process = spawn.Process(target=page.serve, args=(ledger, folder / "kubeconfig", theirs), daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{ours.recv()}/handover/#/plans/{PLAN.name}", psutil.Process(process.pid)
            ours.send(False)
            process.join(10)
        finally:
            process.kill()


async def _browsed(
    url: str, ledger: str, server: psutil.Process, postmaster: psutil.Process, keep: Callable[..., None]
) -> None:  # fmt: skip
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        seen = []
        for _ in range(ROUNDS):
            seen.append(await _painted(browser, url))
            seconds = {name: [round(one[name], 3) for one in seen] for name in ("first paint", "headline", "plots")}
            keep(browser={"seconds": seconds, "kB": seen[-1]["bytes"] / 1000, "requests": seen[-1]["requests"]})
        growing = asyncio.create_task(asyncio.to_thread(_grow, ledger, stop := multiprocessing.Event()))
        cpu = {}
        try:
            for pages in (0, PAGES):
                open_pages = [await browser.new_page() for _ in range(pages)]
                for one in open_pages:
                    await one.goto(url)
                await asyncio.sleep(WARM_SECONDS)
                cpu[f"{pages} pages"] = await _used(server, postmaster)
                keep(cpu=cpu)
                for one in open_pages:
                    await one.close()
        finally:
            stop.set()
            await growing
            await browser.close()


async def _painted(browser: Any, url: str) -> dict[str, float]:
    """One visit with nothing kept from another one: seconds since the navigation, and what was sent until the plots."""
    context = await browser.new_context(viewport={"width": 1280, "height": 900})
    visit = await context.new_page()
    wire = await context.new_cdp_session(visit)
    sent: list[float] = []
    wire.on("Network.loadingFinished", lambda event: sent.append(event["encodedDataLength"]))
    await wire.send("Network.enable")
    found = {}
    await visit.goto(url, wait_until="commit")
    for name, what in (("headline", "h1"), ("plots", ".uplot")):
        await visit.wait_for_selector(what, timeout=PATIENCE_SECONDS * 1000)
        found[name] = await visit.evaluate(NOW)
    found["first paint"] = await visit.evaluate(NAVIGATION)
    await context.close()
    return found | {"bytes": sum(sent), "requests": len(sent)}


def _grow(ledger: str, stop: Any) -> None:
    with psycopg.connect(ledger, autocommit=True) as connection:
        while not stop.wait(1):
            connection.execute(GROW.format(one=ONE, measures=MEASURES).encode())


async def _used(server: psutil.Process, postmaster: psutil.Process) -> dict[str, float]:
    def now() -> dict[str, float]:
        return {"server": _cpu(server), "database": _cpu(postmaster, *postmaster.children())}

    before, began = now(), time.monotonic()
    await asyncio.sleep(MINUTE)
    after, minutes = now(), (time.monotonic() - began) / 60
    return {name: round((after[name] - before[name]) / minutes, 2) for name in before}


def _cpu(*processes: psutil.Process) -> float:
    """Seconds that these have used, with their children that have ended."""
    found = 0.0
    for one in processes:
        try:
            found += sum(one.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return found


async def _asked(minute: float) -> dict[str, Any]:
    from handover.workflows.page.access import may_read
    from handover.workflows.page.application import application
    from handover.workflows.page.parts import Shared

    app = application()
    app.dependency_overrides[may_read] = lambda: None
    found = {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bench") as web:
        for name, path in PATHS.items():
            seconds, body, given_up = list[float](), b"", 0
            for _ in range(ROUNDS):
                for reader in app.state.readers.values():
                    reader.shared = Shared()  # nobody else has just asked the same
                began = time.perf_counter()
                answer = await web.get(f"/plans/pms/{path.format(minute=minute)}", timeout=60)
                if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:  # this machine has other things to do
                    given_up += 1
                    continue
                seconds.append(time.perf_counter() - began)
                body = answer.raise_for_status().content
            if not seconds:
                raise SandboxError(
                    f"{name}: the ledger was too slow {given_up} times: measure when this machine is free"
                )
            found[name] = {
                "median": statistics.median(seconds), "worst": max(seconds), "given_up": given_up,
                "kB": len(body) / 1000, "gzip_kB": len(gzip.compress(body, 5)) / 1000,
            }  # fmt: skip
    return found


@contextmanager
def _ledger(folder: Path) -> Iterator[tuple[str, str, psutil.Process]]:
    """DSNs of an empty ledger's owner and of its writer, and the server, which is gone afterwards."""
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
            yield owner, writer, psutil.Process(process.pid)
        finally:
            process.stop(grace_seconds=60)
    finally:
        subnet.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"))
    bench(parser.parse_args().home, Console())
