"""``python -m handover readiness --plan pms`` prints the checklist as Markdown: line, what judges it, owner."""

from __future__ import annotations

import argparse
import sys

from handover.cli.options import PLAN, plan_file
from handover.plan.load import PlanError, load_plan
from handover.readiness.checklist import Checklist, ChecklistError, Line, load


def table(checklist: Checklist) -> str:
    rows = ["| line of the plan | judged by | owner |", "|---|---|---|"]
    for section in checklist.sections:
        rows.append(f"| **{section.title}** | | |")
        for line in (*section.lines, *section.besides):
            if line.parts:
                rows.append(f"| {line.line} | its parts | |")
            rows += [_row(leaf, "· " if line.parts else "") for leaf in line.leaves]
    return "\n".join(rows)


def _row(leaf: Line, mark: str) -> str:
    return f"| {mark}{leaf.line} | {judged_by(leaf)} | {leaf.owner} |"


def judged_by(leaf: Line) -> str:
    """In one cell: the kinds of its checks, its step, or the question."""
    if leaf.ask:
        return f"asked: {leaf.ask}"
    return f"step `{leaf.step}`" if leaf.step else ", ".join(f"`{one.kind}`" for one in leaf.checks)


def main(command: str, argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m handover readiness", description=__doc__)
    parser.add_argument("--plan", required=True, help=PLAN)
    given = parser.parse_args(argv)
    try:
        print(table(load(load_plan(plan_file(given.plan)))))
    except (PlanError, ChecklistError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
