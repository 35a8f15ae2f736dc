"""Dashboards in Grafana."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from handover.models.evidence import Evidence, Measurement, failed, passed
from handover.plan.parts import ConnectionId, Items
from handover.readiness import web
from handover.readiness.check import CheckKind, Scope


class Dashboard(CheckKind):
    """A dashboard exists, and has a panel about each topic that queries something."""

    kind: Literal["dashboard"]
    connection: ConnectionId
    uid: str
    topics: Items

    def look(self, scope: Scope) -> Evidence:
        try:
            board = web.get(self.connection, f"/api/dashboards/uid/{self.uid}")["dashboard"]
        except web.Missing as missing:
            return failed(self.kind, str(missing))
        titles = [panel["title"].lower() for panel in panels(board) if panel.get("targets")]
        measured = Measurement(what="panels", value=len(titles), source=f"Grafana {self.uid}")
        lacking = [topic for topic in self.topics if not any(topic.lower() in title for title in titles)]
        if lacking:
            return failed(self.kind, f"{board['title']} has no panel about {', '.join(lacking)}", measured)
        return passed(self.kind, f"{board['title']} shows {', '.join(self.topics)}", measured)


def panels(board: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """All panels, those in collapsed rows too."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels") or ()
