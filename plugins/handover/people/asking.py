"""When people are told of a question that waits for them. Pure; times are seconds since it was asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handover.plan.model import Plan


@dataclass(frozen=True)
class Asked:
    """One question. ``silence``: what nobody answering within ``seconds`` means."""

    subject: str
    role: str
    seconds: float
    silence: str


@dataclass(frozen=True)
class Call:
    """A reminder. ``escalates``: from now on it is the turn of the role above."""

    after: float
    escalates: bool = False


def calls(plan: Plan, asked: Asked) -> tuple[Call, ...]:
    """Every reminder of a question, in order."""
    found = dict.fromkeys(plan.asking.reminders, False)
    if plan.asking.escalates_at is not None and len(plan.may_answer(asked.role)) > 1:
        found[plan.asking.escalates_at] = True
    return tuple(Call(share * asked.seconds, found[share]) for share in sorted(found))


def due(planned: Sequence[Call], done: int, elapsed: float) -> tuple[Call, int]:
    """What is to be said now, and how many are done then. Of several that were missed one is said, but never is an
    escalation lost.
    """
    missed = [call for call in planned[done:] if call.after <= elapsed] or [planned[done]]
    return Call(missed[-1].after, any(call.escalates for call in missed)), done + len(missed)


def without(plan: Plan, user: str) -> Plan:
    """The plan as a question is asked that this user may not answer: with no part in any role."""

    def others(users: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(one for one in users if one.casefold() != user.casefold())

    team = {name: role.model_copy(update={"users": others(role.users)}) for name, role in plan.team.items()}
    return plan.model_copy(update={"team": team})
