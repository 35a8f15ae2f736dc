"""Tickets in Jira, in the cloud or on a server: each bears a label, and is looked for by it before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from handover.adapters.refusals import call
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.channel import NewTicket

SERVER, CLOUD = "/rest/api/2/search", "/rest/api/3/search/jql"
"""Each kind answers 404 or 410 on the other's path; both take the same question."""
GONE = (404, 410)
MAX_PAGES = 10
"""The cloud gives pages that are empty though there is one behind them."""


class Jira:
    """One project, through an Airflow connection."""

    def __init__(self, plan: Plan) -> None:
        m = plan.messages
        self._connection, self._timeout, self._project, self._path = (
            m.ticket_connection, m.timeout_seconds, m.ticket_project, m.ticket_path,
        )  # fmt: skip
        self._root = m.ticket_path.partition("/rest/")[0]
        self._search = plan.followups.ticket_search_path if plan.followups else f"{self._root}{SERVER}"

    def open_once(self, wanted: NewTicket) -> tuple[str, bool]:
        """Raises also `requests.RequestException`, and `KeyError` for an answer that is none of Jira's."""
        if known := self._find(wanted.label):
            return known, False
        fields = {
            "project": {"key": self._project}, "issuetype": {"name": wanted.kind}, "summary": wanted.summary,
            "description": wanted.description, "duedate": wanted.due, "labels": [wanted.label],
        }  # fmt: skip
        return str(self._post(self._path, {"fields": fields})["key"]), True

    def _find(self, label: str) -> str | None:
        jql = f'project = "{self._project}" AND labels = "{label}"'
        asked = {"jql": jql, "fields": ["key"], "maxResults": 1}
        for _ in range(MAX_PAGES):
            page = self._look(asked)
            if page["issues"]:
                return str(page["issues"][0]["key"])
            if not (token := page.get("nextPageToken")):
                break
            asked = {**asked, "nextPageToken": token}
        return None

    def _look(self, asked: dict[str, Any]) -> Any:
        try:
            return self._post(self._search, asked)
        except ServiceRefused as error:
            if error.status not in GONE:
                raise
        self._search = self._root + (SERVER if self._search.endswith(CLOUD) else CLOUD)
        return self._post(self._search, asked)

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return call(self._connection, "POST", path, json=body, timeout=self._timeout).json()
