"""Tickets in Jira, in the cloud or on a server: each bears a label, and is looked for by it before it is opened.

Nobody can ask Jira to open a ticket only if there is none, and its search, in the cloud above all, learns of a new
ticket only after a while. So whoever has opened one looks again until the search knows it; of several with one label
the oldest is the ticket, for everybody alike, and whoever opened a younger one withdraws it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from handover.adapters.refusals import asked, named
from handover.models.markup import jira
from handover.plan.parts import required
from handover.ports.channel import ServiceRefused

if TYPE_CHECKING:
    from handover.plan.model import Plan
    from handover.ports.channel import NewTicket

log = logging.getLogger(__name__)
SERVER, CLOUD = "/rest/api/2/search", "/rest/api/3/search/jql"
"""Each kind answers 404 or 410 on the other's path; both take the same question."""
GONE = (404, 410)
PAGE, MAX_PAGES = 50, 10
"""The cloud gives pages that are empty though there is one behind them."""
PAUSES_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Between two looks for a ticket that was opened; the cloud's search needs seconds."""


class Jira:
    """One project, through an Airflow connection. Raises `LeftOut` for a plan that names none."""

    def __init__(self, plan: Plan) -> None:
        m = plan.messages
        self._connection, self._timeout, self._project, self._path = (
            required(m.ticket_connection, "messages.ticket_connection"), m.timeout_seconds, m.ticket_project,
            required(m.ticket_path, "messages.ticket_path"),
        )  # fmt: skip
        self._root = self._path.partition("/rest/")[0]
        self._search = plan.followups.ticket_search_path if plan.followups else f"{self._root}{SERVER}"

    def open_once(self, wanted: NewTicket) -> tuple[str, bool]:
        """Raises also `requests.RequestException`."""
        if known := self._find(wanted.label):
            return known[0], False
        mine = self._open(wanted)
        first = self._settled(wanted.label, mine)
        if first != mine:
            self._withdraw(mine, first, wanted.label)
        return first, first == mine

    def _open(self, wanted: NewTicket) -> str:
        fields = {
            "project": {"key": self._project}, "issuetype": {"name": wanted.kind}, "summary": wanted.summary,
            "description": self._text(wanted.description), "duedate": wanted.due, "labels": [wanted.label],
        }  # fmt: skip
        try:
            return _key(self._ask("POST", self._path, {"fields": fields}))
        except ServiceRefused as error:
            if error.status == 400 and "issuetype" in str(error) and (kinds := self._kinds()):
                there = (
                    f"{error} The project {self._project} has: {', '.join(kinds)}. Say which in "
                    "messages.ticket_incident_type and messages.ticket_task_type."
                )
                raise ServiceRefused(there, error.status) from None
            raise

    def _settled(self, label: str, mine: str) -> str:
        """The ticket with this label, once the search knows the one that was opened last; that one, if it is never
        told of or the search does not answer.
        """
        found: list[str] = []
        for pause in (0.0, *PAUSES_SECONDS):
            asyncio.run(asyncio.sleep(pause))
            try:
                found = self._find(label)
            except Exception as error:  # the ticket is there, whatever is the matter with the search
                log.warning("%s was opened, and cannot be looked for: %s", mine, type(error).__name__)
                return mine
            if mine in found:
                return found[0]
        log.warning("%s was opened, and the search does not know it yet", mine)
        return min((mine, *found), key=_number)

    def _withdraw(self, mine: str, first: str, label: str) -> None:
        """As well as it can be; people are told of the first one in any case."""
        log.warning("%s was opened at the same time as %s, and is withdrawn", mine, first)
        try:
            self._delete_or_mark(mine, first, label)
        except Exception as error:
            log.warning("%s is still there: %s", mine, type(error).__name__)

    def _delete_or_mark(self, mine: str, first: str, label: str) -> None:
        """Where we may not delete it, its label goes, and it says whose double it is."""
        where = f"{self._path}/{mine}"
        said = {"comment": [{"add": {"body": self._text(f"Opened at the same time as {first}, which goes on.")}}]}
        try:
            self._ask("DELETE", where)
        except ServiceRefused:
            labels = [{"remove": label}, {"add": f"{label}-double"}]
            self._ask("PUT", where, {"update": {"labels": labels, **said}})

    def _find(self, label: str) -> list[str]:
        """Keys, the oldest first."""
        jql = f'project = "{self._project}" AND labels = "{label}"'
        question = {"jql": jql, "fields": ["key"], "maxResults": PAGE}
        found: list[str] = []
        for _ in range(MAX_PAGES):
            page = self._look(question)
            found += [_key(one) for one in _list(page, "issues")]
            if found or not (token := page.get("nextPageToken")):
                break
            question = {**question, "nextPageToken": token}
        return sorted(found, key=_number)

    def _look(self, question: dict[str, Any]) -> Any:
        try:
            return self._ask("POST", self._search, question)
        except ServiceRefused as error:
            if error.status not in GONE:
                raise
        self._search = self._root + (SERVER if self._search.endswith(CLOUD) else CLOUD)
        return self._ask("POST", self._search, question)

    def _kinds(self) -> list[str]:
        """Of tickets in the project, as far as it tells."""
        try:
            body = self._ask("GET", f"{self._path}/createmeta/{self._project}/issuetypes")
            return [str(one["name"]) for key in ("issueTypes", "values") for one in body.get(key) or ()]
        except (ServiceRefused, AttributeError, KeyError, TypeError):
            return []

    def _text(self, text: str) -> Any:
        """The third version of the API takes documents, where the second takes text in its own markup."""
        return document(text) if "/rest/api/3/" in f"{self._path}/" else jira(text)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        return asked(self._connection, method, path, json=body, timeout=self._timeout)


def document(text: str) -> dict[str, Any]:
    """A text in the Atlassian Document Format, a paragraph for each line."""
    lines: Iterator[list[dict[str, str]]] = (
        [{"type": "text", "text": line}] if line else [] for line in text.splitlines()
    )
    return {"type": "doc", "version": 1, "content": [{"type": "paragraph", "content": line} for line in lines]}


def _key(body: Any) -> str:
    if not isinstance(body, dict) or not body.get("key"):
        raise ServiceRefused("the answer is none of Jira's: it has no key")
    return named(body["key"], "a ticket")


def _list(body: Any, name: str) -> list[Any]:
    if not isinstance(body, dict) or not isinstance(body.get(name), list):
        raise ServiceRefused(f"the answer is none of Jira's: it has no {name}")
    return list(body[name])


def _number(key: str) -> tuple[int, str]:
    """Keys of one project count up."""
    number = key.rpartition("-")[2]
    return (int(number) if number.isdecimal() else 0, key)
