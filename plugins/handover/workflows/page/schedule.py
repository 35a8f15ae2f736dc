"""When something may go out: the windows and freezes that lie ahead, and what is due in the next one."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from handover.models.deployment import Status
from handover.models.redaction import redacted
from handover.plan import freeze, window
from handover.plan.freeze import BrokenCalendar, FrozenSpan
from handover.readiness.result import problem
from handover.workflows.page.now import clean
from handover.workflows.page.past_views import FreezeView
from handover.workflows.page.views import ReadinessNow, ReleaseDue, WindowView

if TYPE_CHECKING:
    from handover.models.deployment import DeploymentState
    from handover.models.readiness import Readiness
    from handover.plan.model import Plan

AHEAD = datetime.timedelta(days=30)
MAX_TEXT = 200


def freezes(plan: Plan, now: datetime.datetime) -> tuple[list[FrozenSpan], str]:
    """Of the next 30 days; and why they cannot be told, "" when they can."""
    try:
        return freeze.spans(plan.freeze, plan.window.timezone, now, now + AHEAD), ""
    except BrokenCalendar as error:
        return [], str(error)


def windows(plan: Plan, now: datetime.datetime, frozen: Sequence[FrozenSpan], unknown: str) -> Iterator[WindowView]:
    """Of the next 30 days, one that is open now included.

    :param unknown: why the freezes cannot be told
    """
    opens = window.opening(plan.window, now)
    while opens <= now + AHEAD:
        yield _window(plan, now, opens, frozen, unknown)
        opens = window.upcoming(plan.window, opens)


def next_window(plan: Plan, now: datetime.datetime, frozen: Sequence[FrozenSpan], unknown: str) -> WindowView:
    """The same, of the first one."""
    return _window(plan, now, window.opening(plan.window, now), frozen, unknown)


def _window(
    plan: Plan, now: datetime.datetime, opens: datetime.datetime, frozen: Sequence[FrozenSpan], unknown: str
) -> WindowView:
    closes = opens + datetime.timedelta(seconds=window.length(plan.window))
    why = [one.why for one in frozen if one.starts < closes and one.ends > opens]
    return WindowView(
        opens=opens.timestamp(), closes=closes.timestamp(),
        prepares_at=opens.timestamp() - plan.window.prepare_seconds, open=opens <= now,
        frozen="; ".join(why) or unknown,
    )  # fmt: skip


def shown(frozen: Sequence[FrozenSpan]) -> tuple[FreezeView, ...]:
    return tuple(
        FreezeView(starts=one.starts.timestamp(), ends=one.ends.timestamp(), why=one.why) for one in frozen
    )  # fmt: skip


def due_of(plan: Plan, variable: Any, state: DeploymentState | None) -> ReleaseDue:
    """From the Airflow Variable ``<plan>_release_due``, as a scheduled run takes it: one that is out is not due."""
    if not variable:
        return ReleaseDue()
    if not isinstance(variable, dict) or not isinstance(variable.get("version"), str):
        return ReleaseDue(problem=f"the Variable {plan.name}_release_due is no JSON object with a version")
    version, image = variable["version"][:MAX_TEXT], str(variable.get("image") or "")[:MAX_TEXT]
    if state and state.version == version and state.status in (Status.SUCCEEDED, Status.DEPLOYING):
        return ReleaseDue()
    return ReleaseDue(version=version, image=image)


def readiness_of(known: Readiness | None, unreadable: str, due: ReleaseDue, now: float) -> ReadinessNow:
    """Whether the last verdict would let out what is due; where nothing is due, whether it counts at all. The image is
    compared when the deployment begins: nobody asks the registry for a page.
    """
    if unreadable:
        return ReadinessNow(known=None, counts=False, problem=unreadable)
    version, digest = (due.version or known.version, known.digest) if known else (due.version, "")
    why = problem(known, version, digest, now)
    return ReadinessNow(known=clean(known) if known else None, counts=not why, problem=redacted(why))
