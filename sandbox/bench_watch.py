"""`make bench-watch`: errors from the new pods at every moment of a deployment; written to ``bench-watch.json``.

For each moment: seconds from the fault until the last request that the new version answered was sent, and how many
requests on new connections, a hundred a second, got a bad answer. While an incident is open the lead decides: there it
is seconds from the answer "Rollback".
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sandbox.bench import Eyes
from sandbox.crowds import Guests
from sandbox.rounds import NEW, break_pods, new_pods
from sandbox.runs import DEPLOYMENT, Team
from sandbox.services.access import Access

DEPLOY = "phase_2_application_deployment.deploy_new_version"
VERIFY = "phase_2_application_deployment.verify_application_health"
MIGRATION = "phase_3_database_migration"
TESTING = "phase_4_post_deployment_testing"
MONITORING = "phase_5_monitoring"
INCIDENT = f"{MONITORING}.incident_response"
CHANGES: dict[str, dict[str, Any]] = {"backup": {"min_bytes": "100KB"}}
"""On top of the sandbox's times: little data, since every round takes a backup."""
UNDER_WAY = frozenset({"running", "deferred", "awaiting_input", "success"})
WAITING = frozenset({"deferred", "awaiting_input"})
"""It has begun for the watch, too: before, a breach is the phase before's."""
FOLLOWED_SECONDS = 4.0
"""So long clients are looked at after a fault."""
SETTLE_SECONDS = 1.5
"""So long a watch has clients of the new version before they meet a fault: what comes sooner is the overlap's."""
FOLLOWUPS = "pms_followups"
GUESTS = 50.0
"""Requests a second, beside those that are counted."""
AIM_MEDIAN, AIM_WORST = 0.5, 2.0


@dataclass(frozen=True)
class Moment:
    """``task``: the fault comes once it is under way; ``wait``: so many seconds later. ``asked``: the question that
    the lead then answers with "Rollback".
    """

    name: str
    task: str
    wait: float = 0.0
    asked: str = ""


MOMENTS = (
    Moment("overlap", f"{DEPLOY}.switch_traffic"),
    Moment("right after the cutover", f"{DEPLOY}.soak"),
    Moment("soak", f"{DEPLOY}.soak", SETTLE_SECONDS),
    Moment("health", f"{VERIFY}.health"),
    Moment("database health", f"{VERIFY}.database_health"),
    Moment("error tracker", f"{VERIFY}.error_tracker"),
    Moment("response times", f"{VERIFY}.response_times"),
    Moment("key endpoints", f"{VERIFY}.key_endpoints"),
    Moment("replication lag", f"{VERIFY}.replication_lag"),
    Moment("before the migration", f"{MIGRATION}.pre_migration_validation.schema_check"),
    Moment("migration", f"{MIGRATION}.execute_migration"),
    Moment("after the migration", f"{MIGRATION}.post_migration_validation.data_integrity"),
    Moment("critical paths", f"{TESTING}.critical_paths"),
    Moment("performance", f"{TESTING}.performance"),
    Moment("acceptance open", f"{TESTING}.user_acceptance", SETTLE_SECONDS),
    Moment("until the decision point", f"{MONITORING}.stabilization", SETTLE_SECONDS),
    Moment("incident open", f"{INCIDENT}.monitoring", SETTLE_SECONDS, asked=f"{INCIDENT}.fix_or_rollback"),
    Moment("retirement", f"{MONITORING}.retirement.retire_old_colour"),
)


def bench(endpoints: dict[str, Any], home: Path, console: Console, rounds: int, only: list[str]) -> bool:
    """Measures, writes and prints; whether every aim was met."""
    team = Team(endpoints)
    team.admin.pause(FOLLOWUPS)  # two dozen tasks behind every round
    moments = [moment for moment in MOMENTS if not only or moment.name in only]
    found: dict[str, list[tuple[float, int]]] = {moment.name: [] for moment in moments}
    with Guests(endpoints, home, rate=GUESTS):
        for number in range(rounds):
            for moment in moments:
                found[moment.name].append(_fault_at(team, endpoints, moment))
                seconds, bad = found[moment.name][-1]
                console.print(f"{moment.name} {number + 1} of {rounds}: {seconds:.3f} s, {bad} bad answers")
                _write(home, found)
    return _print(console, found)


def _fault_at(team: Team, endpoints: dict[str, Any], moment: Moment) -> tuple[float, int]:
    run_id = team.start(NEW)
    _until(team, run_id, moment.task, WAITING if moment.asked else UNDER_WAY)
    if moment.name == "overlap":
        _until_overlap(endpoints)
    time.sleep(moment.wait)
    pods = new_pods(endpoints)
    with Eyes(endpoints["public"]) as eyes:
        asked = break_pods(endpoints, pods).asked
        if moment.asked:
            asked = _rolled_back_by_the_lead(team, run_id, moment.asked)
        time.sleep(FOLLOWED_SECONDS)
    outcome = team.follow(NEW, run_id)
    if outcome.outcome != "rolled_back":
        raise RuntimeError(f"{moment.name}: no rollback: {outcome}")
    bad = sum(1 for look in eyes.seen if look.began >= asked and (look.status == 0 or look.status >= 500))
    met = [look.began for look in eyes.seen if look.version == NEW]
    return max(0.0, max(met, default=asked) - asked), bad


def _until(team: Team, run_id: str, task: str, states_wanted: frozenset[str] = UNDER_WAY, timeout: float = 900) -> None:
    """Answers what people are asked before it."""
    deadline = time.monotonic() + timeout
    while (states := team.admin.task_states(DEPLOYMENT, run_id)).get(task) not in states_wanted:
        if time.monotonic() > deadline or "failed" in states.values():
            raise TimeoutError(f"{task} does not begin: {team.follow(NEW, run_id)}")
        team.answer_before(run_id, task)
        time.sleep(0.1)


def _rolled_back_by_the_lead(team: Team, run_id: str, question: str) -> float:
    """Waits until the lead is asked; gives when the answer was sent (Unix seconds)."""
    _until(team, run_id, question, WAITING)
    lead = team.roles["lead"]
    (asked,) = (one for one in lead.questions(DEPLOYMENT, run_id) if one["task_instance"]["task_id"] == question)
    began = time.time()
    lead.answer(asked, ["Rollback"])
    return began


def _until_overlap(endpoints: dict[str, Any]) -> None:
    with Access(**endpoints["kubernetes"]).client() as kube:
        for _ in range(3000):
            service = kube.get("/api/v1/namespaces/production/services/pms-api").raise_for_status().json()
            if "version" not in service["spec"]["selector"]:
                return
            time.sleep(0.01)
    raise TimeoutError("both colours never served")


def _write(home: Path, found: dict[str, list[tuple[float, int]]]) -> None:
    moments = [
        {"moment": name, "seconds": [round(s, 3) for s, _ in times], "bad_answers": [bad for _, bad in times]}
        for name, times in found.items()
    ]
    (home / "bench-watch.json").write_text(json.dumps({"moments": moments}, indent=1) + "\n")


def _print(console: Console, found: dict[str, list[tuple[float, int]]]) -> bool:
    table = Table("moment", "median s", "worst s", "bad answers", title="From the fault until traffic is back")
    met = True
    for name, times in found.items():
        median, worst = statistics.median(s for s, _ in times), max(s for s, _ in times)
        met = met and median < AIM_MEDIAN and worst < AIM_WORST
        table.add_row(name, f"{median:.3f}", f"{worst:.3f}", ", ".join(str(bad) for _, bad in times))
    console.print(table)
    return met
