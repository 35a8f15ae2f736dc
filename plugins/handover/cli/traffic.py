"""Moves traffic back with Airflow down, and says where it is: ``python -m handover back --plan NAME --reason TEXT``.

Needs nothing but the cluster: which deployment it is, and which colour is the stable one, lies there.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from handover import clock
from handover.adapters.kubeconfig import connect
from handover.cli.options import PLAN, plan_file, with_cluster
from handover.coordination import state as states
from handover.coordination.lock import FencedOut
from handover.coordination.promotion import Refused
from handover.coordination.routing import NotReady
from handover.models.deployment import DeploymentState
from handover.outside import outside
from handover.plan.load import PlanError, load_plan_in_use
from handover.plan.model import Plan
from handover.ports.kube import Kube, KubeError
from handover.ports.router import Router
from handover.traffic.abort import NothingToRollBack, Position, abort_or_wake, let_go, look
from handover.traffic.back import nobody

REFUSED, UNANSWERED = 1, 2


def main(command: str, argv: list[str]) -> int:
    arguments = _parser(command).parse_args(argv)
    try:
        plan = load_plan_in_use(arguments.plan)
        return asyncio.run(_run(command, plan, arguments))
    except (FencedOut, NothingToRollBack, NotReady, PlanError, Refused) as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except (KubeError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return UNANSWERED


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m handover {command}", description=__doc__)
    parser.add_argument("--plan", type=plan_file, required=True, help=PLAN)
    with_cluster(parser)
    if command == "back":
        parser.add_argument("--reason", default="moved back by hand", help="kept in the Service's annotations")
        parser.add_argument("--deployment", help="refuse unless this is the current deployment's run")
        parser.add_argument("--token-file", type=Path, help="the token that pods ask for to drain kept connections")
    return parser


async def _run(command: str, plan: Plan, arguments: argparse.Namespace) -> int:
    begun = clock.monotonic()
    async with connect(arguments.kubeconfig, plan.cluster.namespace, arguments.context) as kube:
        router = outside().router(kube, plan.cluster, plan.cluster.service)
        if command == "status":
            return await _status(kube, router, plan)
        state, position = await look(kube, router, plan, arguments.deployment, traffic_alone=True)
        _, changed = await abort_or_wake(kube, router, plan, position, arguments.reason, address=nobody)
        milliseconds = (clock.monotonic() - begun) * 1000
        print(f"{_done(state, position, changed)} ({milliseconds:.0f} ms)", flush=True)
        if arguments.token_file:
            drain_token = arguments.token_file.read_text(encoding="utf-8").strip()
            kept, drained = await let_go(kube, plan, state.token, drain_token)
            print(f"drained {state.preview}: {drained}; {state.stable} keeps connections: {kept}")
    return 0


def _done(state: DeploymentState, position: Position, changed: bool) -> str:
    if not position.on_stable:
        return f"traffic is back on {state.stable} ({state.previous_version}); {state.version} gets no new connections"
    held = f"; {state.version} can not be switched to any more" if changed else ", nothing to do"
    return f"traffic is on {state.stable} ({state.previous_version}) already{held}"


async def _status(kube: Kube, router: Router, plan: Plan) -> int:
    print(await router.read())
    if state := await states.read(kube, plan.lock_name):
        print(
            f"deployment {state.deployment}: {state.version} on {state.preview} is {state.status} "
            f"(before: {state.previous_version} on {state.stable}), generation {state.generation}"
        )
    return 0
