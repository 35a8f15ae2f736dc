"""Alert rules as Prometheus itself has loaded them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from handover.models.evidence import Evidence, Measurement, combined, failed, passed, unknown
from handover.plan.parts import ConnectionId, Section
from handover.readiness import web
from handover.readiness.check import CheckKind, NoAnswer, Scope

Json = Mapping[str, Any]
SOURCE = "Prometheus"
_LIMIT = re.compile(r"(>=|<=|==|!=|>|<)\s*(?:bool\s+)?([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*\)*\s*$")


class AlertRule(Section):
    """An alert rule: what it must watch, and from where on. ``mentions``: metrics and windows in its expression."""

    name: str
    threshold: float
    mentions: tuple[str, ...] = ()


class AlertRules(CheckKind):
    """Every rule is loaded, can be evaluated, and has the plan's threshold."""

    kind: Literal["alert_rules"]
    connection: ConnectionId
    rules: tuple[AlertRule, ...]

    def look(self, scope: Scope) -> Evidence:
        answer = web.get(self.connection, "/api/v1/rules", {"type": "alert"})
        if answer["status"] != "success":
            raise NoAnswer(f"{self.connection}: the rules API answered {answer['status']}")
        loaded = {rule["name"]: rule for rule in alerting(answer["data"])}
        return combined(self.kind, [kept(rule, loaded.get(rule.name)) for rule in self.rules])


def alerting(data: Json) -> Iterator[Json]:
    for group in data["groups"]:
        yield from (rule for rule in group["rules"] if rule["type"] == "alerting")


def kept(wanted: AlertRule, found: Json | None) -> Evidence:
    """Whether a rule is as the plan wants it."""
    if found is None:
        return failed(wanted.name, "there is no such rule")
    if found["health"] != "ok":
        return failed(wanted.name, f"its health is {found['health']}")
    expression = found["query"]
    if missing := [text for text in wanted.mentions if text not in expression]:
        return failed(wanted.name, f"does not look at {', '.join(missing)}")
    limit = _LIMIT.search(expression)
    if limit is None:
        return unknown(wanted.name, "its expression does not end in a comparison with a number")
    measured = Measurement(what=f"threshold {wanted.name}", value=float(limit.group(2)), source=SOURCE)
    if limit.group(1) not in (">", ">=") or float(limit.group(2)) != wanted.threshold:
        text = f"fires at {limit.group(1)} {limit.group(2)}, the plan says > {wanted.threshold:g}"
        return failed(wanted.name, text, measured)
    return passed(wanted.name, f"fires above {wanted.threshold:g}", measured)
