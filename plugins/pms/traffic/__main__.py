"""Moves traffic back with Airflow down: ``python -m pms.traffic back --plan include/plans/pms.yaml --reason TEXT``.

Needs nothing but the cluster: which deployment it is, and which colour is the old one, lies there. Exit codes: 0 done
(or done already), 1 refused and nothing changed, 2 the cluster did not answer (or a wrong command line).
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from pms.kube import state as states
from pms.kube.client import Kube, KubeError
from pms.kube.lock import FencedOut
from pms.plan.load import PlanError, load_plan_in_use
from pms.plan.model import Plan
from pms.traffic import switch
from pms.traffic.back import Known, NothingToRollBack, let_go, look, move_back
from pms.traffic.kubeconfig import connect
from pms.traffic.service import SERVICES, NotReady

REFUSED, UNANSWERED = 1, 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        plan = load_plan_in_use(arguments.plan)
        return asyncio.run(_run(plan, arguments))
    except (FencedOut, NothingToRollBack, NotReady, PlanError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except (KubeError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return UNANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pms.traffic", description=__doc__)
    parser.add_argument("command", choices=["back", "status"])
    parser.add_argument("--plan", type=Path, required=True, help="the plan file, e.g. include/plans/pms.yaml")
    parser.add_argument("--kubeconfig", help="by default the one that kubectl uses")
    parser.add_argument("--reason", default="moved back by hand", help="kept in the Service's annotations")
    parser.add_argument("--deployment", help="refuse unless this is the current deployment's run")
    parser.add_argument("--token-file", type=Path, help="the token that pods ask for to drain keep-alive connections")
    return parser


async def _run(plan: Plan, arguments: argparse.Namespace) -> int:
    begun = time.perf_counter()
    async with connect(arguments.kubeconfig, plan.cluster.namespace) as kube:
        if arguments.command == "status":
            return await _status(kube, plan)
        facts = await look(kube, plan, arguments.deployment)
        changed = await move_back(kube, plan, facts, arguments.reason)
        milliseconds = (time.perf_counter() - begun) * 1000
        print(f"{_done(facts, changed)} ({milliseconds:.0f} ms)", flush=True)
        if arguments.token_file:
            token = arguments.token_file.read_text(encoding="utf-8").strip()
            kept, drained = await let_go(kube, plan, facts.ticket, token)
            print(f"drained {facts.ticket.new_colour}: {drained}; {facts.ticket.old_colour} keeps connections: {kept}")
    return 0


def _done(facts: Known, changed: bool) -> str:
    old, state = facts.ticket.old_colour, facts.state
    if not facts.on_old:
        return f"traffic is back on {old} ({state.previous_version}); {state.version} gets no new connections"
    held = f"; {state.version} can not be switched to any more" if changed else ", nothing to do"
    return f"traffic is on {old} ({state.previous_version}) already{held}"


async def _status(kube: Kube, plan: Plan) -> int:
    service, state = await asyncio.gather(kube.get(SERVICES, plan.cluster.service), states.read(kube, plan.lock_name))
    print(switch.read(service, plan.cluster))
    if state:
        print(
            f"deployment {state.deployment}: {state.version} on {state.new_colour} is {state.status} "
            f"(before: {state.previous_version} on {state.old_colour}), generation {state.generation}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
