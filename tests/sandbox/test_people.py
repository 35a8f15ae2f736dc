"""Whoever the plan may ask can sign in to the stand-in."""

from __future__ import annotations

from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from sandbox.settings import ROLES


def test_every_user_of_the_plan_is_a_user_of_the_stand_in():
    team = load_plan(INCLUDE / "plans" / "pms.yaml").team
    assert {user for role in team.values() for user in role.users} <= set(ROLES)
