"""What is wrong with a deployment or rollback that is under way, as seen from outside of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from handover.models.deployment import DeploymentState, Status
from handover.models.heartbeat import Heartbeat

ALIVE = frozenset({"queued", "running"})
"""States of a run that still does something."""
QUEUED_SECONDS = 120.0
"""A rollback that nobody has begun for so long is stuck."""


@dataclass(frozen=True)
class Run:
    """A run of a DAG as Airflow knows it. ``state``: None: there is none. ``queued_at``: seconds since the epoch."""

    run_id: str
    state: str | None
    queued_at: float | None = None
    began: bool = False


@dataclass(frozen=True)
class OpenQuestion:
    """A question that waits for an answer. ``overdue_at``: seconds since the epoch."""

    task: str
    overdue_at: float


@dataclass(frozen=True)
class Seen:
    """Everything that the watchdog looked at. ``dags``: DAG to what is wrong with it, "" for nothing. ``exposed_at``:
    when clients first met the new version, None while they do not meet it. ``ours``: whether this Airflow opened the
    deployment, or nobody knows; another's runs are not known here.
    """

    at: float
    state: DeploymentState
    beats: Sequence[Heartbeat]
    exposed_at: float | None
    deployment: Run
    rollback: Run
    dags: dict[str, str]
    questions: Sequence[OpenQuestion] = ()
    ours: bool = True


@dataclass(frozen=True)
class Problem:
    """``key``: people are told of it once; ``roll_back``: whether the deployment is rolled back because of it."""

    key: str
    text: str
    roll_back: bool = False


def problems(seen: Seen, silent_seconds: float) -> list[Problem]:
    """:param silent_seconds: a watch that says nothing for longer is dead (``watch.no_data_seconds`` of the plan)"""
    state = seen.state
    if not seen.ours and seen.deployment.state is None and not state.over:
        watched = _of_watch(seen, silent_seconds) if state.status is Status.DEPLOYING else []
        return [_of_another(seen), *watched]
    if state.status is Status.DEPLOYING:
        found = [*_of_deployment(seen), *_of_watch(seen, silent_seconds), *_of_questions(seen)]
    elif state.status in (Status.ROLLING_BACK, Status.ROLLBACK_FAILED):
        found = _of_rollback(seen)
    else:
        return []
    return found + [Problem(f"dag {dag} {what}", f"the DAG {dag} {what}") for dag, what in seen.dags.items() if what]


def _of_another(seen: Seen) -> Problem:
    text = (
        f"{seen.state.deployment} was opened by another Airflow than this one, which has its plan and cluster, too: it "
        "looks after nothing of it but its watch"
    )
    return Problem("another airflow", text)


def _of_deployment(seen: Seen) -> list[Problem]:
    if seen.deployment.state in ALIVE:
        return []
    how = f"is {seen.deployment.state}" if seen.deployment.state else "does not exist any more"
    text = f"the deployment of {seen.state.version} is under way, but its run {seen.deployment.run_id} {how}"
    return [Problem("deployment without a run", text, roll_back=True)]


def _of_watch(seen: Seen, silent_seconds: float) -> list[Problem]:
    if seen.exposed_at is None:
        return []
    heard = max([seen.exposed_at, *(beat.at for beat in seen.beats)])
    if seen.at - heard <= silent_seconds:
        return []
    text = f"nobody watches {seen.state.version}: no sign of life for {seen.at - heard:.0f} s"
    return [Problem("silent watch", text, roll_back=True)]


def _of_questions(seen: Seen) -> list[Problem]:
    return [
        Problem(f"question {one.task}", f"the question {one.task} is overdue, and its safe answer was not taken")
        for one in seen.questions
        if seen.at > one.overdue_at
    ]


def _of_rollback(seen: Seen) -> list[Problem]:
    run = seen.rollback
    if run.state in ALIVE and not run.began and run.queued_at and seen.at - run.queued_at > QUEUED_SECONDS:
        text = f"the rollback {run.run_id} has been waiting for {seen.at - run.queued_at:.0f} s: does a scheduler run?"
        return [Problem("rollback waits", text)]
    if run.state in ALIVE:
        return []
    how = f"is {run.state}" if run.state else "does not exist any more"
    text = (
        f"the rollback of {seen.state.version} is not finished, and its run {run.run_id} {how}; the lock is held until "
        "its failed task is mended and cleared"
    )
    return [Problem(f"rollback {run.state}", text)]
