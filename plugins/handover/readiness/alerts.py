"""Alert rules as Prometheus itself has loaded them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from handover.models.evidence import Evidence, Measurement, Verdict, combined, failed, passed, unknown
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
        loaded = list(alerting(answer["data"]))
        return combined(self.kind, [any_kept(rule, loaded) for rule in self.rules])


def alerting(data: Json) -> Iterator[Json]:
    for group in data["groups"]:
        yield from (rule for rule in group["rules"] if rule["type"] == "alerting")


def any_kept(wanted: AlertRule, loaded: Iterable[Json]) -> Evidence:
    """Whether one of the rules of this name is as the plan wants it: there may be a warning and an alarm."""
    found = [kept(wanted, rule) for rule in loaded if rule["name"] == wanted.name]
    for verdict in (Verdict.PASS, Verdict.UNKNOWN):
        if as_said := [one for one in found if one.verdict is verdict]:
            return as_said[0]
    if not found:
        return failed(wanted.name, "there is no such rule")
    measured = [one for each in found for one in each.measurements]
    return failed(wanted.name, "; ".join(sorted({one.reason for one in found})), *measured)


def kept(wanted: AlertRule, found: Json) -> Evidence:
    """Whether a rule is as the plan wants it."""
    if found["health"] == "unknown":
        return unknown(wanted.name, "it was not evaluated yet")
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
