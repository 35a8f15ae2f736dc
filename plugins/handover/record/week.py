"""What the record says of a deployment after it has ended: its figures, and whether it has stayed quiet. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from handover.models.deployment import Status
from handover.models.evidence import Evidence, Measurement, failed, passed, unknown
from handover.models.names import ERROR_RATE
from handover.models.record import Outcome
from handover.record.ledger import Record

SOURCE = "record"
BASELINE_STEP = ".performance"


def figures(record: Record) -> list[Measurement]:
    """Plan "Log deployment metrics": duration in seconds to the first end, issues, rolled back (1) or not (0)."""
    values: dict[str, float] = {
        "issues": len({entry.incident for entry in record.incidents}),
        "rolled_back": float(any(end.status is Status.ROLLED_BACK and not end.stopped for end in record.outcomes)),
    }
    if record.outcomes:
        values["duration_seconds"] = round(record.outcomes[0].at - record.deployment.started_at, 3)
    return [Measurement(what=what, value=value, source=SOURCE) for what, value in values.items()]


def quiet(check: str, records: Sequence[Record]) -> Evidence:
    """Plan "No unexpected issues": no incident and no rollback in these deployments, of which there has to be one."""
    if not records:
        return unknown(check, "the ledger holds no deployment to look at")
    incidents = sorted({entry.incident for record in records for entry in record.incidents})
    backs = [r.deployment.version for r in records if any(_bad(end) for end in r.outcomes)]
    if incidents or backs:
        return failed(check, f"incidents: {', '.join(incidents) or 'none'}; rolled back: {', '.join(backs) or 'none'}")
    return passed(check, f"no incident and no rollback in {len(records)} deployment(s) since")


def _bad(end: Outcome) -> bool:
    """What was stopped before any client met it troubled nobody."""
    return end.status is not Status.SUCCEEDED and not end.stopped


def worst_error_rate(record: Record) -> float | None:
    """The highest error rate among the samples of the deployment's watch; None when there are none."""
    return max((sample.value for sample in record.samples if sample.what == ERROR_RATE), default=None)


def performance_then(record: Record) -> dict[str, float]:
    """What plan 4.2 measured in the deployment, by name; empty when it never got so far."""
    found: dict[str, float] = {}
    for tried in record.checks:
        if tried.run == record.deployment.run and tried.step.endswith(BASELINE_STEP):
            found |= {m.what: m.value for m in tried.measurements if m.value is not None}
    return found
