"""Reads the record, and installs it: ``python -m handover record COMMAND --help``.

The ledger is found by the plan's connection (``record.connection``, e.g. the environment variable
AIRFLOW_CONN_PMS_RECORD). Exit codes: 0 done, 1 refused (the text says why), 2 the ledger did not answer.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable

from handover import clock
from handover.cli.options import only_plan, plan_file
from handover.models.record import Change
from handover.plan.load import PlanError, load_plan_in_use
from handover.plan.model import Plan
from handover.plan.parts import LeftOut
from handover.record import checklist, dora, render, report
from handover.record.checklist import ReportChecklistError
from handover.record.ledger import Ledger, NotRecorded, ledger
from handover.record.schema import SchemaChanged, migrate

REFUSED, UNANSWERED = 1, 2


def main(command: str, argv: list[str]) -> int:
    import psycopg
    from airflow.sdk.exceptions import AirflowNotFoundException

    arguments = _parser().parse_args(argv)
    try:
        plan = load_plan_in_use(arguments.plan or only_plan())
        run: Callable[[Plan, argparse.Namespace], str] = arguments.run
        print(run(plan, arguments))
    except (LeftOut, NotRecorded, PlanError, ReportChecklistError, SchemaChanged, AirflowNotFoundException) as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except psycopg.Error as error:
        print(f"the ledger did not answer: {error}", file=sys.stderr)
        return UNANSWERED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m handover record", description=__doc__)
    help_text = "a plan file, or the name of one in include/plans; not needed where there is one"
    parser.add_argument("--plan", type=plan_file, help=help_text)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("report", help="the report of one deployment, on standard output")
    one.add_argument("--deployment", required=True, metavar="RUN_ID")
    one.add_argument("--format", choices=["md", "html"], default="md")
    one.set_defaults(run=_report)

    every = commands.add_parser("list", help="the deployments that are recorded, oldest first")
    every.add_argument(
        "--since", type=_date, default=0.0, metavar="DATE", help="YYYY-MM-DD, UTC unless it says an offset"
    )
    every.set_defaults(run=_list)

    four = commands.add_parser("dora", help="DORA's four measures")
    four.add_argument(
        "--since", type=_date, required=True, metavar="DATE", help="YYYY-MM-DD, UTC unless it says an offset"
    )
    four.set_defaults(run=_dora)

    change = commands.add_parser("change", help="tell which commit a deployment brought (for the lead time)")
    change.add_argument("--deployment", required=True, metavar="RUN_ID")
    change.add_argument("--revision", required=True, metavar="COMMIT")
    change.add_argument("--committed-at", required=True, type=_moment, metavar="TIME", help="ISO 8601, with its offset")
    change.set_defaults(run=_change)

    tables = commands.add_parser("migrate", help="lay the tables, or bring them up to date; once after each update")
    tables.add_argument("--connection", help="of the role that owns the tables (default PLAN_record_owner)")
    tables.add_argument("--writer", required=True, metavar="ROLE", help="role of the plan's connection: adds and reads")
    tables.set_defaults(run=_migrate)
    return parser


def _date(text: str) -> float:
    found = datetime.datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _moment(text: str) -> float:
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text} has no offset from UTC; write e.g. 2026-11-24T13:05:00+00:00")
    return found.timestamp()


def _ledger(plan: Plan) -> Ledger:
    return ledger(plan.recorded.connection)


def _report(plan: Plan, arguments: argparse.Namespace) -> str:
    found = report.build(plan, checklist.load(plan.recorded.checklist), _ledger(plan).read(arguments.deployment))
    return render.markdown(found) if arguments.format == "md" else render.html(found)


def _list(plan: Plan, arguments: argparse.Namespace) -> str:
    book = _ledger(plan)
    records = book.read_all(book.deployments(arguments.since, plan.name), samples=False)
    lines = [
        f"{render.day(r.deployment.started_at)}  {r.deployment.version:<12} "
        f"{r.outcomes[-1].status if r.outcomes else 'not ended':<16} {r.deployment.deployment}"
        for r in records
    ]
    return "\n".join(lines) or "nothing is recorded"


def _dora(plan: Plan, arguments: argparse.Namespace) -> str:
    book = _ledger(plan)
    records = book.read_all(book.deployments(arguments.since, plan.name), samples=False)
    return render.dora_markdown(dora.measure(records, arguments.since, clock.epoch()))


def _change(plan: Plan, arguments: argparse.Namespace) -> str:
    book = _ledger(plan)
    book.read_all([arguments.deployment], samples=False)
    change = Change(
        deployment=arguments.deployment, run=arguments.deployment, step="", revision=arguments.revision,
        committed_at=arguments.committed_at,
    )  # fmt: skip
    return "recorded" if book.write([change]) else "was recorded already"


def _migrate(plan: Plan, arguments: argparse.Namespace) -> str:
    from handover.adapters.postgres import database

    owner = arguments.connection or f"{plan.name}_record_owner"
    done = [name for name in migrate(database(owner), arguments.writer) if name]
    return f"applied {', '.join(done)}" if done else "nothing to do"
