"""Whether the preview address shows what its Service was pointed at, whatever lies before that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handover.outside import outside
from handover.traffic.reach import ALONE, BadAnswers, Reach

if TYPE_CHECKING:
    from handover.coordination.routing import Check
    from handover.plan.model import Plan

UNKNOWN = "who answers at its address was not looked at: {}"


async def shown(plan: Plan, colour: str, version: str, meanwhile: Check) -> str:
    """Waits until the preview address has answered from that version alone, for ``traffic.public_timeout_seconds`` at
    most, and says how that is known. Raises `NotReady`, and what ``meanwhile`` raises.

    Bad answers are said and decide nothing: the tests behind it judge the version.
    """
    if plan.traffic.origin is None:
        return UNKNOWN.format("the plan has no traffic.origin")
    if not (wanted := plan.said_by(colour, version)):
        return UNKNOWN.format(f"nobody knows the version on {colour}")
    async with outside().public(plan.traffic.preview_connection) as address:
        try:
            met = await Reach(plan, address, wanted, meanwhile).until(ALONE, plan.traffic.public_timeout_seconds)
        except BadAnswers as error:
            return f"at its address: {error}"
    return f"its address answers from {wanted} after {met.first:.1f} s"
