"""What the page says of the past, from what the ledger has. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Literal

from handover.models.evidence import Verdict
from handover.models.record import Check, IncidentEntry, IncidentKind, Outcome
from handover.plan.measures import UNITS, in_unit, measures_of
from handover.record.dora import switched_at
from handover.record.report import OUTCOMES, phases
from handover.workflows.page.now import dags_of
from handover.workflows.page.past_views import (
    CheckView,
    DecisionView,
    DeploymentRow,
    DeploymentView,
    IncidentLine,
    IncidentView,
    Measurements,
    MeasureView,
    MessageView,
    Moment,
    PhaseView,
    SeriesView,
)
from handover.workflows.recording.report import link

if TYPE_CHECKING:
    from handover.models.deployment import Status
    from handover.plan.measures import Limit, Measure
    from handover.plan.model import Plan
    from handover.record.browse import Line, Row, Thinned
    from handover.record.ledger import Record

Kind = Literal["switch", "migration", "incident", "back", "end"]
MOMENTS: dict[str, Kind] = {"switch_traffic": "switch", "execute_migration": "migration", "move_traffic_back": "back"}
"""Steps that every plot marks."""


def row_of(plan: Plan, row: Row) -> DeploymentRow:
    return DeploymentRow(
        run=row.deployment, version=row.version, previous_version=row.previous_version, requested_by=row.requested_by,
        reason=row.reason, started_at=row.started_at, switched_at=row.switched_at, ended_at=row.ended_at,
        status=row.status, outcome=_outcome(row.status, row.switched_at),
        report=_report(plan, row.deployment, row.status),
    )  # fmt: skip


def _outcome(status: Status | None, switched: float | None) -> str:
    if status is None:
        return "has not ended"
    last = Outcome(status=status, at=0, switched_at=switched)
    return f"was {last}" if last.stopped else OUTCOMES.get(status, str(status))


def _report(plan: Plan, run: str, status: Status | None) -> str:
    return link(plan, run) if plan.backup and plan.record and status else ""


def deployment_of(plan: Plan, record: Record) -> DeploymentView:
    opened, outcomes = record.deployment, record.outcomes
    last, switched = (outcomes[-1] if outcomes else None), switched_at(record)
    status = last.status if last else None
    arrived = {(one.channel, one.text) for one in record.messages if one.delivered}
    lost = {(one.channel, one.text) for one in record.messages} - arrived
    runs = dict.fromkeys([opened.deployment, *(one.run for one in (*record.checks, *outcomes) if one.run)])
    return DeploymentView(
        row=DeploymentRow(
            run=opened.deployment, version=opened.version, previous_version=opened.previous_version,
            requested_by=opened.requested_by, reason=opened.reason, started_at=opened.started_at, switched_at=switched,
            ended_at=last.at if last else None, status=status, outcome=_outcome(status, switched),
            report=_report(plan, opened.deployment, status),
        ),
        image=opened.image, previous_image=opened.previous_image, method=opened.method,
        window_override_reason=opened.window_override_reason,
        readiness_override_reason=opened.readiness_override_reason, readiness_run=opened.readiness,
        backup=next((one.backup_uri for one in outcomes if one.backup_uri), ""), dags=dags_of(plan), runs=tuple(runs),
        phases=tuple(
            PhaseView(name=one.name, run=one.run, started_at=one.started_at, ended_at=one.ended_at, passed=one.passed,
                      steps=one.checks)
            for one in phases(record.checks)
        ),
        checks=tuple(_check(one) for one in record.checks),
        decisions=tuple(
            DecisionView(run=one.run, step=one.step, at=one.at, question=one.question, choice=one.choice, who=one.who,
                         why=one.why)
            for one in record.decisions
        ),
        incidents=tuple(_incidents(record.incidents)),
        messages=tuple(
            MessageView(run=one.run, step=one.step, at=one.at, channel=one.channel, text=one.text, problem=one.problem,
                        arrived=(one.channel, one.text) in arrived)
            for one in record.messages
        ),
        undelivered=len(lost), changes=record.changes, moments=tuple(_moments(record, last)),
        measures=tuple(_measure(one) for one in measures_of(plan)),
    )  # fmt: skip


def _check(check: Check) -> CheckView:
    return CheckView(
        run=check.run, step=check.step, phase=check.phase, name=check.name, try_number=check.try_number,
        verdict=check.verdict, reason=check.reason, started_at=check.started_at, at=check.at,
        measurements=check.measurements,
    )  # fmt: skip


def _incidents(entries: Sequence[IncidentEntry]) -> Iterator[IncidentView]:
    """In the order in which they were opened."""
    for name, group in groupby(sorted(entries, key=lambda one: one.incident), key=lambda one: one.incident):
        lines = sorted(group, key=lambda one: one.at)
        resolved = [one.at for one in lines if one.kind is IncidentKind.RESOLVED]
        yield IncidentView(
            incident=name, severity=lines[0].severity, opened_at=lines[0].at,
            resolved_at=max(resolved) if resolved else None,
            lines=tuple(IncidentLine(at=one.at, kind=one.kind, text=one.text, who=one.who) for one in lines),
        )  # fmt: skip


def _moments(record: Record, last: Outcome | None) -> Iterator[Moment]:
    """The cutover as the outcome has it, where there is one: it knows when clients met the new version."""
    switched = switched_at(record)
    if switched is not None:
        yield Moment(at=switched, kind="switch")
    for check in record.checks:
        kind = MOMENTS.get(check.name)
        if kind and check.verdict is Verdict.PASS and not (kind == "switch" and switched is not None):
            yield Moment(at=check.at, kind=kind, text=check.reason)
    for entry in record.incidents:
        if entry.kind is IncidentKind.OPENED:
            yield Moment(at=entry.at, kind="incident", text=entry.text)
    if last:
        yield Moment(at=last.at, kind="end", text=str(last))


def _measure(measure: Measure) -> MeasureView:
    return MeasureView(
        name=measure.name, source=measure.source, unit=measure.unit, limit=words(measure.limit, measure.unit),
        above=measure.limit.above, below=measure.limit.below, severity=measure.severity, phases=measure.phases,
        silence=measure.silence,
    )  # fmt: skip


def words(limit: Limit, unit: str) -> str:
    """What a value must not be."""

    def told(value: float) -> str:
        return f"{value:g}{' ' if unit and unit != '%' else ''}{unit}"

    said = [f"above {told(limit.above)}"] if limit.above is not None else []
    said += [f"below {told(limit.below)}"] if limit.below is not None else []
    said += [f"{limit.relative:.0%} above the stable version"] if limit.relative is not None else []
    said += [f"{limit.growth:.0%} above what was normal before"] if limit.growth is not None else []
    noise = f" (worse by less than {told(limit.at_least)} is noise)" if limit.at_least else ""
    floor = f" (never less than {told(limit.floor)})" if limit.floor is not None else ""
    return f"{', or '.join(said)}{noise}{floor}"


def measurements_of(plan: Plan, thinned: Thinned) -> Measurements:
    """All series on one axis of time, with the limits of the plan as it is now."""
    slots = sorted({slot for line in thinned.lines for slot in line.points})
    measures = {(one.name, one.source): one for one in measures_of(plan)}
    return Measurements(
        seconds=thinned.seconds, at=tuple(slot * thinned.seconds for slot in slots),
        series=tuple(_series(line, slots, measures.get((line.what, line.source))) for line in thinned.lines),
    )  # fmt: skip


def _series(line: Line, slots: Sequence[int], measure: Measure | None) -> SeriesView:
    points = [line.points.get(slot, (None, None)) for slot in slots]
    low, high = tuple(one for one, _ in points), tuple(one for _, one in points)
    return SeriesView(
        what=line.what, source=line.source, unit=line.unit, high=high, low=() if low == high else low,
        above=_limit(measure, line.unit, "above"), below=_limit(measure, line.unit, "below"),
    )  # fmt: skip


def _limit(measure: Measure | None, unit: str, side: Literal["above", "below"]) -> float | None:
    """In the unit of what was measured; None where it cannot be told in it."""
    value: float | None = getattr(measure.limit, side) if measure else None
    return in_unit(value, measure.unit, unit) if measure and value is not None and unit in UNITS else None
