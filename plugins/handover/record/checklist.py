"""The plan's checklist and success metrics, each line judged by what the record holds. Pure, but for `load`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from pydantic import Field, ValidationError

from handover.models.deployment import Status
from handover.models.evidence import Frozen, Verdict
from handover.models.incident import Severity
from handover.models.record import SYSTEM, Check, Decision
from handover.plan.parts import included
from handover.plan.text import from_yaml
from handover.record.ledger import Record

PROCEED = "Proceed"
SEVERITIES = (Severity.LOW, Severity.MEDIUM, Severity.HIGH, Severity.CRITICAL)


class ReportChecklistError(ValueError):
    """The file is wrong; the text names file, place and reason."""


class Mark(StrEnum):
    """How a line stands. ASKED: a person has confirmed it."""

    FAILED = "failed"
    UNKNOWN = "not yet known"
    ASKED = "asked"
    PASSED = "passed"


class ReportLine(Frozen):
    """One line of the plan and the rules that decide it; see include/report/checklist.yaml."""

    text: str
    readiness: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    decisions: tuple[str, ...] = ()
    at_most: dict[str, float] = Field(default_factory=dict)
    source: str = ""
    incidents: Severity | None = None
    outcome: Status | None = None
    followups: tuple[str, ...] = ()


class Group(Frozen):
    title: str
    lines: tuple[ReportLine, ...]


class ReportSection(Frozen):
    title: str
    groups: tuple[Group, ...]


class ReportChecklist(Frozen):
    sections: tuple[ReportSection, ...]


@dataclass(frozen=True)
class RuleResult:
    """What one rule found, and when (None: not at a moment)."""

    mark: Mark
    evidence: str
    at: float | None = None


@dataclass(frozen=True)
class Judged:
    """One line with its verdict: the worst of its rules."""

    text: str
    mark: Mark
    evidence: tuple[str, ...]
    at: float | None


def load(name: str) -> ReportChecklist:
    """A file below ``include/report``. Raises `ReportChecklistError`."""
    path: Path = included("report", name)
    try:
        return ReportChecklist.model_validate(from_yaml(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ReportChecklistError(f"{path}: {error}") from None


def judge(line: ReportLine, record: Record) -> Judged:
    """A line without a rule is not known yet, and so is one whose steps have not run."""
    rules = (_readiness, _steps, _limits, _decisions, _ends, _followups)
    found = [one for rule in rules for one in rule(line, record)]
    if not found:
        return Judged(line.text, Mark.UNKNOWN, ("nobody has told the record",), None)
    mark = min((f.mark for f in found), key=list(Mark).index)
    shown = [f for f in found if f.mark is mark] if mark in (Mark.FAILED, Mark.UNKNOWN) else found
    return Judged(line.text, mark, tuple(f.evidence for f in shown), max((f.at for f in found if f.at), default=None))


def last_tries(record: Record) -> list[Check]:
    """The last try of every step of the deployment's own run."""
    last: dict[str, Check] = {}
    for tried in record.checks:
        if tried.run == record.deployment.run:
            old = last.get(tried.step)
            last[tried.step] = tried if old is None or tried.try_number >= old.try_number else old
    return list(last.values())


def _matching(pattern: str, record: Record) -> list[Check]:
    return [tried for tried in last_tries(record) if fnmatchcase(tried.step, pattern)]


def _readiness(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    for name in line.readiness:
        known = [looked for looked in record.readiness if looked.name == name]
        if known:
            yield _looked_at(max(known, key=lambda looked: looked.at))
        else:
            yield RuleResult(Mark.UNKNOWN, f"{name}: no readiness of this deployment tells")


def _steps(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    for pattern in line.steps:
        checks = _matching(pattern, record)
        if not checks:
            yield RuleResult(Mark.UNKNOWN, f"{pattern.lstrip('*.')}: not reached")
        for tried in checks:
            mark = Mark.PASSED if tried.verdict is Verdict.PASS else Mark.FAILED
            yield RuleResult(mark, f"{tried.name}: {tried.reason}", tried.at)


def _limits(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    checks = [tried for pattern in line.steps for tried in _matching(pattern, record)]
    for what, limit in line.at_most.items():
        seen = [
            (m.value, tried)
            for tried in checks
            for m in tried.measurements
            if m.what == what and m.value is not None and m.source.startswith(line.source)
        ]
        if not seen:
            yield RuleResult(Mark.UNKNOWN, f"{what}: not measured")
            continue
        value, tried = max(seen, key=lambda pair: pair[0])
        mark = Mark.PASSED if value <= limit else Mark.FAILED
        yield RuleResult(mark, f"{what} {value:.4g} (at most {limit:g}) in {tried.name}", tried.at)


def _decisions(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    for pattern in line.decisions:
        made = [d for d in record.decisions if fnmatchcase(d.step, pattern) and d.run == record.deployment.run]
        if not made:
            yield RuleResult(Mark.UNKNOWN, f"{pattern.lstrip('*.')}: not decided")
            continue
        yield _decided(made[-1])


def _decided(decision: Decision) -> RuleResult:
    by_system = decision.who == SYSTEM
    if decision.choice != PROCEED:
        return RuleResult(Mark.FAILED, f"{decision.choice} by {decision.who}: {decision.why}", decision.at)
    text = PROCEED if by_system else f"{decision.choice} by {decision.who}"
    return RuleResult(Mark.PASSED if by_system else Mark.ASKED, text, decision.at)


def _ends(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    if line.outcome is not None:
        last = record.outcomes[-1] if record.outcomes else None
        if last is None:
            yield RuleResult(Mark.UNKNOWN, "the deployment has not ended")
        else:
            mark = Mark.PASSED if last.status is line.outcome else Mark.FAILED
            yield RuleResult(mark, str(last), last.at)
    if line.incidents is not None:
        least = SEVERITIES.index(line.incidents)
        bad = {e.incident: e for e in record.incidents if SEVERITIES.index(e.severity) >= least}
        for entry in bad.values():
            yield RuleResult(Mark.FAILED, f"{entry.incident} ({entry.severity})", entry.at)
        if not bad:
            yield RuleResult(Mark.PASSED if record.outcomes else Mark.UNKNOWN, "none")


def _followups(line: ReportLine, record: Record) -> Iterator[RuleResult]:
    """What came after the deployment, in runs of its own; the last word on it counts."""
    for pattern in line.followups:
        entries: tuple[Decision | Check, ...] = (*record.decisions, *record.checks)
        said = [e for e in entries if fnmatchcase(e.step, pattern) and e.run != record.deployment.run]
        if not said:
            yield RuleResult(Mark.UNKNOWN, f"{pattern.lstrip('*.')}: not yet asked or looked at")
            continue
        last = max(said, key=lambda entry: entry.at)
        yield _answered(last) if isinstance(last, Decision) else _looked_at(last)


def _answered(decision: Decision) -> RuleResult:
    marks = {"Yes": Mark.ASKED, "No": Mark.FAILED}
    text = f"{decision.choice} by {decision.who}: {decision.why}"
    return RuleResult(marks.get(decision.choice, Mark.UNKNOWN), text, decision.at)


def _looked_at(tried: Check) -> RuleResult:
    marks = {Verdict.PASS: Mark.PASSED, Verdict.FAIL: Mark.FAILED}
    return RuleResult(marks.get(tried.verdict, Mark.UNKNOWN), f"{tried.name}: {tried.reason}", tried.at)
