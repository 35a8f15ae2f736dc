"""What was measured and what it means: the types that concerns share. No I/O here."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from handover import clock


class Frozen(BaseModel):
    """A value object that crosses task boundaries as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(StrEnum):
    """What a check concludes. Only PASS is a pass; UNKNOWN means there was no (or not enough) data."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"


class Measurement(Frozen):
    """What was seen, when and from where. ``value`` None means that the source gave no data, and ``why`` says why."""

    what: str
    value: float | None
    unit: str = ""
    source: str
    at: float = Field(default_factory=clock.epoch)
    why: str = ""


class Evidence(Frozen):
    """The verdict of one check with the measurements that it rests on."""

    check: str
    verdict: Verdict
    reason: str
    measurements: tuple[Measurement, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS


def passed(check: str, reason: str, *measurements: Measurement) -> Evidence:
    return Evidence(check=check, verdict=Verdict.PASS, reason=reason, measurements=measurements)


def failed(check: str, reason: str, *measurements: Measurement) -> Evidence:
    return Evidence(check=check, verdict=Verdict.FAIL, reason=reason, measurements=measurements)


def unknown(check: str, reason: str, *measurements: Measurement) -> Evidence:
    return Evidence(check=check, verdict=Verdict.UNKNOWN, reason=reason, measurements=measurements)


def combined(check: str, parts: list[Evidence]) -> Evidence:
    """One verdict for several checks: the worst one wins, and no parts at all is UNKNOWN."""
    measurements = tuple(m for part in parts for m in part.measurements)
    for verdict in (Verdict.FAIL, Verdict.UNKNOWN):
        bad = [part for part in parts if part.verdict is verdict]
        if bad:
            reason = "; ".join(f"{part.check}: {part.reason}" for part in bad)
            return Evidence(check=check, verdict=verdict, reason=reason, measurements=measurements)
    if not parts:
        return unknown(check, "nothing was checked")
    return passed(check, "; ".join(f"{part.check}: {part.reason}" for part in parts), *measurements)
