"""A readiness run as its people do it: trigger the DAG, answer as each role's own user, and read the verdict."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sandbox.airflow_client import AirflowError
from sandbox.runs import Team

READINESS = "pms_readiness"
SEND = "Send answers"
COMMENT = "comment"
LOOK_SECONDS = 2.0


@dataclass(frozen=True)
class Readied:
    """How a readiness run ended. ``tasks``: task id to state."""

    run_id: str
    state: str
    seconds: float
    tasks: dict[str, str | None]


def get_ready(team: Team, version: str, *, said: str = "yes", timeout: float = 600, **conf: Any) -> Readied:
    """Runs the readiness DAG for a version; every role says the same of each of its lines."""
    run_id = team.roles["lead"].trigger(READINESS, {"version": version, **conf})
    return follow(team, run_id, said=said, timeout=timeout)


def follow(team: Team, run_id: str, *, said: str = "yes", timeout: float = 600) -> Readied:
    """Answers what is asked, until the run has ended. Nobody answers at the moment of being asked: on a busy machine
    Airflow at times loses a task that waited for less than a second, and asks again.
    """
    begun, seen = time.monotonic(), set[str]()
    while (state := str(team.admin.run(READINESS, run_id)["state"])) not in ("success", "failed"):
        if time.monotonic() - begun > timeout:
            raise TimeoutError(f"{run_id} is still {state}: {team.admin.task_states(READINESS, run_id)}")
        open_ = {str(question["task_instance"]["id"]): question for question in team.admin.questions(READINESS, run_id)}
        for key in open_.keys() & seen:
            _answer(team, open_[key], said)
        seen |= open_.keys()
        time.sleep(LOOK_SECONDS)
    return Readied(run_id, state, time.monotonic() - begun, team.admin.task_states(READINESS, run_id))


def answer(question: dict[str, Any], said: str) -> dict[str, str]:
    """The form of a question, filled in."""
    return {name: "" if name == COMMENT else said for name in question["params"]}


def _answer(team: Team, question: dict[str, Any], said: str) -> None:
    who = question["assigned_users"][0]["id"]
    try:
        team.roles[who].answer(question, [SEND], answer(question, said))
    except AirflowError as error:
        if error.status != 409:  # answered, or out of time, since we looked
            raise
