"""DORA's four measures from the record. Pure.

Definitions of "DORA's software delivery metrics: the four keys" (dora.dev/guides/dora-metrics-four-keys), made exact:

- **Deployment frequency**: how often a change reached production. Counted are deployments whose new version got
  traffic; one that was stopped before the switch never was in production and is counted apart.
- **Lead time for changes**: from a commit until it was in production (the switch of traffic), the median over commits.
  Known only for commits that somebody has told the record of.
- **Change failure rate**: the share of deployments to production that had to be rolled back, then or later, or that
  opened an incident which is critical.
- **Time to restore** (now called failed deployment recovery time): from the moment the fault was seen until the
  incident was resolved, the median over incidents of such deployments. Incidents that are still open are counted apart.

Nothing known gives None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from handover.models.deployment import Status
from handover.models.incident import Severity
from handover.models.record import IncidentEntry, IncidentKind
from handover.record.ledger import Record

DAY = 86400.0
FAILED = frozenset({Status.ROLLED_BACK, Status.ROLLBACK_FAILED})


@dataclass(frozen=True)
class Dora:
    """Times in seconds since the epoch, durations in seconds; None where nothing is known."""

    since: float
    until: float
    deployments: int
    stopped: int
    """Ended before the switch: no user ever met the new version."""
    per_week: float | None
    lead_time_seconds: float | None
    changes: int
    failed: int
    failure_rate: float | None
    restore_seconds: float | None
    incidents: int
    open_incidents: int


def measure(records: Iterable[Record], since: float, until: float) -> Dora:
    """Of the deployments that were opened from ``since`` until ``until``; one that is under way is not counted yet."""
    ended = [r for r in records if r.outcomes and since <= r.deployment.started_at <= until]
    live = [r for r in ended if switched_at(r) is not None]
    weeks = (until - since) / (7 * DAY)
    failed = [r for r in live if _failed(r)]
    leads = [(switched_at(r) or 0.0) - c.committed_at for r in live for c in r.changes]
    timelines = [timeline for r in failed for timeline in _timelines(r.incidents)]
    restored = [seconds for timeline in timelines if (seconds := _restored(timeline)) is not None]
    return Dora(
        since=since, until=until, deployments=len(live), stopped=len(ended) - len(live),
        per_week=len(live) / weeks if weeks > 0 else None,
        lead_time_seconds=_median(leads), changes=len(leads),
        failed=len(failed), failure_rate=len(failed) / len(live) if live else None,
        restore_seconds=_median(restored), incidents=len(timelines), open_incidents=len(timelines) - len(restored),
    )  # fmt: skip


def switched_at(record: Record) -> float | None:
    """When the new version first got traffic."""
    return next((o.switched_at for o in record.outcomes if o.switched_at is not None), None)


def _failed(record: Record) -> bool:
    critical = any(entry.severity is Severity.CRITICAL for entry in record.incidents)
    return critical or any(o.status in FAILED for o in record.outcomes)


def _timelines(entries: Sequence[IncidentEntry]) -> list[list[IncidentEntry]]:
    found: dict[str, list[IncidentEntry]] = {}
    for entry in entries:
        found.setdefault(entry.incident, []).append(entry)
    return list(found.values())


def _restored(timeline: Sequence[IncidentEntry]) -> float | None:
    opened = [entry.at for entry in timeline if entry.kind is IncidentKind.OPENED]
    resolved = [entry.at for entry in timeline if entry.kind is IncidentKind.RESOLVED]
    return max(resolved) - min(opened) if opened and resolved else None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
