"""Label and field selectors, as query strings and as the selector of a workload."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.cluster.errors import bad_request

Labels = Mapping[str, str]
Matcher = Callable[[dict[str, Any]], bool]

_KEY = r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?"
_SET = re.compile(rf"^({_KEY})\s+(in|notin)\s*\(([^()]*)\)$")
_PAIR = re.compile(rf"^({_KEY})\s*(==|=|!=)\s*([-A-Za-z0-9_.]*)$")
_EXISTS = re.compile(rf"^(!?)\s*({_KEY})$")

FIELDS = {
    "Pod": ("status.phase", "status.podIP", "spec.nodeName", "spec.restartPolicy"),
    "Event": (
        "involvedObject.kind", "involvedObject.namespace", "involvedObject.name", "involvedObject.uid", "reason",
        "type",
    ),
    "Job": ("status.successful",),
}  # fmt: skip


def label_selector(text: str) -> Matcher:
    """`a=b,c!=d,e in (x,y),f notin (z),g,!h` as a test of an object."""
    tests = [_requirement(part.strip()) for part in re.split(r",(?![^()]*\))", text) if part.strip()]

    def matches(obj: dict[str, Any]) -> bool:
        labels = obj["metadata"].get("labels") or {}
        return all(test(labels) for test in tests)

    return matches


def _requirement(text: str) -> Callable[[Labels], bool]:
    if match := _EXISTS.match(text):
        absent, key = bool(match[1]), match[2]
        return lambda labels: (key in labels) != absent
    match = _SET.match(text) or _PAIR.match(text)
    if not match:
        raise bad_request(f"unable to parse requirement: {text!r}")
    key, operator = match[1], match[2]
    values = {value.strip() for value in match[3].split(",")}
    return lambda labels: (labels.get(key) in values) == (operator in ("in", "=", "=="))


def field_selector(text: str, kind: str) -> Matcher:
    """`metadata.name=x,status.phase!=Running`: only fields the kind is indexed by, as on a real server."""
    known = ("metadata.name", "metadata.namespace", *FIELDS.get(kind, ()))
    tests: list[tuple[list[str], bool, str]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.match(r"^([A-Za-z.]+)(==|=|!=)(.*)$", part)
        if not match or match[1] not in known:
            raise bad_request(f"field label not supported: {part}")
        tests.append((match[1].split("."), match[2] != "!=", match[3]))
    return lambda obj: all((_field(obj, path) == value) is wanted for path, wanted, value in tests)


def _field(obj: Any, path: list[str]) -> str:
    for step in path:
        obj = obj.get(step) if isinstance(obj, dict) else None
    return "" if obj is None else str(obj)


def workload_selects(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """Whether a selector takes these labels; an empty one takes none, and this stand-in knows no expressions."""
    wanted = (selector or {}).get("matchLabels") or {}
    return bool(wanted) and wanted.items() <= labels.items() and not (selector or {}).get("matchExpressions")
