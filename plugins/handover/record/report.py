"""What the report of a deployment says, made from its record. Pure: no I/O, and no words about how it looks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from handover.models import names
from handover.models.deployment import Status
from handover.models.evidence import Verdict
from handover.models.record import Check, IncidentEntry, IncidentKind, Outcome
from handover.plan.model import Plan
from handover.record.checklist import Judged, Mark, ReportChecklist, judge
from handover.record.ledger import Record

PODS, PROBE, DATABASE = "pods", "probe", "database"
OUTCOMES = {
    Status.SUCCEEDED: "succeeded",
    Status.ROLLED_BACK: "was rolled back",
    Status.ROLLBACK_FAILED: "failed, and so did its rollback",
}


@dataclass(frozen=True)
class PhaseSpan:
    """From the start of its first step to the end of its last one. Times are seconds since the epoch."""

    name: str
    run: str
    started_at: float
    ended_at: float
    passed: int
    checks: int

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


@dataclass(frozen=True)
class LogLine:
    at: float
    kind: str
    step: str
    text: str
    good: bool = True


@dataclass(frozen=True)
class JudgedGroup:
    title: str
    lines: tuple[Judged, ...]


@dataclass(frozen=True)
class JudgedSection:
    title: str
    groups: tuple[JudgedGroup, ...]

    def count(self, mark: Mark) -> int:
        return sum(1 for group in self.groups for line in group.lines if line.mark is mark)

    @property
    def counts(self) -> dict[str, int]:
        return {str(mark): self.count(mark) for mark in reversed(Mark)}


@dataclass(frozen=True)
class Series:
    """One line of a plot; points are (seconds since the epoch, value in the plot's unit)."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Plot:
    title: str
    unit: str
    series: tuple[Series, ...]
    limit: float | None
    """The plan's threshold, drawn as a line of its own."""


@dataclass(frozen=True)
class MarkedMoment:
    """Something that happened at one moment of all plots."""

    at: float
    name: str


@dataclass(frozen=True)
class DeploymentReport:
    title: str
    outcome: str
    succeeded: bool
    record: Record
    started_at: float
    ended_at: float
    ended: bool
    phases: tuple[PhaseSpan, ...]
    sections: tuple[JudgedSection, ...]
    plots: tuple[Plot, ...]
    moments: tuple[MarkedMoment, ...]
    log: tuple[LogLine, ...]
    undelivered: int

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


def build(plan: Plan, checklist: ReportChecklist, record: Record) -> DeploymentReport:
    """The report as of now; a deployment that has not ended has one too."""
    last = record.outcomes[-1] if record.outcomes else None
    log = tuple(_log(record))
    deployment = record.deployment
    return DeploymentReport(
        title=f"{plan.title} {deployment.version}",
        outcome=_words(last) if last else "has not ended",
        succeeded=bool(last and last.status is Status.SUCCEEDED),
        record=record,
        started_at=deployment.started_at,
        ended_at=last.at if last else max((line.at for line in log), default=deployment.started_at),
        ended=last is not None,
        phases=tuple(phases(record.checks)),
        sections=tuple(
            JudgedSection(
                section.title,
                tuple(JudgedGroup(g.title, tuple(judge(line, record) for line in g.lines)) for g in section.groups),
            )
            for section in checklist.sections
        ),
        plots=tuple(_plots(plan, record)),
        moments=tuple(_moments(record, last)),
        log=log,
        undelivered=_undelivered(record),
    )


def _words(last: Outcome) -> str:
    return f"was {last}" if last.stopped else OUTCOMES.get(last.status, str(last.status))


def phases(checks: Iterable[Check]) -> Iterator[PhaseSpan]:
    """In the order in which they began; the same phase of another run (a rollback's) is another one.

    Counted are steps by their last try.
    """
    ordered = sorted((c for c in checks if c.phase), key=lambda c: (c.run, c.phase, c.try_number))
    found = []
    for (run, name), group in groupby(ordered, key=lambda c: (c.run, c.phase)):
        tries = list(group)
        last = {c.step: c.verdict is Verdict.PASS for c in tries}
        began, ended = min(c.started_at for c in tries), max(c.at for c in tries)
        found.append(PhaseSpan(name, run, began, ended, sum(last.values()), len(last)))
    yield from sorted(found, key=lambda phase: phase.started_at)


def _log(record: Record) -> list[LogLine]:
    """The deployment log: everything that was done, decided, said and seen, in the order of time."""
    lines = [LogLine(c.at, f"check {c.verdict}", c.step, c.reason, c.verdict is Verdict.PASS) for c in record.checks]
    lines += [
        LogLine(d.at, "decision", d.step, f"{d.question} {d.choice} by {d.who}" + (f": {d.why}" if d.why else ""))
        for d in record.decisions
    ]
    lines += [
        LogLine(
            m.at, "message", m.step, f"{m.channel}: {m.text}" + (f" (not delivered: {m.problem})" if m.problem else ""),
            m.delivered,
        )
        for m in record.messages
    ]  # fmt: skip
    lines += [_incident_line(entry) for entry in record.incidents]
    lines += [LogLine(o.at, "outcome", o.step, str(o), o.status is Status.SUCCEEDED) for o in record.outcomes]
    return sorted(lines, key=lambda line: line.at)


def _incident_line(entry: IncidentEntry) -> LogLine:
    text = f"{entry.severity}: {entry.text} ({entry.who})"
    return LogLine(entry.at, f"incident {entry.kind}", entry.step, text, entry.kind is IncidentKind.RESOLVED)


def _plots(plan: Plan, record: Record) -> Iterator[Plot]:
    limits = plan.thresholds
    yield Plot(
        "Error rate", "%",
        (_series(record, names.ERROR_RATE, PODS, "answers of pods", 100),
         _series(record, names.ERROR_RATE, PROBE, "our requests", 100)),
        limits.max_error_rate * 100,
    )  # fmt: skip
    yield Plot(
        "Latency", "ms",
        (_series(record, names.P50, PODS, "p50 of pods", 1000), _series(record, names.P99, PODS, "p99 of pods", 1000),
         _series(record, names.P99, PROBE, "p99 of our requests", 1000),
         _single(record, names.P99, "p99 in single steps", 1000)),
        limits.max_p99_seconds * 1000,
    )  # fmt: skip
    yield Plot(
        "Replication lag", "s",
        (_series(record, names.REPLICATION_LAG, DATABASE, "worst replica", 1),
         _single(record, names.REPLICATION_LAG, "in single steps", 1)),
        limits.max_replication_lag_seconds,
    )  # fmt: skip


def _undelivered(record: Record) -> int:
    """Messages that nobody got: what was delivered at a later try has an entry for each."""
    told = {(m.channel, m.text) for m in record.messages if m.delivered}
    return len({(m.channel, m.text) for m in record.messages} - told)


def _series(record: Record, what: str, source: str, name: str, factor: float) -> Series:
    points = ((s.at, s.value * factor) for s in record.samples if s.what == what and s.source == source)
    return Series(name, tuple(sorted(points)))


def _single(record: Record, what: str, name: str, factor: float) -> Series:
    """What steps have measured that are no watch; a watch's evidence sums up what its samples show."""
    watches = {sample.step for sample in record.samples}
    points = (
        (m.at, m.value * factor)
        for step in record.checks
        for m in step.measurements
        if m.what == what and m.value is not None and step.step not in watches
    )
    return Series(name, tuple(sorted(points)))


def _moments(record: Record, last: Outcome | None) -> Iterator[MarkedMoment]:
    named = {"switch_traffic": "switch", "execute_migration": "migration", "move_traffic_back": "traffic back"}
    for step in record.checks:
        if step.name in named and step.verdict is Verdict.PASS:
            yield MarkedMoment(step.at, named[step.name])
    opened = [entry for entry in record.incidents if entry.kind is IncidentKind.OPENED]
    for entry in opened:
        yield MarkedMoment(entry.at, "incident")
    if last:
        yield MarkedMoment(last.at, "end")
