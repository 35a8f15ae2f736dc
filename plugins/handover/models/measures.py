"""When a measure of a watch counts, and what came of it. No I/O here."""

from __future__ import annotations

from enum import StrEnum

from handover.models.evidence import Frozen, Measurement
from handover.models.incident import Severity


class Phase(StrEnum):
    """Where a deployment is while it is watched."""

    CUTOVER = "cutover"
    """From the first patch of the route to the end of the first soak (2.2)."""
    VERIFICATION = "verification"
    """Health, response times, error tracker (2.3)."""
    MIGRATION = "migration"
    """Phase 3."""
    TESTING = "testing"
    """Critical paths, performance, acceptance (Phase 4)."""
    STABILIZATION = "stabilization"
    """5.1 until the decision point."""
    MONITORING = "monitoring"
    """What comes after it."""
    RETIREMENT = "retirement"
    """The old version goes, and nobody is asked any more."""


class Response(StrEnum):
    """What a breach does."""

    ABORT = "abort"
    """Traffic goes back at once."""
    CANCEL_MIGRATION = "cancel_migration"
    """A migration that runs is cancelled first, and then traffic goes back."""
    ASK = "ask"
    """The lead is asked: fix or rollback."""
    NOTE = "note"
    """People are told."""
    WAIT = "wait"
    """Nothing: somebody decides or mends already."""


class Silence(StrEnum):
    """What it means that a measure has no data."""

    BREACH = "breach"
    """Nobody knows whether the release is good: as bad as if it were not."""
    INCIDENT = "incident"
    """People are told; by itself it is not critical, and no obstacle to a pass."""
    IGNORE = "ignore"


class MeasureVerdict(StrEnum):
    PASS = "pass"
    BREACH = "breach"
    NO_DATA = "no data"
    NOT_IN_PHASE = "not in this phase"


class MeasureResult(Frozen):
    """What one measure came to. ``value`` and ``limit`` are in ``unit``; None: there is none, ``reason`` says why."""

    measure: str
    source: str
    verdict: MeasureVerdict
    severity: Severity
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    reason: str = ""

    @property
    def measurement(self) -> Measurement:
        """For evidence and record."""
        return Measurement(what=self.measure, value=self.value, unit=self.unit, source=f"{self.source}: {self.verdict}")
