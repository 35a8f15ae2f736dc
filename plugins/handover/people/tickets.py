"""Tickets that are opened once: each bears a label made of what it is for, and is looked for before it is opened."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from handover.adapters.http import call

if TYPE_CHECKING:
    from handover.plan.model import Plan

POST_MORTEM = "post-mortem"


def label(purpose: str, deployment: str) -> str:
    """The label of the one ticket of this purpose and deployment. A run id holds characters that no label may."""
    return f"pms-{purpose}-{hashlib.sha256(deployment.encode()).hexdigest()[:16]}"


def open_once(plan: Plan, mark: str, summary: str, description: str, due: str) -> tuple[str, bool]:
    """The key of the ticket with the label ``mark``, and whether it was opened now.

    Raises `requests.RequestException`, or `KeyError` for an answer without a key; asking again is safe.

    :param due: YYYY-MM-DD
    """
    assert plan.followups is not None
    m = plan.messages
    wanted = {"jql": f'project = "{m.ticket_project}" AND labels = "{mark}"', "fields": ["key"], "maxResults": 1}
    found = call(
        m.ticket_connection, "POST", plan.followups.ticket_search_path, json=wanted, timeout=m.timeout_seconds
    ).json()
    if found["issues"]:
        return str(found["issues"][0]["key"]), False
    fields = {
        "project": {"key": m.ticket_project}, "issuetype": {"name": "Task"}, "summary": summary,
        "description": description, "duedate": due, "labels": [mark],
    }  # fmt: skip
    opened = call(m.ticket_connection, "POST", m.ticket_path, json={"fields": fields}, timeout=m.timeout_seconds)
    return str(opened.json()["key"]), True
