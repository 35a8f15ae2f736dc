"""What a watch asks beside pods and probes: a line for each source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handover.adapters.monitors import monitors
from handover.checks.sources import ErrorTrackerSource
from handover.database.sources import DatabaseSource

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.metrics import MetricSource


def sources_of(plan: Plan, version: str, colour: str) -> list[MetricSource]:
    """``version`` and ``colour``: what is watched."""
    return [
        DatabaseSource(plan.migration.primary_connection, plan.migration.replica_connections),
        ErrorTrackerSource(plan, version),
        *monitors(plan, version=version, colour=colour),
    ]
