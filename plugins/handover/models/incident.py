"""What went wrong after a deployment, how bad it was, and what was done about it (plan 5.3). No I/O here."""

from __future__ import annotations

import datetime
from enum import StrEnum

from handover.models.evidence import Frozen


class Severity(StrEnum):
    """Only a critical incident is put to the lead; of the others people are told."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Resolution(StrEnum):
    NOTED = "noted"
    """Not critical: people were told, and the watch went on."""
    ASKED = "asked"
    FIXED = "fixed"
    ROLLED_BACK = "rolled_back"


class TimelineEntry(Frozen):
    """One line of the timeline; ``at`` in seconds since the epoch."""

    at: float
    what: str


class Incident(Frozen):
    """One breach of one rule. ``rule`` is the measurement that broke its limit, ``began`` seconds since the epoch."""

    severity: Severity
    rule: str
    reason: str
    began: float
    outcome: Resolution
    timeline: tuple[TimelineEntry, ...] = ()

    def then(self, at: float, what: str, outcome: Resolution | None = None) -> Incident:
        """The same with one more line."""
        line = TimelineEntry(at=at, what=what)
        return self.model_copy(update={"timeline": (*self.timeline, line), "outcome": outcome or self.outcome})

    def __str__(self) -> str:
        """The whole story, a line for each entry, in UTC."""
        lines = [
            f"{datetime.datetime.fromtimestamp(e.at, datetime.UTC):%Y-%m-%d %H:%M:%S} {e.what}" for e in self.timeline
        ]
        return "\n".join([f"{self.severity} incident, {self.outcome}: {self.rule}", *lines])

    @property
    def open(self) -> bool:
        """Whether somebody still has to decide or to repair."""
        return self.outcome is Resolution.ASKED


def began(rule: str, reason: str, severity: Severity, at: float, outcome: Resolution) -> Incident:
    first = TimelineEntry(at=at, what=f"{rule}: {reason}")
    return Incident(severity=severity, rule=rule, reason=reason, began=at, outcome=outcome, timeline=(first,))


def pending(incidents: tuple[Incident, ...]) -> Incident | None:
    """The one that is open; there is at most one."""
    return next((incident for incident in incidents if incident.open), None)


def given_up(incidents: tuple[Incident, ...]) -> Incident | None:
    """The first one that was answered with a rollback: nothing that comes after it may pass any more."""
    return next((incident for incident in incidents if incident.outcome is Resolution.ROLLED_BACK), None)


def changed(
    incidents: tuple[Incident, ...], at: float, what: str, outcome: Resolution | None = None
) -> tuple[Incident, ...]:
    """All of them, with one more line in the timeline of the open one."""
    return tuple(one.then(at, what, outcome) if one.open else one for one in incidents)
