"""Where people meet: Slack channels, the status page, and who is on call in the deployment window."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from handover.models.evidence import Evidence, failed, passed, unknown
from handover.plan import window
from handover.plan.parts import ConnectionId, Items, UrlPath, required
from handover.readiness import web
from handover.readiness.check import TIMEOUT_SECONDS, CheckKind, NoAnswer, Scope

MAX_PAGES = 50
Span = tuple[datetime.datetime, datetime.datetime]


class SlackChannels(CheckKind):
    """The channels exist, are not archived, and our app may write there."""

    kind: Literal["slack_channels"]
    connection: ConnectionId
    channels: Items

    def look(self, scope: Scope) -> Evidence:
        found = {f"#{one['name']}": one for one in self._channels()}
        wrong = []
        for name in self.channels:
            if name not in found:
                wrong.append(f"{name} does not exist")
            elif found[name].get("is_archived"):
                wrong.append(f"{name} is archived")
            elif not found[name].get("is_member"):
                wrong.append(f"the deployer's app is not in {name}")
        return failed(self.kind, "; ".join(wrong)) if wrong else passed(self.kind, f"there: {', '.join(self.channels)}")

    def _channels(self) -> Iterator[Mapping[str, Any]]:
        from slack_sdk.errors import SlackApiError

        from handover.adapters.slack import hook_of

        hook = hook_of(self.connection, int(TIMEOUT_SECONDS))
        cursor = ""
        for _ in range(MAX_PAGES):
            params = {"types": "public_channel,private_channel", "limit": 1000, "cursor": cursor}
            try:
                answer = hook.call("conversations.list", params=params)
            except SlackApiError as error:
                status = getattr(error.response, "status_code", 0)
                raise NoAnswer(f"Slack: {_why(error, status)}") from None
            yield from answer["channels"]
            cursor = (answer.get("response_metadata") or {}).get("next_cursor") or ""
            if not cursor:
                return
        raise NoAnswer("Slack: more channels than can be read")


def _why(error: Any, status: int) -> str:
    if status == 429:
        return f"rate limit reached, try again in {error.response.headers.get('Retry-After', 'a few')} s"
    answer = error.response.data if isinstance(getattr(error.response, "data", None), dict) else {}
    return str(answer.get("error") or f"status {status}")


class StatusPageIsOurs(CheckKind):
    """The status page takes our key, and is the plan's."""

    kind: Literal["status_page"]
    connection: ConnectionId
    path: UrlPath

    def look(self, scope: Scope) -> Evidence:
        try:
            page = web.get(self.connection, self.path)
        except web.Missing as missing:
            return failed(self.kind, str(missing))
        url = required(scope.plan.messages.status_page_url, "messages.status_page_url").rstrip("/")
        if str(page["url"]).rstrip("/") != url:
            return failed(self.kind, f"the page's address is {page['url']}, the plan says {url}")
        return passed(self.kind, f"{page['name']} at {url}")


class OnCall(CheckKind):
    """Somebody is on call, without a gap, from the start of Phase 1 to the end of the window (PagerDuty)."""

    kind: Literal["on_call"]
    connection: ConnectionId
    schedule: str

    def look(self, scope: Scope) -> Evidence:
        from airflow.sdk import BaseHook

        start, end = next_window(scope)
        key = BaseHook.get_connection(self.connection).password or ""
        answer = web.get(
            self.connection, "/oncalls",
            {"schedule_ids[]": self.schedule, "since": start.isoformat(), "until": end.isoformat(), "limit": web.PAGE},
            headers={"Authorization": f"Token token={key}"}, bearer=False,
        )  # fmt: skip
        if answer.get("more"):
            return unknown(self.kind, "more entries than fit on a page")
        shifts = [(_time(one["start"], start), _time(one["end"], end)) for one in answer["oncalls"]]
        people = sorted({one["user"]["summary"] for one in answer["oncalls"]})
        if hole := gap(shifts, (start, end)):
            return failed(self.kind, f"nobody is on call from {hole:%A %Y-%m-%d %H:%M %Z} on")
        return passed(self.kind, f"{', '.join(people)} from {start:%A %H:%M} to {end:%H:%M %Z}")


def next_window(scope: Scope) -> Span:
    """From Phase 1 to the end of the next (or open) deployment window."""
    plan = scope.plan.window
    opens = window.opening(plan, datetime.datetime.fromtimestamp(scope.now, datetime.UTC))
    start = opens - datetime.timedelta(seconds=plan.prepare_seconds)
    return start, datetime.datetime.combine(opens.date(), plan.closes, opens.tzinfo)


def _time(text: str | None, always: datetime.datetime) -> datetime.datetime:
    """None: somebody who is always on call."""
    return datetime.datetime.fromisoformat(text) if text else always


def gap(shifts: Iterable[Span], wanted: Span) -> datetime.datetime | None:
    """The first moment of the span that no shift covers."""
    at = wanted[0]
    for start, end in sorted(shifts):
        if start > at:
            break
        at = max(at, end)
    return None if at >= wanted[1] else at
