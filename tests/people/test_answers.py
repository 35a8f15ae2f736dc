"""What people say after a deployment: only the role's own yes is one."""

from __future__ import annotations

import pytest

from handover.people.answers import NOT_ANSWERED, decision

FIELDS = {"went_well": "What went well?", "issues": "Any issues?"}
LEAD = {"id": "7", "name": "lead"}


def said(**answer):
    return decision("Team debriefing held?", "Deployment Lead", ("lead",), FIELDS, answer, 5.0)


@pytest.mark.parametrize("choice", ["Yes", "No", NOT_ANSWERED])
def test_the_role_is_believed(choice):
    found = said(chosen_options=[choice], responded_by_user=LEAD, params_input={})
    assert (found.choice, found.who, found.why, found.at) == (choice, "lead", "asked as Deployment Lead", 5.0)


def test_what_was_written_is_kept_field_by_field():
    text = {"went_well": " the switch ", "issues": "", "unknown": "x"}
    found = said(chosen_options=["Yes"], responded_by_user=LEAD, params_input=text)
    assert found.why == "What went well? the switch"


def test_nobody_in_time_is_no_answer_whatever_was_chosen_for_them():
    found = said(chosen_options=["Yes"], responded_by_user=None, params_input={})
    assert (found.choice, found.who) == (NOT_ANSWERED, "nobody")


def test_a_yes_of_somebody_else_is_no_answer():
    found = said(chosen_options=["Yes"], responded_by_user={"id": "8", "name": "guest"}, params_input=None)
    assert found.choice == NOT_ANSWERED and "guest, who is not Deployment Lead" in found.why


def test_an_empty_answer_is_none():
    assert said(chosen_options=[], responded_by_user=LEAD, params_input={}).choice == NOT_ANSWERED
