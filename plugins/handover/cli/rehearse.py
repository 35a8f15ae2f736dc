"""Rehearses a release on a copy of the newest verified backup: its migrations forward, back, and forward again.

Needs the connections that the plan names as Airflow's processes have them: ``AIRFLOW_CONN_*`` in the environment, or a
secrets backend. Changes nothing in production; the copy is dropped at the end.

Exit codes: 0 the release may go out, 1 it may not (stdout says why), 2 something did not answer.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from handover import clock
from handover.cli.options import PLAN, plan_file
from handover.database.rehearsal.release import rehearse_release
from handover.models.evidence import Evidence, Verdict
from handover.models.image_reference import BadImage
from handover.plan.load import PlanError, load_plan_in_use
from handover.plan.parts import LeftOut, required
from handover.ports.kube import KubeError
from handover.workflows.deployment.request import BadRequest, release_of
from handover.workload.registry import ImageMissing, RegistryRefused, pinned

if TYPE_CHECKING:
    from handover.plan.model import Plan

EXIT = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.UNKNOWN: 2}


def main(command: str, argv: list[str]) -> int:
    from airflow.sdk.exceptions import AirflowNotFoundException
    from requests import RequestException

    given = _parser(command).parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        with redirect_stdout(sys.stderr):  # Airflow logs there, and the answer may be read by a program
            found = _rehearsed(load_plan_in_use(plan_file(given.plan)), given)
    except (AirflowNotFoundException, BadImage, BadRequest, ImageMissing, LeftOut, PlanError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return EXIT[Verdict.FAIL]
    except (KubeError, RegistryRefused, RequestException) as error:
        print(f"not known: {error}", file=sys.stderr)
        return EXIT[Verdict.UNKNOWN]
    print(json.dumps(found.model_dump(mode="json"), indent=1) if given.json else _text(found))
    return EXIT[found.verdict]


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m handover {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True, help=PLAN)
    parser.add_argument("--version", required=True, help="of the release, as v1.2.3")
    parser.add_argument("--image", help="by default the plan's repository with the version as its tag")
    parser.add_argument("--previous", metavar="VERSION", help="what serves, for rehearsal.application_tests")
    parser.add_argument("--method", help="how it will migrate; by default as the plan has it (sql, or tool)")
    parser.add_argument("--json", action="store_true", help="the evidence as JSON")
    return parser


def _rehearsed(plan: Plan, given: argparse.Namespace) -> Evidence:
    required(plan.rehearsal, "rehearsal")
    wanted = {"version": given.version, "image": given.image, "method": given.method, "reason": "rehearsal"}
    asked = release_of(plan, wanted, None)
    old = pinned(plan, plan.image.of(given.previous)) if given.previous else ""
    key = f"by hand at {clock.epoch():.3f}"
    return rehearse_release("rehearsal", plan, pinned(plan, asked.image), key, old=old, method=asked.method)


def _text(found: Evidence) -> str:
    lines = [f"{found.verdict}: {found.reason}"]
    return "\n".join([*lines, *(f"  {one.what:<70} {one.value:g} {one.unit}".rstrip() for one in found.measurements)])
