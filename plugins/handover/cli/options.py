"""What several commands are told."""

from __future__ import annotations

import argparse
from pathlib import Path

from handover.plan.load import PlanError
from handover.plan.parts import plans_folder

PLAN = "a plan file, or the name of one in include/plans"


def with_cluster(parser: argparse.ArgumentParser) -> None:
    """Which cluster, and as whom. The namespace is never the context's."""
    parser.add_argument("--kubeconfig", metavar="FILE", help="by default what kubectl uses: KUBECONFIG, ~/.kube/config")
    parser.add_argument("--context", metavar="NAME", help="of the kubeconfig; by default its current one")


def plan_file(given: str) -> Path:
    """A plan file, or the name of one in include/plans."""
    is_path = "/" in given or given.endswith((".yaml", ".yml"))
    return Path(given) if is_path else plans_folder() / f"{given}.yaml"


def only_plan() -> Path:
    """The plan file of a folder that has one. Raises `PlanError` for any other."""
    files = sorted(plans_folder().glob("*.yaml"))
    if len(files) != 1:
        there = ", ".join(file.stem for file in files) or "none"
        raise PlanError(f"say --plan NAME: the plans in {plans_folder()} are {there}")
    return files[0]
