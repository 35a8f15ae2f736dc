"""What a person said to a follow-up question, as a decision for the record. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from handover.models.record import Decision

YES, NO, NOT_ANSWERED = "Yes", "No", "Not answered"
"""The last one is chosen for whoever does not answer in time: silence is never a yes."""


def decision(
    question: str, title: str, allowed: Collection[str], fields: Mapping[str, str], answer: Mapping[str, Any], at: float
) -> Decision:
    """The answer of a role.

    :param title: of the role that was asked
    :param allowed: user names that hold it; an answer of anybody else counts as none
    :param fields: free-text fields of the question, name to title
    :param answer: as Airflow gives it; ``responded_by_user`` is None when nobody answered in time
    """
    by = answer.get("responded_by_user")
    if not by:
        return Decision(at=at, question=question, choice=NOT_ANSWERED, who="nobody", why=f"asked as {title}")
    if by["name"] not in allowed:
        why = f"answered by {by['name']}, who is not {title}"
        return Decision(at=at, question=question, choice=NOT_ANSWERED, who=by["name"], why=why)
    said = answer.get("params_input") or {}
    told = [f"{fields[name]} {text}" for name in fields if (text := str(said.get(name) or "").strip())]
    choice = ", ".join(answer.get("chosen_options") or ()) or NOT_ANSWERED
    return Decision(at=at, question=question, choice=choice, who=by["name"], why="; ".join(told) or f"asked as {title}")
