"""The status page (Statuspage's API): one maintenance for a release, one incident for a rollback, created once and then
updated.

Statuspage has two kinds, and neither takes the other's states: a maintenance goes from scheduled over in_progress to
completed, an incident from investigating to resolved. What belongs together is told by the metadata that we write.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handover.adapters.refusals import asked, named
from handover.plan.parts import required

if TYPE_CHECKING:
    from handover.models.message import Letter, PageUpdate
    from handover.plan.model import Plan

STAGES = {
    "scheduled": 0, "in_progress": 1, "verifying": 2, "completed": 3,
    "investigating": 0, "identified": 1, "monitoring": 2, "resolved": 3,
}  # fmt: skip
CLOSED = 3
MAINTENANCE = frozenset({"scheduled", "in_progress", "verifying", "completed"})
DURATION_SECONDS = 4 * 3600.0
"""Of a maintenance that nobody had announced (plan "Deployment Window": 2-4 hours)."""
PAGE = 100
"""Incidents that are looked at, newest first."""

Json = dict[str, Any]


@dataclass(frozen=True)
class PageChange:
    """One call. ``id``: of the incident to update; empty to create one."""

    id: str
    incident: Json


class StatusPage:
    """One page, through an Airflow connection."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def deliver(self, letter: Letter, *, look: bool) -> None:
        """Brings the page to what the letter says; running it again changes nothing, so it always looks. Raises also
        `requests.RequestException`.
        """
        path = self._path()
        for change in changes(self._plan, letter, self._listed()):
            method, where = ("PATCH", f"{path}/{change.id}") if change.id else ("POST", path)
            self._call(method, where, {"incident": change.incident})

    def _listed(self) -> list[Json]:
        found = self._call("GET", f"{self._path()}?limit={PAGE}")
        return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []

    def _path(self) -> str:
        return required(self._plan.messages.status_page_path, "messages.status_page_path")

    def _call(self, method: str, path: str, body: Json | None = None) -> Any:
        m = self._plan.messages
        connection = required(m.status_page_connection, "messages.status_page_connection")
        return asked(connection, method, path, json=body, timeout=m.timeout_seconds)


def changes(plan: Plan, letter: Letter, listed: Iterable[Json]) -> list[PageChange]:
    """What is to be created or updated, given every incident of the page. Pure.

    A state that the page has passed already is not shown any more: a message that comes late must not reopen what is
    closed. Whoever closes one closes the other kind, too.
    """
    assert letter.page is not None
    wanted, ours = letter.page, [one for one in listed if _tag(one).get("plan") == plan.name]
    mine = _mine(wanted, [one for one in ours if _same_kind(one, wanted.status)])
    found = _own(plan, letter, mine)
    if STAGES[wanted.status] == CLOSED:
        others = [one for one in ours if not _same_kind(one, wanted.status) and _of(wanted, one) and not _closed(one)]
        found += [PageChange(named(one.get("id"), "an incident"), _closing(one, letter)) for one in others]
    return found


def _closing(one: Json, letter: Letter) -> Json:
    tag = {**_tag(one), "at": letter.at, "key": letter.key}
    return {"status": _last(one), "body": letter.text, "metadata": {"pms": tag}}


def _own(plan: Plan, letter: Letter, mine: Json | None) -> list[PageChange]:
    wanted = letter.page
    assert wanted is not None
    tag = {
        "plan": plan.name, "version": wanted.version, "deployment": wanted.deployment, "opens": wanted.opens,
        "key": letter.key, "at": letter.at,
    }  # fmt: skip
    if mine is None or _over(mine, letter):
        return [
            PageChange("", {"name": _name(plan, wanted), **_said(letter), **_times(letter), "metadata": {"pms": tag}})
        ]
    if _tag(mine).get("key") == letter.key or _closed(mine) or STAGES[mine["status"]] > STAGES[wanted.status]:
        return []
    kept = {**tag, "opens": wanted.opens or _tag(mine).get("opens", 0)}
    return [PageChange(named(mine.get("id"), "an incident"), {**_said(letter), "metadata": {"pms": kept}})]


def _over(mine: Json, letter: Letter) -> bool:
    """Whether it was closed before this letter was written, which then begins another one."""
    assert letter.page is not None
    opening = STAGES[letter.page.status] < CLOSED
    return opening and _closed(mine) and _tag(mine).get("key") != letter.key and _tag(mine).get("at", 0) < letter.at


def _said(letter: Letter) -> Json:
    assert letter.page is not None
    return {"status": letter.page.status, "body": letter.text}


def _name(plan: Plan, wanted: PageUpdate) -> str:
    what = "deployment" if wanted.status in MAINTENANCE else "problem after the deployment"
    return f"{plan.title} {what} of {wanted.version}" if wanted.version else f"{plan.title} {what}"


def _times(letter: Letter) -> Json:
    """What makes an incident a maintenance."""
    wanted = letter.page
    assert wanted is not None
    if wanted.status not in MAINTENANCE:
        return {}
    opens = wanted.opens or letter.at
    return {"scheduled_for": _utc(opens), "scheduled_until": _utc(wanted.closes or opens + DURATION_SECONDS)}


def _mine(wanted: PageUpdate, ours: list[Json]) -> Json | None:
    """That of this deployment or announcement, an open one first; else the announced one that a deployment of this
    version takes over.
    """
    of_it = sorted((one for one in ours if _of(wanted, one)), key=_closed)
    known = of_it[0] if of_it else None
    if known or not wanted.deployment or wanted.status not in MAINTENANCE:
        return known
    waiting = (
        one for one in ours
        if not _tag(one).get("deployment") and _tag(one).get("version") == wanted.version and not _closed(one)
    )  # fmt: skip
    return next(waiting, None)


def _of(wanted: PageUpdate, one: Json) -> bool:
    tag = _tag(one)
    if wanted.deployment:
        return tag.get("deployment") == wanted.deployment
    return tag.get("version") == wanted.version and tag.get("opens") == wanted.opens


def _tag(one: Json) -> Json:
    found = (one.get("metadata") or {}).get("pms")
    return found if isinstance(found, dict) else {}


def _same_kind(one: Json, status: str) -> bool:
    return (one.get("status") in MAINTENANCE) == (status in MAINTENANCE)


def _closed(one: Json) -> bool:
    return STAGES.get(one.get("status", ""), CLOSED) == CLOSED


def _last(one: Json) -> str:
    return "completed" if one["status"] in MAINTENANCE else "resolved"


def _utc(at: float) -> str:
    return f"{datetime.datetime.fromtimestamp(at, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
