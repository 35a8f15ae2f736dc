"""What the deployer needs in the cluster: ``rbac`` prints the manifest of a plan, ``check`` asks the API server.

``python -m pms.kube rbac --plan pms | kubectl apply -f -`` and then ``python -m pms.kube check --plan pms``, with the
kubeconfig of the deployer. Exit codes of ``check``: 0 nothing is missing, 1 something is, 2 the cluster did not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from pms.kube import permissions
from pms.kube.client import KubeError, connect_with_kubeconfig
from pms.plan.load import PlanError, load_plan_in_use
from pms.plan.model import INCLUDE, Plan

MISSING, UNANSWERED = 1, 2


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        plan = load_plan_in_use(_plan_file(arguments.plan))
        if arguments.command == "check":
            return asyncio.run(_check(plan, arguments.kubeconfig))
    except (PlanError, KubeError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return UNANSWERED
    print(permissions.rendered(plan, permissions.RBAC_NODES if arguments.nodes else permissions.RBAC), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m pms.kube", description=__doc__)
    parser.add_argument("command", choices=["rbac", "check"])
    parser.add_argument("--plan", required=True, help="a plan file, or the name of one in include/plans")
    parser.add_argument("--nodes", action="store_true", help="with rbac: what the readiness check of the nodes needs")
    parser.add_argument("--kubeconfig", help="for check; by default the one that kubectl uses")
    return parser


def _plan_file(given: str) -> Path:
    return Path(given) if given.endswith((".yaml", ".yml")) else INCLUDE / "plans" / f"{given}.yaml"


async def _check(plan: Plan, kubeconfig: str | None) -> int:
    async with connect_with_kubeconfig(kubeconfig, plan.cluster.namespace) as kube:
        if problem := await permissions.refusal(kube, plan):
            print(problem, file=sys.stderr)
            return MISSING
    print("the deployer may do everything that it has to")
    return 0


if __name__ == "__main__":
    sys.exit(main())
