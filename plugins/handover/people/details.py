"""What stands on the page of a question: everything that its answer rests on. Pure; Markdown."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from handover.models.deployment import DeploymentState
    from handover.plan.people import Role

MAX_KNOWN, MAX_LINE = 40, 300
"""Lines of evidence, and characters of each: it is read before an answer, not after."""


def details(
    about: str, roles: Sequence[Role], until: float, silence: str, *, means: Mapping[str, str] | None = None,
    items: Sequence[str] = (), known: Sequence[str] = (),
) -> str:  # fmt: skip
    """The body of a question.

    :param about: what it is about, a version above all
    :param roles: who may answer, whose turn it is first
    :param until: when it runs out, seconds since the epoch
    :param silence: what no answer means
    :param means: option to what follows from it
    :param items: what is confirmed with it
    :param known: the evidence until now, a line each
    """
    deadline = datetime.datetime.fromtimestamp(until, datetime.UTC)
    who = " or ".join(f"{role.title} ({', '.join(role.users)})" for role in roles)
    parts = [
        f"**{about}**", f"**Who may answer:** {who}",
        f"**Until:** {deadline:%A %Y-%m-%d %H:%M:%S} UTC; no answer is *{silence}*",
        *(f"**{option}:** {text}" for option, text in (means or {}).items()),
    ]  # fmt: skip
    if items:
        parts.append("\n".join(f"- {item}" for item in items))
    if known:
        more = [f"- and {len(known) - MAX_KNOWN} more"] if len(known) > MAX_KNOWN else []
        parts.append("\n".join(["**Known so far:**", "", *(f"- {_cut(line)}" for line in known[:MAX_KNOWN]), *more]))
    return "\n\n".join(parts)


def of_deployment(title: str, state: DeploymentState) -> str:
    """What a question about a deployment is about."""
    return f"{title} {state.version}, after {state.previous_version}: {state.deployment}"


def taking_back(state: DeploymentState) -> str:
    """What follows from an answer that takes the version back."""
    if state.met:
        return f"traffic goes back to {state.previous_version} on {state.stable} at once, and everything else after it."
    if state.moved:
        return f"the database goes back to {state.previous_version}, which goes on serving."
    return f"{state.version} is stopped; nothing has moved, {state.previous_version} goes on serving."


def _cut(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= MAX_LINE else f"{line[: MAX_LINE - 1]}…"
