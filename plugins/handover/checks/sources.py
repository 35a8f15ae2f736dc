"""Where checks and the watch get measurements that neither pods nor database give: the error tracker."""

from __future__ import annotations

import asyncio
import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from handover.adapters.json_service import JsonService, Missing, Said
from handover.models.evidence import Measurement
from handover.models.names import ERROR_TRACKER, NEW_ERRORS
from handover.plan.parts import required
from handover.ports.metrics import NoAnswer, NoData

if TYPE_CHECKING:
    from collections.abc import Iterator

    from handover.plan.model import Plan

TIMEOUT_SECONDS = 5.0
"""For each request, and twice that for all of a look."""
MAX_PAGES = 10
"""So many issues are above any limit."""
CLOCKS_DIFFER = datetime.timedelta(hours=1)
"""An issue that much older than the release was not first seen in it, whatever the tracker understands by our query."""


CONNECTION = "health.error_tracker_connection"


class ErrorTrackerSource:
    """Counts the unresolved issues that were first seen in one release, in an error tracker with Sentry's API (plan 2.3
    and 5.1). Issues of before that also fire in it are not its fault. A release that the tracker does not know is no
    data: nothing would ever be seen in it.
    """

    name = ERROR_TRACKER

    def __init__(self, plan: Plan, version: str) -> None:
        self._service = JsonService(required(plan.health.error_tracker_connection, CONNECTION), seconds=TIMEOUT_SECONDS)
        self._health, self._version = plan.health, version
        self._known: dict[str, Any] | None = None

    async def measure(self) -> list[Measurement]:
        """One look. Raises `NoAnswer`."""
        try:
            release = self._health.release_of(self._version)
            async with asyncio.timeout(2 * TIMEOUT_SECONDS):
                if self._known is None:
                    self._known = await self._ask_release(release)
                count = await self._count(release, _moment(self._known.get("dateCreated")))
        except TimeoutError:
            raise NoAnswer(f"{self._service.connection}: not all within {2 * TIMEOUT_SECONDS:g} s") from None
        except (NoData, ValueError) as error:
            raise NoAnswer(str(error)) from None
        return [Measurement(what=NEW_ERRORS, value=count, source=f"{self.name} {self._service.connection} {release}")]

    async def close(self) -> None:
        await self._service.close()

    async def _ask_release(self, release: str) -> dict[str, Any]:
        path = self._health.release_path.replace("{release}", quote(release, safe=""))
        try:
            known = (await self._service.ask(path)).body
        except Missing:
            raise NoData(f"{self._service.connection}: the error tracker knows no release {release}") from None
        if not isinstance(known, dict):
            raise NoData(f"{self._service.connection}: the error tracker answered with something else than a release")
        return known

    async def _count(self, release: str, created: datetime.datetime | None) -> int:
        path, _, given = (self._health.error_tracker_path or "").partition("?")
        asked = dict(parse_qsl(given)) | {"query": f'is:unresolved first-release:"{release}"'}
        count, cursors = 0, set[str]()
        while True:
            page = await self._service.ask(path, asked)
            count += sum(1 for issue in self._issues(page) if not _is_older(issue, created))
            cursor = _cursor(page)
            if cursor is None or len(cursors) + 1 >= MAX_PAGES:
                return count
            if cursor in cursors or not cursor:
                raise NoData(f"{self._service.connection}: the error tracker's pages have no end")
            cursors.add(cursor)
            asked["cursor"] = cursor

    def _issues(self, page: Said) -> Iterator[dict[str, Any]]:
        if not isinstance(page.body, list) or not all(isinstance(issue, dict) for issue in page.body):
            text = "the error tracker answered with something else than a list of issues"
            raise NoData(f"{self._service.connection}: {text}")
        return iter(page.body)


def _cursor(page: Said) -> str | None:
    """Of the next page; Sentry always names one, and says whether there is anything on it."""
    if not page.further or page.further.get("results", "true") != "true":
        return None
    return page.further.get("cursor") or dict(parse_qsl(urlsplit(page.further.get("url", "")).query)).get("cursor", "")


def _is_older(issue: dict[str, Any], created: datetime.datetime | None) -> bool:
    seen = _moment(issue.get("firstSeen"))
    return seen is not None and created is not None and seen < created - CLOCKS_DIFFER


def _moment(text: object) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return found.replace(tzinfo=datetime.UTC) if found and found.tzinfo is None else found
