"""Entries of a deployment as tests need them: what happened stands in the call, everything else is plausible."""

from __future__ import annotations

import math
from typing import Any

from handover.models.deployment import Status
from handover.models.evidence import Measurement, Verdict
from handover.models.record import (
    Change,
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
from handover.record.ledger import Record

START = 1_795_010_400.0
RUN = "manual__2026-11-18T14:00:00+00:00"
READINESS = "scheduled__2026-11-16T14:00:00+00:00"


def deployment(run: str = RUN, **more: Any) -> Deployment:
    facts: dict[str, Any] = {
        "plan": "pms", "version": "v1.1.0", "image": "ghcr.io/ai-hotel/pms@sha256:1", "previous_version": "v1.0.0",
        "previous_image": "ghcr.io/ai-hotel/pms:v1.0.0", "method": "sql", "requested_by": "lead",
        "reason": "release v1.1.0", "started_at": START,
    }  # fmt: skip
    return Deployment(**(facts | more)).of(run, run, "open")


def check(step: str, verdict: Verdict = Verdict.PASS, *, at: float = 10, run: str = RUN, tries: int = 1,
          reason: str = "fine", **values: float) -> Check:  # fmt: skip
    """``values``: measurements by name, as the public probe saw them."""
    measured = tuple(Measurement(what=k, value=v, source="probe", at=START + at) for k, v in values.items())
    made = Check(
        try_number=tries, check_name=step.rpartition(".")[2], verdict=verdict, reason=reason, measurements=measured,
        started_at=START + at - 1, at=START + at,
    )  # fmt: skip
    return made.of(RUN, run, step)


def decision(step: str, choice: str = "Proceed", who: str = "system", *, at: float = 20, why: str = "") -> Decision:
    return Decision(at=START + at, question="Ready?", choice=choice, who=who, why=why).of(RUN, RUN, step)


def outcome(status: Status = Status.SUCCEEDED, *, at: float = 300, switched: float | None = 60, run: str = RUN,
            of: str = RUN) -> Outcome:  # fmt: skip
    switched_at = None if switched is None else START + switched
    return Outcome(status=status, at=START + at, switched_at=switched_at).of(of, run, "close")


def said(text: str) -> SentMessage:
    return SentMessage(at=START, channel="slack #x", text=text).of(RUN, RUN, "announce")


def change(at: float) -> Change:
    return Change(revision="a", committed_at=at).of(RUN, RUN, "")


def incident(kind: IncidentKind, at: float, *, of: str = RUN, severity: Any = "critical") -> IncidentEntry:
    made = IncidentEntry(incident=f"rollback__{of}", kind=kind, at=START + at, severity=severity, text="errors")
    return made.of(of, f"rollback__{of}", "close")


def samples(seconds: int = 200, begin: float = 60) -> list[Sample]:
    """A watch with a spike of errors in the middle, in steps of a second."""
    found = []
    for n in range(seconds):
        at = START + begin + n
        rate = 0.08 if abs(n - seconds / 2) < 4 else 0.0
        for what, source, value, unit in (
            ("error_rate", "pods", rate, ""), ("error_rate", "probe", rate / 2, ""),
            ("p50_seconds", "pods", 0.02 + 0.005 * math.sin(n / 9), "s"),
            ("p99_seconds", "pods", 0.12 + 0.08 * math.sin(n / 7) ** 2, "s"),
            ("p99_seconds", "probe", 0.15, "s"),
            ("replication_lag_seconds", "database", 0.3 + 0.2 * math.cos(n / 5), "s"),
        ):  # fmt: skip
            found.append(Sample(what=what, source=source, at=at, value=value, unit=unit).of(RUN, RUN, "watch"))
    return found


def ready(name: str, verdict: Verdict = Verdict.PASS, reason: str = "fine") -> Check:
    """A check of the readiness that the deployment rests on."""
    return check(f"section.{name}", verdict, reason=reason, run=READINESS).of(READINESS, READINESS, f"section.{name}")


def record(*entries: RecordEntry, readiness: tuple[Check, ...] = ()) -> Record:
    """As the ledger would give it."""

    def of(kind: type[Any]) -> tuple[Any, ...]:
        return tuple(e for e in entries if isinstance(e, kind))

    (opened,) = of(Deployment) or (deployment(),)
    return Record(
        opened,
        of(Outcome),
        of(Check),
        of(Decision),
        of(SentMessage),
        of(IncidentEntry),
        of(Sample),
        of(Change),
        readiness,
    )
