"""Log groups in CloudWatch: fed, and kept for as long as the plan says."""

from __future__ import annotations

from typing import Any, Literal

from handover.models.evidence import Evidence, Measurement, combined, failed, passed
from handover.plan.parts import ConnectionId, Count, Items, Seconds
from handover.readiness.aws import client
from handover.readiness.check import CheckKind, Scope


class LogCheck(CheckKind):
    connection: ConnectionId
    groups: Items

    def look(self, scope: Scope) -> Evidence:
        logs = client(self.connection, "logs")
        parts = []
        for name in self.groups:
            found = logs.describe_log_groups(logGroupNamePrefix=name)["logGroups"]
            group = next((one for one in found if one["logGroupName"] == name), None)
            parts.append(self.judge(logs, group, scope) if group else failed(name, "there is no such log group"))
        return combined(self.kind, parts)

    def judge(self, logs: Any, group: dict[str, Any], scope: Scope) -> Evidence:
        raise NotImplementedError


class LogRetention(LogCheck):
    """Every group keeps its events for exactly the plan's days; a group without a setting keeps them for ever."""

    kind: Literal["log_retention"]
    days: Count

    def judge(self, logs: Any, group: dict[str, Any], scope: Scope) -> Evidence:
        name, days = group["logGroupName"], group.get("retentionInDays")
        measured = Measurement(what=f"retention_days {name}", value=days, unit="d", source="CloudWatch Logs")
        verdict = passed if days == self.days else failed
        return verdict(name, f"{days or 'unlimited'} days, the plan says {self.days}", measured)


class LogsArrive(LogCheck):
    """Every group had an event lately."""

    kind: Literal["logs_arrive"]
    max_silence_seconds: Seconds

    def judge(self, logs: Any, group: dict[str, Any], scope: Scope) -> Evidence:
        name = group["logGroupName"]
        streams = logs.describe_log_streams(logGroupName=name, orderBy="LastEventTime", descending=True, limit=1)
        last = max((one.get("lastEventTimestamp", 0) for one in streams["logStreams"]), default=0) / 1000
        silence = scope.now - last
        measured = Measurement(what=f"silence {name}", value=round(silence), unit="s", source="CloudWatch Logs")
        if not last or silence > self.max_silence_seconds:
            return failed(name, f"no event for {self.max_silence_seconds / 3600:g} h", measured)
        return passed(name, f"last event {max(silence, 0.0):.0f} s ago", measured)
