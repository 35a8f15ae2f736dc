"""Watches deployments beside Airflow, so that a bad version is taken off whoever in Airflow is dead.

Needs the connections that the plan names as Airflow's processes have them: ``AIRFLOW_CONN_*`` in the environment, or a
secrets backend. Airflow itself need not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

from handover.cli.options import PLAN, plan_file
from handover.plan.load import PlanError, load_plan_in_use, load_plans
from handover.plan.model import Plan

REFUSED = 1
ALIVE_SECONDS = 5.0


def main(command: str, argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m handover {command}", description=__doc__)
    parser.add_argument(
        "--plan", type=plan_file, action="append", metavar="NAME", help=f"{PLAN}; several times; by default every plan"
    )
    parser.add_argument(
        "--alive",
        type=Path,
        metavar="FILE",
        help="touched every few seconds for as long as it watches: for a health check",
    )
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        plans = [load_plan_in_use(path) for path in arguments.plan] if arguments.plan else _every_plan()
    except PlanError as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    asyncio.run(_watch(plans, arguments.alive))
    return 0


def _every_plan() -> list[Plan]:
    found = list(load_plans())
    for plan in found:
        if isinstance(plan, PlanError):
            raise plan
    return [plan for plan in found if not isinstance(plan, PlanError)]


async def _touch(alive: Path) -> None:
    while True:
        await asyncio.to_thread(alive.touch)
        await asyncio.sleep(ALIVE_SECONDS)


async def _watch(plans: list[Plan], alive: Path | None) -> None:
    """Until it is told to stop."""
    from handover.workflows.watch.service import WatchService

    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watching = [asyncio.create_task(WatchService(plan).run()) for plan in plans]
    if alive:
        watching.append(asyncio.create_task(_touch(alive)))
    print(f"watching the deployments of {', '.join(plan.name for plan in plans)}", file=sys.stderr, flush=True)
    await stop.wait()
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
