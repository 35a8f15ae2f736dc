"""A plan without a ticket system: nobody fails for it, and the reason is said."""

from __future__ import annotations

import pytest
import yaml

from handover.people.tickets import key_or_reason, open_once
from handover.plan.load import load_plan
from handover.plan.parts import LeftOut
from handover.ports.channel import NewTicket
from tests.support.plans import without

WANTED = NewTicket(label="a-label", kind="Task", summary="s", description="d", due="2026-01-01")


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(without("messages.ticket")))
    return load_plan(tmp_path / "web.yaml")


def test_who_must_not_be_held_up_is_told_why_there_is_none(plan):
    assert key_or_reason(plan, WANTED) == "none (left out: the plan has no messages.ticket_connection)"


def test_who_needs_one_is_refused_by_name(plan):
    with pytest.raises(LeftOut, match=r"messages\.ticket_connection"):
        open_once(plan, WANTED)
