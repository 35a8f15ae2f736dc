"""`make bench-load`: what a watch costs, and many in one triggerer, on one core; written to ``bench-load.json``.

The cluster that is watched is `sandbox.load.cluster`, on another core. The database and the error tracker are left out:
each is one question in two seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adapters.public_http import at
from handover.adapters.service_router import ServiceRouter
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE, Plan
from handover.workflows.watch.analysis_run import AnalysisSubject
from handover.workflows.watch.background import BackgroundAnalysis
from sandbox.load.cluster import Scale, deployment_of, kubeconfig, namespace_of, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handover.ports.public import PublicAddress

CORE = 0
SECONDS, WARM_SECONDS = 30.0, 8.0
LONGEST_HOLD_SECONDS = 0.05
LEAST_RATE = 0.95
"""Of the looks and probes that the plan asks for."""
TICK_SECONDS = 0.002
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Load:
    """``rated``: whether it has to keep the plan's rate; else it has to leave the loop to others all the same."""

    name: str
    scale: Scale
    rated: bool


LOADS = (
    Load("1 deployment, 2 pods, 20 kB", Scale(1, 2, 20_000), rated=True),
    Load("1 deployment, 50 pods, 20 kB", Scale(1, 50, 20_000), rated=True),
    Load("1 deployment, 50 pods, 1 MB", Scale(1, 50, MEGABYTE), rated=False),
    Load("40 deployments, 2 pods, 20 kB", Scale(40, 2, 20_000), rated=True),
    Load("100 deployments, 2 pods, 20 kB", Scale(100, 2, 20_000), rated=True),
)


@contextmanager
def cluster_of(plan: Plan, scale: Scale) -> Iterator[tuple[int, Any]]:
    """Port, and the connection to ask what was asked."""
    ours, theirs = multiprocessing.Pipe()
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=serve, args=(plan.model_dump(mode="json"), scale, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv(), ours
    finally:
        with suppress(OSError):
            ours.send(False)
        process.join(10)
        if process.is_alive():
            process.kill()


class Holds:
    """How long the event loop kept others waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def measure(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK_SECONDS)
            self.seconds.append(max(0.0, time.perf_counter() - began - TICK_SECONDS))


async def watch(plan: Plan, scale: Scale, port: int, asked: Any, seconds: float) -> dict[str, Any]:
    """Watches all of them for so long; gives what that cost."""
    holds = Holds()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kubeconfig"
        file.write_text(kubeconfig(port))
        async with at(f"http://127.0.0.1:{port}") as public:
            before = _memory_mb()
            tasks = [
                asyncio.create_task(_one(plan, str(file), namespace_of(number), public))
                for number in range(scale.deployments)
            ]
            await asyncio.sleep(WARM_SECONDS)
            measuring = asyncio.create_task(holds.measure())
            first, cpu, began = await _asked(asked), time.process_time(), time.monotonic()
            await asyncio.sleep(seconds)
            last, used, took = await _asked(asked), time.process_time() - cpu, time.monotonic() - began
            ended = [task for task in tasks if task.done()]
            for task in (*tasks, measuring):
                task.cancel()
            await asyncio.gather(*tasks, measuring, return_exceptions=True)
    if ended:
        raise RuntimeError(f"{len(ended)} watches ended: {ended[0].result()}")
    done = {what: (last[0][what] - first[0].get(what, 0)) / took for what in last[0]}
    rules, holding = plan.watch, sorted(holds.seconds)
    return {
        "pod_looks": round(done["metrics"] * rules.metrics_interval_seconds / scale.deployments / scale.pods, 3),
        "probes": round(done["probes"] * rules.probe_interval_seconds / scale.deployments, 3),
        "cpu": round(used / took, 3), "cpu_of_the_cluster": round((last[1] - first[1]) / took, 3),
        "memory_mb_each": round((_memory_mb() - before) / scale.deployments, 2),
        "longest_hold_seconds": round(holding[-1], 4), "p99_hold_seconds": round(holding[len(holding) * 99 // 100], 4),
    }  # fmt: skip


async def _one(plan: Plan, file: str, namespace: str, public: PublicAddress) -> Any:
    state = deployment_of(plan)
    async with connect_with_kubeconfig(file, namespace) as kube:
        router = ServiceRouter(kube, plan.cluster, plan.cluster.service)
        subject = AnalysisSubject(kube, router, public, plan, state.token, state, state.preview, tuple)
        return await BackgroundAnalysis(subject, "watch", records=False).conclude()


async def _asked(connection: Any) -> tuple[dict[str, int], float]:
    def ask() -> Any:
        connection.send(True)
        return connection.recv()

    found: tuple[dict[str, int], float] = await asyncio.to_thread(ask)
    return found


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(number: int, seconds: float) -> dict[str, Any]:
    """One of `LOADS`, in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {CORE})
    plan = load_plan(Path(INCLUDE) / "plans" / "pms.yaml")
    with cluster_of(plan, LOADS[number].scale) as (port, asked):
        return asyncio.run(watch(plan, LOADS[number].scale, port, asked, seconds))


def met(load: Load, found: dict[str, Any]) -> bool:
    """Whether it is as it should be."""
    kept = min(found["pod_looks"], found["probes"]) >= LEAST_RATE or not load.rated
    return kept and bool(found["longest_hold_seconds"] <= LONGEST_HOLD_SECONDS)


def bench(home: Path, console: Console, seconds: float) -> bool:
    """Measures, prints a table, writes ``bench-load.json``; True when every load was borne."""
    spawn, rows = multiprocessing.get_context("spawn"), []
    table = Table("watched", "pod looks", "probes", "CPU", "MB each", "longest hold", "p99", "cluster's CPU")
    for number, load in enumerate(LOADS):
        with spawn.Pool(1) as pool:  # each in a process of its own, for its memory
            found = pool.apply(_alone, (number, seconds))
        rows.append({"load": load.name, "met": met(load, found), **found})
        table.add_row(
            load.name, f"{found['pod_looks']:.1%}", f"{found['probes']:.1%}", f"{found['cpu']:.1%}",
            f"{found['memory_mb_each']:g}", f"{found['longest_hold_seconds'] * 1000:.1f} ms",
            f"{found['p99_hold_seconds'] * 1000:.1f} ms", f"{found['cpu_of_the_cluster']:.1%}",
        )  # fmt: skip
    home.mkdir(parents=True, exist_ok=True)
    (home / "bench-load.json").write_text(json.dumps({"seconds": seconds, "loads": rows}, indent=1) + "\n")
    console.print(table)
    return all(row["met"] for row in rows)


def _alone(number: int, seconds: float) -> dict[str, Any]:
    multiprocessing.current_process()._config["daemon"] = False  # type: ignore[attr-defined]
    return measured(number, seconds)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.bench_load", description=__doc__)
    parser.add_argument("--home", type=Path, default=Path(".sandbox"), help="where bench-load.json goes")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each load (default: %(default)s)")
    given = parser.parse_args(argv)
    return 0 if bench(given.home, Console(), given.seconds) else 1


if __name__ == "__main__":
    sys.exit(main())
