"""Whether plan files can be used, and what they come to: ``python -m handover check``.

Reads the plan, or every plan of the folder, as Airflow does (with the overlay that the environment names), and nothing
else: it asks no cluster and no service. Says what is wrong by file, line and key; of a good plan the connections that
have to exist in Airflow, by what a release is judged, what a breach does, and what is left out.

Exit codes: 0 every plan can be used, 1 one of them cannot (stderr says why), 2 there is no such plan.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from handover.cli.options import plan_file
from handover.models.incident import Severity
from handover.models.measures import Phase, Silence
from handover.plan.load import PlanError, load_plan_in_use, load_plans
from handover.plan.measures import Limit, Measure, measures_of
from handover.plan.model import Plan
from handover.plan.parts import plans_folder

GOOD, BAD, NONE = 0, 1, 2


def main(command: str, argv: list[str]) -> int:
    given = _parser(command).parse_args(argv)
    files = [plan_file(one) for one in given.plan]
    if missing := [str(file) for file in files if not file.is_file()]:
        print(f"there is no plan {', '.join(missing)}", file=sys.stderr)
        return NONE
    found = [_read(file) for file in files] if files else list(load_plans())
    if not found:
        print(f"there is no plan in {plans_folder()}", file=sys.stderr)
        return NONE
    plans = [plan for plan in found if isinstance(plan, Plan)]
    wrong = [*(str(error) for error in found if isinstance(error, PlanError)), *_clashes(plans)]
    if given.json:
        print(json.dumps({"plans": [told(plan) for plan in plans], "problems": wrong}, indent=1))
    else:
        print("\n\n".join(_text(told(plan)) for plan in plans))
    print("\n".join(wrong), end="\n" if wrong else "", file=sys.stderr)
    return BAD if wrong else GOOD


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m handover {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--plan", action="append", default=[], help="a plan file, or the name of one in include/plans; several times"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    return parser


def _read(file: Path) -> Plan | PlanError:
    try:
        return load_plan_in_use(file)
    except PlanError as error:
        return error


def _clashes(plans: Iterable[Plan]) -> list[str]:
    """Two plans of one Airflow share neither their DAGs nor their lock."""
    names: dict[tuple[str, ...], str] = {}
    found = []
    for plan in plans:
        for what, key in {
            f"the name {plan.name}": ("name", plan.name),
            f"the lock {plan.lock_name} of {plan.cluster.namespace}": ("lock", plan.cluster.namespace, plan.lock_name),
        }.items():
            if key in names:
                found.append(f"{plan.title}: has {what}, as {names[key]} has")
            names.setdefault(key, plan.title)
    return found


def told(plan: Plan) -> dict[str, Any]:
    """What a plan comes to."""
    left_out = [name for name, field in type(plan).model_fields.items() if not field.is_required()]
    return {
        "name": plan.name, "title": plan.title, "service": f"{plan.cluster.namespace}/{plan.cluster.service}",
        "dags": [plan.deployment_dag_id, plan.rollback_dag_id, plan.watchdog_dag_id],
        "connections": list(plan.connections),
        "measures": [_measure(one) for one in measures_of(plan)],
        "on_breach": {
            phase.value: {one.value: plan.watch.response_to(phase, one).value for one in Severity} for phase in Phase
        },
        "left_out": [name for name in left_out if not getattr(plan, name)],
    }  # fmt: skip


def _measure(measure: Measure) -> dict[str, Any]:
    return {
        "name": measure.name, "source": measure.source, "limit": _limit(measure.limit, measure.unit),
        "window": measure.window, "severity": measure.severity.value,
        "phases": [phase.value for phase in measure.phases], "silence": measure.silence.value,
    }  # fmt: skip


def _limit(limit: Limit, unit: str) -> str:
    found = [
        f"{word} {value:g} {unit}".rstrip()
        for word, value in (("above", limit.above), ("below", limit.below))
        if value is not None
    ]
    for share, of in ((limit.relative, "the stable version's"), (limit.growth, "before")):
        if share is not None:
            least = f", by at least {limit.at_least:g} {unit}".rstrip() if limit.at_least else ""
            found.append(f"{share:.0%} above {of}{least}")
    return " or ".join(found)


def _text(plan: Mapping[str, Any]) -> str:
    lines = [
        f"{plan['name']}: {plan['title']}, {plan['service']}",
        f"  DAGs         {', '.join(plan['dags'])}",
        f"  connections  {', '.join(plan['connections'])}",
        f"  left out     {', '.join(plan['left_out']) or 'nothing'}",
        "  a release is judged by",
        *(f"    {_measure_line(one)}" for one in plan["measures"]),
        "  a breach does",
    ]
    for phase, said in plan["on_breach"].items():
        same = len(set(said.values())) == 1
        what = said[Severity.CRITICAL] if same else ", ".join(f"{severity}: {one}" for severity, one in said.items())
        lines.append(f"    {phase:<14} {what}")
    return "\n".join(lines)


def _measure_line(one: Mapping[str, Any]) -> str:
    when = "" if len(one["phases"]) == len(Phase) else f"; counts in {', '.join(one['phases']) or 'no phase'}"
    silent = "" if one["silence"] == Silence.BREACH else f"; silence: {one['silence']}"
    return f"{one['source'] + ' ' + one['name']:<42} {one['limit']} ({one['window']}, {one['severity']}{when}{silent})"
