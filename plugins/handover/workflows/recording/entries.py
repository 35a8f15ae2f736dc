"""Which entries of the record a task has earned, from what it left. Pure: the same task always gives the same ones,
whether they are written at once or completed from the XComs later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handover.foundation import EVIDENCE_KEY
from handover.models.deployment import Status
from handover.models.evidence import Evidence, Verdict
from handover.models.incident import Incident, Severity
from handover.models.incident import Resolution as Answer
from handover.models.record import (
    ANSWERS_KEY,
    DECISION_KEY,
    DEPLOYMENT_KEY,
    INCIDENTS_KEY,
    MESSAGES_KEY,
    OUTCOME_KEY,
    SAMPLES_KEY,
    Check,
    Decision,
    Deployment,
    IncidentEntry,
    IncidentKind,
    Outcome,
    RecordEntry,
    Sample,
    SentMessage,
)

KEYS = (ANSWERS_KEY, EVIDENCE_KEY, DEPLOYMENT_KEY, DECISION_KEY, MESSAGES_KEY, OUTCOME_KEY, SAMPLES_KEY, INCIDENTS_KEY)
"""XComs that hold something for the record."""
SUCCESS, FAILED = "success", "failed"
FRAME = frozenset({"RollBack", "GiveUp", "Redeliver", "Remind", "PublishEnd"})
"""Operators that fail by design, or do nothing for the plan."""
UNEXPLAINED = Severity.CRITICAL
"""Of a rollback that no incident of the watch has explained."""


@dataclass(frozen=True)
class TaskRun:
    """One try of a task, ended. Times are seconds since the epoch. ``error``: why it failed, where that is known."""

    run: str
    task_id: str
    operator: str
    state: str
    try_number: int
    started_at: float
    ended_at: float
    error: str = ""


def entries_of(deployment: str, task: TaskRun, left: Mapping[str, Any]) -> list[RecordEntry]:
    """``left``: the task's XComs by key."""
    found: list[RecordEntry] = []
    if raw := left.get(DEPLOYMENT_KEY):
        opened = Deployment.model_validate(raw)
        found += [opened, *_started(opened)]
    if raw := left.get(DECISION_KEY):
        found.append(Decision.model_validate(raw))
    found += [SentMessage.model_validate(one) for one in left.get(MESSAGES_KEY) or ()]
    found += [Sample.model_validate(one) for one in left.get(SAMPLES_KEY) or ()]
    if raw := left.get(OUTCOME_KEY):
        outcome = Outcome.model_validate(raw)
        found.append(outcome)
        for one in left.get(INCIDENTS_KEY) or ():
            found += _timeline(deployment, Incident.model_validate(one), outcome)
    if answers := left.get(ANSWERS_KEY):
        found += [_shown(task, Evidence.model_validate(one), f"{task.task_id}.{line}") for line, one in answers.items()]
    elif check := _check(task, left.get(EVIDENCE_KEY)):
        found.append(check)
    return [entry.of(deployment, task.run, entry.step or task.task_id) for entry in found]


def _timeline(deployment: str, incident: Incident, ended: Outcome) -> list[IncidentEntry]:
    """An incident of the watch, as the deployment's state has it. It is resolved by the fix, or by the end of the
    rollback; of one that was only noted, people were told, and the watch went on.
    """
    name = f"{deployment} {incident.rule} {incident.began:.0f}"
    lines = [(IncidentKind.OPENED, incident.began, f"{incident.rule}: {incident.reason}")]
    lines += [(IncidentKind.NOTED, line.at, line.what) for line in incident.timeline[1:]]
    if incident.outcome is not Answer.ROLLED_BACK:
        lines.append((IncidentKind.RESOLVED, max(at for _, at, _ in lines), str(incident.outcome)))
    elif ended.status is Status.ROLLED_BACK:
        lines.append((IncidentKind.RESOLVED, ended.at, str(ended.status)))
    return [
        IncidentEntry(incident=name, kind=kind, at=at, severity=incident.severity, text=text)
        for kind, at, text in lines
    ]


def _check(task: TaskRun, raw: Any) -> Check | None:
    """A failed step without evidence is recorded as UNKNOWN: it was tried, and nothing is known."""
    if raw is None and (task.state != FAILED or task.operator in FRAME):
        return None
    evidence = (
        Evidence.model_validate(raw)
        if raw
        else Evidence(check=task.task_id, verdict=Verdict.UNKNOWN, reason=task.error or "failed and left no evidence")
    )
    return _shown(task, evidence)


def _shown(task: TaskRun, evidence: Evidence, step: str = "") -> Check:
    return Check(
        step=step, try_number=task.try_number, check_name=evidence.check, verdict=evidence.verdict,
        reason=evidence.reason, measurements=evidence.measurements, started_at=task.started_at, at=task.ended_at,
    )  # fmt: skip


def _started(opened: Deployment) -> list[Decision]:
    asked = (
        (f"Deploy {opened.version}?", "Deploy", opened.reason),
        ("Outside the deployment window?", "Override", opened.window_override_reason),
        ("Without readiness?", "Override", opened.readiness_override_reason),
    )
    return [
        Decision(at=opened.started_at, question=question, choice=choice, who=opened.requested_by, why=why)
        for question, choice, why in asked
        if why
    ]


def incident_of(rollback: str, entries: Sequence[RecordEntry]) -> list[IncidentEntry]:
    """The timeline that a rollback leaves for the post-mortem; none if this run did nothing, if no client could be
    hurt since the version was stopped before the switch, or if an incident of the watch tells it already.

    It begins with the first step that failed, when its evidence was measured. ``entries``: of the deployment and
    this rollback.
    """
    mine = [entry for entry in entries if entry.run == rollback]
    asked = next((entry for entry in mine if isinstance(entry, Decision)), None)
    outcome = next((entry for entry in mine if isinstance(entry, Outcome)), None)
    if asked is None or outcome is None or outcome.stopped or _is_told_already(mine, outcome):
        return []

    def line(kind: IncidentKind, at: float, text: str, who: str) -> IncidentEntry:
        found = IncidentEntry(incident=rollback, kind=kind, at=at, severity=UNEXPLAINED, text=text, who=who)
        return found.of(outcome.deployment, rollback, outcome.step)

    failures = [e for e in entries if isinstance(e, Check) and e.verdict is not Verdict.PASS and e.at <= asked.at]
    first = min(failures, key=lambda check: check.at, default=None)
    seen = [line(IncidentKind.OPENED, _seen_at(first), f"{first.name}: {first.reason}", first.step)] if first else []
    kind = IncidentKind.NOTED if seen else IncidentKind.OPENED
    seen.append(line(kind, asked.at, f"rollback: {asked.why}", asked.who))
    back = next((e for e in mine if isinstance(e, Check) and e.step == asked.step), None)
    if back:
        seen.append(line(IncidentKind.NOTED, back.at, back.reason, back.step))
    ended = IncidentKind.RESOLVED if outcome.status is Status.ROLLED_BACK else IncidentKind.NOTED
    seen.append(line(ended, outcome.at, str(outcome.status), outcome.step))
    return seen


def _is_told_already(mine: Sequence[RecordEntry], outcome: Outcome) -> bool:
    """Whether an incident of the watch is among them that nothing but this rollback has ended."""
    lines = [entry for entry in mine if isinstance(entry, IncidentEntry)]
    over = {e.incident for e in lines if e.kind is IncidentKind.RESOLVED and e.text != str(outcome.status)}
    return any(entry.incident not in over for entry in lines)


def _seen_at(check: Check) -> float:
    """The evidence is older than the end of its task: a worker has to be found first."""
    return min(check.at, max((m.at for m in check.measurements), default=check.at))
