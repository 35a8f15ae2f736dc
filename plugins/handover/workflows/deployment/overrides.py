"""What a run overrides, and whether two people stand for it: who has started it, and one whom the plan names. Pure, but
for what the question has left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover.evidence_seal import NotSealed, left
from handover.models.evidence import Frozen
from handover.models.redaction import redacted
from handover.people.asking import without
from handover.plan import freeze, window
from handover.plan.change import Override

if TYPE_CHECKING:
    import datetime

    from handover.models.deployment import Release
    from handover.plan.model import Plan

MAX_WHY = 1000
"""Characters of what is against a release: somebody has to read it."""
SECOND_PERSON = "second_person"
"""Id of the task that asks."""
AGREED_KEY = "agreed"
"""XCom key under which it leaves what the second person has agreed to, as `Overridden`."""


class Overridden(Frozen):
    """``what``: why each of what is overridden stands against this image now."""

    image: str
    what: dict[Override, str]


def overridden(plan: Plan, release: Release, not_ready: str, now: datetime.datetime) -> Overridden:
    """What of a release takes a second person by the plan; nothing for one that overrides nothing.

    :param not_ready: what the gate has against it (`gate.Gate.overridden`)
    """
    found: dict[Override, str] = {"readiness": redacted(not_ready)[:MAX_WHY]} if not_ready else {}
    if release.window_override:
        found["window"] = _closed(plan, now)
        if why := _frozen(plan, now):
            found["freeze"] = why
    return Overridden(
        image=release.image, what={kind: why for kind, why in found.items() if kind in plan.overrides.second_person}
    )


def _closed(plan: Plan, now: datetime.datetime) -> str:
    rules = plan.window
    if window.may_start(rules, now):
        return f"it may begin now, and may go on when the window has closed ({rules.closes:%H:%M} {rules.timezone})"
    return f"closed until {window.opening(rules, now):%A %Y-%m-%d %H:%M %Z}"


def _frozen(plan: Plan, now: datetime.datetime) -> str:
    try:
        return freeze.frozen(plan.freeze, plan.window.timezone, now) or ""
    except freeze.BrokenCalendar as error:
        return f"unknown: {error}"


def with_others(plan: Plan, dag_run: Any) -> Plan:
    """The plan with all of its team but who has started this run. A scheduled one was started by nobody."""
    starter = getattr(dag_run, "triggering_user_name", None)
    return without(plan, starter) if starter else plan


def nobody_else(plan: Plan, dag_run: Any) -> str:
    """Why no second person could agree, "" when somebody can."""
    starter, role = getattr(dag_run, "triggering_user_name", None), plan.overrides.role
    if not starter and getattr(dag_run, "run_type", None) != "scheduled":
        return "nobody knows who has started this run, so nobody can be told from them"
    if not with_others(plan, dag_run).may_answer(role):
        return f"{starter} has started it, and the plan names nobody else for overrides.role ({role})"
    return ""


def not_agreed(ti: Any, plan: Plan, release: Release, not_ready: str, now: datetime.datetime) -> str:
    """What of a release is overridden now and has one person alone behind it, in words; "" for nothing. What was agreed
    to counts for its own image, and nothing that has come up since is part of it.
    """
    wanted = overridden(plan, release, not_ready, now)
    if not wanted.what:
        return ""
    try:
        known = left(ti, SECOND_PERSON, AGREED_KEY)
    except NotSealed as error:
        return str(error)
    agreed = Overridden.model_validate(known) if known else Overridden(image=wanted.image, what={})
    if more := {kind: why for kind, why in wanted.what.items() if kind not in agreed.what}:
        return f"no second person has agreed to override {told(more)}; start another run"
    if agreed.image != wanted.image:
        return f"what was agreed to is {agreed.image}, and by now it is {wanted.image}; start another run"
    return ""


def told(what: dict[Override, str]) -> str:
    """In one line."""
    return "; ".join(f"{kind} ({why})" for kind, why in what.items())
