"""What the deployer needs in the cluster: ``rbac`` prints the manifest of a plan, ``permissions`` asks the API server.

``python -m handover rbac --plan pms | kubectl apply -f -`` and then ``python -m handover permissions --plan pms``, with
the kubeconfig of the deployer. Exit codes of ``permissions``: 0 nothing is missing, 1 something is, 2 the cluster did
not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.cli.options import PLAN, plan_file, with_cluster
from handover.kube import permissions
from handover.plan.load import PlanError, load_plan_in_use
from handover.plan.model import Plan
from handover.ports.kube import KubeError

MISSING, UNANSWERED = 1, 2


def main(command: str, argv: list[str]) -> int:
    arguments = _parser(command).parse_args(argv)
    try:
        plan = load_plan_in_use(plan_file(arguments.plan))
        if command == "permissions":
            return asyncio.run(_check(plan, arguments.kubeconfig, arguments.context))
    except (PlanError, KubeError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return UNANSWERED
    print(permissions.rendered(plan, arguments.source), end="")
    return 0


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m handover {command}", description=__doc__)
    parser.add_argument("--plan", required=True, help=PLAN)
    if command == "rbac":
        which = parser.add_mutually_exclusive_group()
        for name, source, why in (
            ("--nodes", permissions.RBAC_NODES, "what the readiness check of the nodes needs"),
            ("--watch", permissions.RBAC_WATCH, "what the watch beside Airflow may do (python -m handover watch)"),
        ):
            which.add_argument(
                name, dest="source", action="store_const", const=source, default=permissions.RBAC, help=why
            )
    else:
        with_cluster(parser)
    return parser


async def _check(plan: Plan, kubeconfig: str | None, context: str | None) -> int:
    async with connect_with_kubeconfig(kubeconfig, plan.cluster.namespace, context) as kube:
        if problem := await permissions.refusal(kube, plan):
            print(problem, file=sys.stderr)
            return MISSING
    print("the deployer may do everything that it has to")
    return 0
