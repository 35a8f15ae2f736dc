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
        *databases(plan),
        *([ErrorTrackerSource(plan, version)] if plan.health.error_tracker_connection else []),
        *monitors(plan, version=version, colour=colour),
    ]


def databases(plan: Plan) -> list[MetricSource]:
    """The plan's, if it has one."""
    rules = plan.migration
    return [DatabaseSource(rules.primary_connection, rules.replica_connections)] if rules else []
