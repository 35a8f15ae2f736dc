"""What only people know: from the answer of a role to one verdict per line. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from handover.models.evidence import Evidence, failed, passed, unknown
from handover.readiness.checklist import Line

YES, NO, NOT_KNOWN = "yes", "no", "not known"
ANSWERS = [NOT_KNOWN, YES, NO]
"""What may be said of each line. The first one is filled in already, so that nothing passes by a careless click."""
COMMENT = "comment"


def verdicts(
    lines: Sequence[Line], title: str, allowed: Collection[str], answer: Mapping[str, Any], seconds: float
) -> dict[str, Evidence]:
    """Line id to verdict.

    :param title: of the role that was asked
    :param allowed: user names that hold it; an answer of anybody else counts as none
    :param answer: as Airflow gives it: ``params_input`` and ``responded_by_user`` (None when nobody answered in time)
    :param seconds: how long the answer was waited for
    """
    by, said = answer.get("responded_by_user"), answer.get("params_input") or {}
    if not by:
        return {line.id: unknown(line.id, f"{title} did not answer within {seconds / 3600:.3g} h") for line in lines}
    if by["name"] not in allowed:
        text = f"answered by {by['name']}, who is not {title}"
        return {line.id: unknown(line.id, text) for line in lines}
    comment = str(said.get(COMMENT) or "").strip()
    behind = f"{by['name']} ({title})" + (f": {comment[:300]}" if comment else "")
    return {line.id: _verdict(line.id, said.get(line.id), behind) for line in lines}


def _verdict(check: str, said: object, behind: str) -> Evidence:
    if said == YES:
        return passed(check, f"confirmed by {behind}")
    return failed(check, f"denied by {behind}") if said == NO else unknown(check, f"not known to {behind}")
