"""`make bench`: the figures of merit, measured on a sandbox of its own; written to ``bench.json``."""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console
from rich.table import Table

from sandbox.airflow_client import AirflowClient
from sandbox.rounds import NEW, ask_for_rollback, break_pods, new_pods, roll_back_now, spread, under_watch
from sandbox.runs import DEPLOYMENT, Outcome, Team, time_of
from sandbox.services.postgres import bin_dir

ROUNDS = 5
AIMS = {
    "parse_seconds": 0.3,
    "overhead_seconds": 30.0,
    "rest_to_traffic_back_seconds": 0.7,
    "now_to_traffic_back_seconds": 0.1,
    "probe_to_traffic_back_seconds": 0.5,
    "slots_while_waiting": 0,
    "backup_ratio": None,
    "cached_start_seconds": 60.0,
}
PARSE = """
import time, airflow.sdk, airflow.models
from airflow.dag_processing.dagbag import DagBag
began = time.perf_counter()
bag = DagBag({dags!r}, bundle_path={dags!r})
seconds = time.perf_counter() - began
assert bag.dags and not bag.import_errors, bag.import_errors
print(seconds)
"""


@dataclass(frozen=True)
class Seen:
    """One request on a new connection. Times are Unix seconds."""

    began: float
    status: int
    version: str


Version = Callable[[http.client.HTTPResponse, bytes], str]


def _header(answer: http.client.HTTPResponse) -> str:
    return answer.headers.get("X-Version", "")


class Eyes:
    """Asks a service on a new connection every few milliseconds, to see when traffic moves.

    :param version: what an answer says of its version, from the body too
    """

    def __init__(self, url: str, path: str = "/health", version: Version = lambda answer, _: _header(answer)) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port
        self._path, self._version = path, version
        self.seen: list[Seen] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Eyes:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            began = time.time()
            connection = http.client.HTTPConnection(self._host, self._port, timeout=5)
            try:
                connection.request("GET", self._path)
                answer = connection.getresponse()
                self.seen.append(Seen(began, answer.status, self._version(answer, answer.read())))
            except (OSError, http.client.HTTPException):
                self.seen.append(Seen(began, 0, ""))
            finally:
                connection.close()

    def last_of(self, version: str) -> float:
        """When the last request that this version answered was sent."""
        return max(look.began for look in self.seen if look.version == version)


def bench(endpoints: dict[str, Any], home: Path, console: Console, cached_start: float) -> bool:
    """Measures everything, prints a table; True if every aim was met. ``cached_start``: seconds of `make up`."""
    team = Team(endpoints)

    def say(text: str) -> None:
        console.print(f"[dim]{time.strftime('%H:%M:%S')}[/dim]  {text}")

    result: dict[str, Any] = {"cached_start_seconds": round(cached_start, 1)}
    say("parse time")
    result["parse_seconds"] = round(statistics.median(_parse() for _ in range(ROUNDS)), 3)
    say("backup against pg_dump -Z0")
    result["backup_ratio"] = _backup(endpoints)
    for name, cause in CAUSES.items():
        times = []
        for number in range(ROUNDS):
            times.append(_traffic_back(team, endpoints, cause))
            say(f"{name} {number + 1} of {ROUNDS}: {times[-1]:.3f} s")
        result[name] = spread(times)
    say("a whole run")  # the last: from then on the release that the rounds deploy is the old version too
    outcome, slots = _whole_run(team)
    result["overhead_seconds"] = _overhead(team, outcome)
    result["slots_while_waiting"] = slots
    result["whole_run_seconds"] = outcome.seconds
    (home / "bench.json").write_text(json.dumps(result, indent=1) + "\n")
    return _print(console, result)


def _parse() -> float:
    code = PARSE.format(dags=str(Path("dags").resolve()))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def _backup(endpoints: dict[str, Any]) -> float:
    """Wall time of our backup to S3 against ``pg_dump -Fc -Z0`` to nowhere, in turn on the same database."""
    import boto3

    from handover.adapters.postgres import Database
    from handover.database.dump import dump_to_s3

    database = Database.from_uri(endpoints["postgres"]["primary"])
    client = boto3.client(
        "s3",
        endpoint_url=endpoints["s3"],
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    os.environ["PATH"] = f"{bin_dir()}{os.pathsep}{os.environ['PATH']}"
    ratios = []
    for number in range(ROUNDS):
        began = time.monotonic()
        subprocess.run(
            ["pg_dump", "-Fc", "-Z0", endpoints["postgres"]["primary"]], stdout=subprocess.DEVNULL, check=True
        )
        floor = time.monotonic() - began
        taken = dump_to_s3(database, client, "backup-bucket", f"bench/{number}.dump")
        ratios.append(taken.seconds / floor)
    return round(statistics.median(ratios), 2)


def _whole_run(team: Team) -> tuple[Outcome, int]:
    """A good release; the most worker slots that were held while the run did nothing but wait."""
    worst = 0
    done = threading.Event()

    def look() -> None:
        nonlocal worst
        admin = team.admin_of()
        while not done.wait(0.5):
            for run in admin.runs(DEPLOYMENT)[:1]:
                before = _only_waits(admin, run["dag_run_id"])
                pool = admin.call("GET", "/pools/default_pool")
                if before and _only_waits(admin, run["dag_run_id"]):  # else what began meanwhile would be counted
                    worst = max(worst, pool["running_slots"])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        outcome = team.deploy(NEW)
    finally:
        done.set()
        thread.join()
    if outcome.outcome != "succeeded":
        raise RuntimeError(f"the run to be measured {outcome.outcome}: {outcome.reason} {outcome.failed_tasks}")
    return outcome, worst


def _only_waits(admin: AirflowClient, run_id: str) -> bool:
    states = {task["state"] for task in admin.task_instances(DEPLOYMENT, run_id)}
    return bool(states & {"deferred", "awaiting_input"}) and not states & {"running", "queued", "scheduled"}


def _overhead(team: Team, outcome: Outcome) -> float:
    """Wall time of the run in which no step was under way (running, deferred, or asking somebody)."""
    spans = sorted(
        (time_of(t["start_date"]), time_of(t["end_date"]))
        for t in team.admin.task_instances(DEPLOYMENT, outcome.run_id)
        if t["start_date"] and t["end_date"] and t["state"] == "success"
        if t["operator_name"] != "Remind"  # waits beside a step, and a little longer
    )
    covered, until = 0.0, 0.0
    for start, end in spans:
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return round(outcome.seconds - covered, 1)


def _traffic_back(team: Team, endpoints: dict[str, Any], cause: Callable[[Team, dict[str, Any], str], float]) -> float:
    """Deploys up to the watch after the switch, lets ``cause`` happen, and sees when the old version serves again."""
    run_id = under_watch(team)
    with Eyes(endpoints["public"]) as eyes:
        time.sleep(0.5)
        began = cause(team, endpoints, run_id)
        time.sleep(4.0)
    if (outcome := team.follow(NEW, run_id)).outcome != "rolled_back":
        raise RuntimeError(f"no rollback: {outcome}")
    failed = [look for look in eyes.seen if look.status == 0]
    if failed:
        raise RuntimeError(f"{len(failed)} requests got no answer while traffic moved back")
    return eyes.last_of(NEW) - began


def _by_rest(team: Team, _endpoints: dict[str, Any], run_id: str) -> float:
    return ask_for_rollback(team, run_id)


def _now(team: Team, _endpoints: dict[str, Any], _run_id: str) -> float:
    return roll_back_now(team)


def _by_fault(_team: Team, endpoints: dict[str, Any], _run_id: str) -> float:
    """Every pod of the new version answers 500 from now on."""
    return break_pods(endpoints, new_pods(endpoints)).asked


CAUSES = {
    "rest_to_traffic_back_seconds": _by_rest,
    "now_to_traffic_back_seconds": _now,
    "probe_to_traffic_back_seconds": _by_fault,
}


def _print(console: Console, result: dict[str, Any]) -> bool:
    table = Table("figure", "median", "worst", "aim", title="Bench")
    good = True
    for name, aim in AIMS.items():
        value = result[name]
        median, worst = (value["median"], value["worst"]) if isinstance(value, dict) else (value, value)
        met = aim is None or median <= aim
        good &= met
        table.add_row(name, str(median), str(worst), "" if aim is None else f"{'' if met else 'MISSED '}{aim}")
    console.print(table)
    return good
