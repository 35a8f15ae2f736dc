"""Brings an adopted service to two colours without a request lost: ``python -m handover prepare --plan NAME``.

Applies ``k8s/NAME-first.yaml`` as `adopt --write` has written it: the first colour serves beside what was there until
its pods are ready and answer, then the Service sends to it alone, then what was there is scaled to 0. Takes the lock of
deployments and refuses while somebody holds it; killed half-way, it is run again. At the end the drafted connections
are imported into the Airflow of this machine, with addresses that answer here, or the command for it is printed. A plan
that `check` refuses is not applied.

Exit codes: 0 done, 1 refused (stderr says why, and what serves), 2 the cluster or Airflow did not answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from handover import clock
from handover.adapters.kube_access import NoAccess
from handover.adapters.kubernetes import connect_with_kubeconfig
from handover.adoption import addresses
from handover.adoption.preparing import CannotPrepare, First, Preparation, read_first
from handover.cli.options import PLAN, plan_file, with_cluster
from handover.coordination.lock import Locked
from handover.coordination.routing import NotReady
from handover.models.json_text import decoded
from handover.outside import outside
from handover.plan.load import PlanError, load_plan_in_use
from handover.ports.kube import KubeError
from handover.telemetry.pods import PodReader
from handover.workload.quiet import Silence

if TYPE_CHECKING:
    from handover.adoption.preparing import Idle, Say
    from handover.plan.model import Plan
    from handover.ports.kube import Json, Kube

DONE, REFUSED, UNANSWERED = 0, 1, 2
OVERLAP_SECONDS = 15.0
QUIET_SECONDS, POLL_SECONDS = 3.0, 1.0
IMPORT_SECONDS = 120


def main(command: str, argv: list[str]) -> int:
    given = _parser(command).parse_args(argv)
    file = plan_file(given.plan)
    folder = file.parent.parent
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if not given.json:
            print(text, flush=True)

    try:
        plan = load_plan_in_use(file)
        first = _first(plan, folder / "k8s" / f"{file.stem}-first.yaml")
        todo = asyncio.run(_run(plan, first, given, say))
    except (CannotPrepare, NotReady, Locked, PlanError) as error:
        print(f"refused: {error}", file=sys.stderr)
        return REFUSED
    except (KubeError, NoAccess, OSError) as error:
        print(f"failed: {error}; run it again", file=sys.stderr)
        return UNANSWERED
    code = DONE if given.dry_run else _connections(plan, folder / "connections" / f"{file.stem}.json", given, say)
    if given.json:
        print(json.dumps({"plan": plan.name, "dry_run": given.dry_run, "left": todo, "said": said}, indent=1))
    return code


def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m handover {command}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--plan", required=True, help=PLAN)
    with_cluster(parser)
    parser.add_argument(
        "--overlap", type=float, metavar="SECONDS",
        help=f"how long both serve at least; by default traffic.entry_seconds of the plan, else {OVERLAP_SECONDS:g}",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and change nothing")
    parser.add_argument("--json", action="store_true", help="what was done, as JSON")
    return parser


def _first(plan: Plan, file: Path) -> First:
    try:
        return read_first(plan, file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CannotPrepare(f"there is no {file}: python -m handover adopt --write makes it") from None
    except CannotPrepare as error:
        raise CannotPrepare(f"{file}: {error}") from None


async def _run(plan: Plan, first: First, given: argparse.Namespace, say: Say) -> list[str]:
    """What was left to do when it ended."""
    wait = given.overlap if given.overlap is not None else plan.traffic.entry_seconds
    async with connect_with_kubeconfig(given.kubeconfig, plan.cluster.namespace, given.context) as kube:
        router = outside().router(kube, plan.cluster, plan.cluster.service)
        overlap = OVERLAP_SECONDS if wait is None else wait
        preparation = Preparation(kube, router, plan, first, say, idle_of(kube, plan), overlap)
        if given.dry_run:
            todo = await preparation.look()
            for step in todo or ["nothing"]:
                say(f"would be done: {step}")
            return todo
        await preparation.run()
        return await preparation.look()


def idle_of(kube: Kube, plan: Plan) -> Idle:
    """Until the old pods count no request of a client, where they count; else, or if they never fall silent, for
    ``traffic.drain_timeout_seconds``: a pod that ends finishes what it has begun.
    """
    seconds = plan.traffic.drain_timeout_seconds

    async def idle(_: str) -> str:
        silence, deadline = Silence(_OldPods(kube, plan, None), QUIET_SECONDS), clock.epoch() + seconds
        while clock.epoch() < deadline:
            try:
                if how := await silence.look(clock.epoch()):
                    return how
            except KubeError as error:
                silence.last = str(error)
            await asyncio.sleep(POLL_SECONDS)
        if silence.idle:
            return silence.idle
        return f"{seconds:g} s have passed, and who is still connected ends with the pods ({silence.last})"

    return idle


class _OldPods(PodReader):
    """Those without a colour: they were there before."""

    async def ready(self) -> list[Json]:
        key = self._cluster.colour_key
        return [pod for pod in await super().ready() if key not in (pod["metadata"].get("labels") or {})]


def _connections(plan: Plan, file: Path, given: argparse.Namespace, say: Say) -> int:
    """Into the Airflow of this machine, if there is one that was set up; those that are there are kept."""
    if not file.is_file():
        return DONE
    command = ["airflow", "connections", "import", str(file)]
    program = Path(sys.executable).with_name("airflow")
    found = str(program) if program.is_file() else shutil.which("airflow")
    if not found or not _is_set_up():
        say(f"no Airflow is set up here; where it is: {' '.join(command)}")
        return DONE
    try:
        if found_out := asyncio.run(_reached_from_here(plan, drafted := _drafted(file), given, say)):
            file.write_text(json.dumps(drafted | found_out, indent=2) + "\n", encoding="utf-8")
        done = subprocess.run([found, *command[1:]], capture_output=True, timeout=IMPORT_SECONDS, check=False)
        problem = f"exit code {done.returncode}" if done.returncode else ""
    except CannotPrepare as error:
        problem = str(error)
    except (KubeError, NoAccess, OSError, subprocess.SubprocessError) as error:
        problem = type(error).__name__
    if problem:  # its output may show what is in the file
        print(f"failed: the connections were not imported ({problem}): {' '.join(command)}", file=sys.stderr)
        return UNANSWERED
    say(f"imported the connections of {file} into Airflow")
    return DONE


def _drafted(file: Path) -> Json:
    """With what a person has filled in. Raises `CannotPrepare`, which says where it is wrong, and nothing of it."""
    try:
        found = decoded(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CannotPrepare(f"no JSON: line {error.lineno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise CannotPrepare("no text in UTF-8") from None
    if not isinstance(found, dict):
        raise CannotPrepare("no connections by name")
    return found


async def _reached_from_here(plan: Plan, drafted: Json, given: argparse.Namespace, say: Say) -> Json:
    """Drafted connections with addresses that answer on this machine, where it is not in the cluster."""
    found: Json = {}
    traffic, cluster = plan.traffic, plan.cluster
    services = {traffic.api_connection: cluster.service, traffic.preview_connection: cluster.preview_service}
    async with connect_with_kubeconfig(given.kubeconfig, cluster.namespace, given.context) as kube:
        for name, service in services.items():
            known = drafted.get(name)
            was = str(known.get("host", "")) if isinstance(known, dict) else ""  # another way to write it is a person's
            if addresses.is_within(was) and (now := await addresses.reached(kube, service, was)) != was:
                say(f"{name}: {was} does not answer here, {now or 'and nothing else does: say where it is'}")
                found |= {name: drafted[name] | {"host": now}} if now else {}
    return found


def _is_set_up() -> bool:
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser()
    return "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in os.environ or (home / "airflow.cfg").is_file()
