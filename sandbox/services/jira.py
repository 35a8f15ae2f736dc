"""Jira as the recorder plays it, of both kinds, Data Center and cloud, each without the other's search."""

from __future__ import annotations

import re
from typing import Any

Json = dict[str, Any]
Said = tuple[int, Json | None]
KINDS = ("Task", "Incident", "Bug")
"""Of tickets, in every project."""
MOVED = "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API."
SERVERS_SEARCH = re.compile(r"/rest/api/(2|latest)/search")
CLOUDS_SEARCH = re.compile(r"/rest/api/(2|3|latest)/search/jql")
CLOUDS_FORMER_SEARCH = re.compile(r"/rest/api/(2|3|latest)/search")
ISSUES = re.compile(r"/rest/api/(2|3|latest)/issue")
ISSUE = re.compile(r"/rest/api/(2|3|latest)/issue/([A-Z]+-\d+)")
CREATEMETA = re.compile(r"/rest/api/(2|3|latest)/issue/createmeta/([^/]+)/issuetypes")


class Jira:
    """Tickets are found by their labels and numbered one after the other."""

    def __init__(self, *, cloud: bool) -> None:
        self._cloud = cloud
        self._issues: dict[str, Json] = {}
        self._number = 0

    def answer(self, method: str, path: str, body: Any, query: dict[str, str]) -> Said:
        """Status and body."""
        given = body if isinstance(body, dict) else {}
        if not self._cloud and "/rest/api/3/" in path:
            return 404, None
        if path.endswith("/serverInfo"):
            return 200, {"deploymentType": "Cloud" if self._cloud else "Server", "version": "10.3.0"}
        if found := CREATEMETA.fullmatch(path):
            return 200, {"issueTypes" if self._cloud else "values": [{"name": kind} for kind in KINDS]}
        if (CLOUDS_SEARCH if self._cloud else SERVERS_SEARCH).fullmatch(path) and method in ("GET", "POST"):
            return self._search(str((given if method == "POST" else query).get("jql", "")))
        if self._cloud and CLOUDS_FORMER_SEARCH.fullmatch(path):
            return 410, _wrong(MOVED)
        if (found := ISSUES.fullmatch(path)) and method == "POST":
            return self._open(given.get("fields") or {}, documents=found[1] == "3")
        if found := ISSUE.fullmatch(path):
            return self._touch(method, found[2], given.get("update") or {})
        return (200, {}) if method == "GET" else (404, None)

    def _search(self, jql: str) -> Said:
        found = [one for one in self._issues.values() if any(f'"{label}"' in jql for label in one["labels"])]
        issues = [{"id": one["id"], "key": one["key"]} for one in reversed(found)]
        if self._cloud and not jql:
            return 400, _wrong("Unbounded JQL queries are not allowed here.")
        return 200, {"issues": issues} | ({"isLast": True} if self._cloud else {"total": len(issues)})

    def _open(self, fields: Json, *, documents: bool) -> Said:
        kind, text = (fields.get("issuetype") or {}).get("name"), fields.get("description")
        wrong: Json = {}
        if not fields.get("summary"):
            wrong["summary"] = "You must specify a summary of the issue."
        if kind not in KINDS:
            wrong["issuetype"] = "The issue type selected is invalid."
        if text is not None and isinstance(text, dict) is not documents:
            wrong["description"] = (
                "Operation value must be an Atlassian Document" if documents else "Operation value must be a string"
            )
        if wrong:
            return 400, _wrong(**wrong)
        self._number += 1
        key, number = f"{fields.get('project', {}).get('key', 'PMS')}-{self._number}", str(10_000 + self._number)
        self._issues[key] = {"id": number, "key": key, "labels": list(fields.get("labels") or ())}
        return 201, {"id": number, "key": key, "self": f"/rest/api/2/issue/{number}"}

    def _touch(self, method: str, key: str, update: Json) -> Said:
        if key not in self._issues:
            return 404, _wrong("Issue does not exist or you do not have permission to see it.")
        issue = self._issues[key]
        if method == "GET":
            return 200, {**issue, "fields": {"labels": issue["labels"]}}
        if method == "DELETE":
            del self._issues[key]
        for change in update.get("labels") or ():
            issue["labels"] = [one for one in issue["labels"] if one != change.get("remove")]
            issue["labels"] += [change["add"]] if "add" in change else []
        return 204, None


def _wrong(*messages: str, **errors: str) -> Json:
    return {"errorMessages": list(messages), "errors": errors}
