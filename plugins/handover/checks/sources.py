"""Where checks and the watch get measurements that neither pods nor database give: the error tracker."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handover.checks.client import endpoint, session
from handover.models.evidence import Measurement
from handover.models.names import NEW_ERRORS

if TYPE_CHECKING:
    from handover.checks.client import Endpoint
    from handover.plan.model import Plan

TIMEOUT_SECONDS = 5.0


class TrackerSilent(RuntimeError):
    """The error tracker gave no list of issues."""


class ErrorTrackerSource:
    """Counts the unresolved issues of one release in an error tracker with Sentry's API (plan 2.3 and 5.1)."""

    name = "error_tracker"

    def __init__(self, plan: Plan, version: str) -> None:
        self._connection, self._path = plan.health.error_tracker_connection, plan.health.error_tracker_path
        self._version = version
        self._tracker: Endpoint | None = None

    async def measure(self) -> list[Measurement]:
        """One look. Raises `TrackerSilent`, or `aiohttp.ClientError` and `TimeoutError`."""
        if self._tracker is None:
            self._tracker = await endpoint(self._connection)
        tracker = self._tracker
        headers = {"Authorization": f"Bearer {tracker.password}"} if tracker.password else {}
        query = {"query": f"is:unresolved release:{self._version}"}
        async with (
            session(timeout=TIMEOUT_SECONDS) as http,
            http.get(f"{tracker.url}{self._path}", params=query, headers=headers) as answer,
        ):
            if answer.status != 200:
                raise TrackerSilent(f"the error tracker answered {answer.status}")
            issues = await answer.json(content_type=None)
        if not isinstance(issues, list):
            raise TrackerSilent("the error tracker answered with something else than a list of issues")
        return [Measurement(what=NEW_ERRORS, value=len(issues), source=f"{self.name} {self._connection}")]

    async def close(self) -> None:
        """Nothing is held between two looks."""
