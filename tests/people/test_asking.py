"""When people are told of a question that waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from handover.people import messages
from handover.people.asking import Asked, Call, calls, due
from handover.plan.load import PlanError
from tests.support.cluster import plan_with

LEAD = Asked("Ready?", "lead", 100, "Rollback")
PLANNED = (Call(50), Call(60, escalates=True), Call(80))


@pytest.mark.plan("Deployment Lead | Coordinates entire deployment", "QA/Monitoring | Real-time monitoring")
def test_reminders_and_the_escalation_come_at_their_shares_of_the_time(tmp_path: Path):
    plan = plan_with(tmp_path, asking={"reminders": [0.5, 0.8], "escalates_at": 0.6})
    assert calls(plan, LEAD) == PLANNED


def test_a_role_with_nobody_above_is_only_reminded(tmp_path: Path):
    plan = plan_with(tmp_path, asking={"reminders": [0.5], "escalates_at": 0.6})
    assert calls(plan, Asked("Ready?", "cto", 100, "Rollback")) == (Call(50),)
    assert [role.title for role in plan.may_answer("cto")] == ["CTO"]


def test_at_the_same_moment_the_escalation_says_it_all(tmp_path: Path):
    plan = plan_with(tmp_path, asking={"reminders": [0.6], "escalates_at": 0.6})
    assert calls(plan, LEAD) == (Call(60, escalates=True),)


def test_without_a_moment_to_escalate_only_the_role_may_answer(tmp_path: Path):
    plan = plan_with(tmp_path, asking={"escalates_at": None, "reminders": []})
    assert calls(plan, LEAD) == ()
    assert [role.title for role in plan.may_answer("lead")] == ["Deployment Lead"]


@pytest.mark.parametrize(("done", "elapsed", "said", "then"), [
    (0, 50, Call(50), 1),
    (0, 49.9, Call(50), 1),  # two clocks may differ a little
    (1, 61, Call(60, escalates=True), 2),
    (2, 1000, Call(80), 3),
    (0, 90, Call(80, escalates=True), 3),  # nobody was there to say the first two
    (1, 90, Call(80, escalates=True), 3),
])  # fmt: skip
def test_of_what_was_missed_one_is_said_and_no_escalation_is_lost(done, elapsed, said, then):
    assert due(PLANNED, done, elapsed) == (said, then)


@pytest.mark.parametrize(("asking", "reason"), [
    ({"reminders": [0.8, 0.5]}, "reminders must be in order"),
    ({"reminders": [0.5, 0.5]}, "reminders must be in order"),
    ({"reminders": [1]}, "asking.reminders.0: Input should be less than 1"),
    ({"escalates_at": 0}, "asking.escalates_at: Input should be greater than 0"),
])  # fmt: skip
def test_shares_that_make_no_sense_are_refused(tmp_path, asking, reason):
    with pytest.raises(PlanError, match=reason):
        plan_with(tmp_path, asking=asking)


def test_a_role_above_itself_is_refused(tmp_path):
    with pytest.raises(PlanError, match=r"team\.lead\.escalates_to: a role cannot be above itself"):
        plan_with(tmp_path, team={"lead": {"escalates_to": "lead"}})


def test_the_messages_say_whose_turn_it_is_and_what_silence_means(tmp_path):
    plan = plan_with(tmp_path)
    asked = Asked("1.3 Team briefing: ready to deploy?", "lead", 3600, "Rollback")
    assert messages.asked(plan, asked, "LINK").slack == (
        "Deployment Lead (lead): 1.3 Team briefing: ready to deploy?\n"
        "Answer within 60 minutes, else the answer is Rollback: LINK"
    )
    assert messages.reminded(plan, asked, "LINK", 1800, above_too=False).slack == (
        "Deployment Lead (lead): 1.3 Team briefing: ready to deploy? Nobody has answered yet.\n"
        "Answer within 30 minutes, else the answer is Rollback: LINK"
    )
    assert messages.reminded(plan, asked, "LINK", 720, above_too=True).slack.startswith(
        "Deployment Lead (lead) or CTO (cto): 1.3"
    )
    assert messages.escalated(plan, asked, "LINK", 2160, 1440).slack == (
        "@here CTO (cto), it is your turn: 1.3 Team briefing: ready to deploy? Deployment Lead (lead) has not answered "
        "for 36 minutes, and may still do so.\nAnswer within 24 minutes, else the answer is Rollback: LINK"
    )
