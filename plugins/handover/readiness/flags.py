"""Feature flags, by the client API of Unleash and of what speaks like it."""

from __future__ import annotations

from typing import Literal

from handover.models.evidence import Evidence, failed, passed
from handover.plan.parts import ConnectionId, Items, UrlPath
from handover.readiness import web
from handover.readiness.check import CheckKind, Scope


class FeatureFlags(CheckKind):
    """Every critical feature is switched on."""

    kind: Literal["feature_flags"]
    connection: ConnectionId
    path: UrlPath = "/api/client/features"
    enabled: Items

    def look(self, scope: Scope) -> Evidence:
        on = {one["name"]: one["enabled"] for one in web.get(self.connection, self.path)["features"]}
        wrong = [
            f"{name} is {'off' if name in on else 'unknown to it'}" for name in self.enabled if on.get(name) is not True
        ]
        return failed(self.kind, "; ".join(wrong)) if wrong else passed(self.kind, f"on: {', '.join(self.enabled)}")
