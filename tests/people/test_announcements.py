"""What is said before a release: to whom, through which channel, and with the window in the plan's time zone."""

from __future__ import annotations

import datetime

import pytest

from handover.models.message import Announced
from handover.people import announcements as wording
from handover.people.channels import letters
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
OPENS = datetime.datetime(2026, 12, 1, 14, tzinfo=datetime.UTC).timestamp()
RELEASE = Announced(version="v1.1.0", opens=OPENS, closes=OPENS + 4 * 3600)
WINDOW = "Tuesday 2026-12-01 14:00-18:00 UTC"
PEOPLE = {"stakeholders@pms.example.com", "users@pms.example.com"}


@pytest.mark.plan(
    "Email to stakeholders: Deployment scheduled",
    "Email to users: Maintenance window planned",
    "Status page: Update with deployment information",
    "Slack announcement: Deployment starting (T-15 min)",
)
@pytest.mark.parametrize(
    ("message", "kinds", "to"),
    [
        (wording.deployment_scheduled, ["e-mail"], {"stakeholders@pms.example.com"}),
        (wording.maintenance_planned, ["e-mail"], {"users@pms.example.com"}),
        (wording.status_scheduled, ["status page"], set()),
        (wording.reminder, ["slack"], {"#pms-deployments"}),
        (wording.starting, ["slack"], {"#pms-deployments"}),
        (
            lambda plan, release: wording.cancelled(plan, release, "not ready"), ["slack", "status page", "e-mail"],
            {"#pms-deployments", *PEOPLE},
        ),
    ],
)  # fmt: skip
def test_each_goes_where_the_plan_says_and_names_the_window(message, kinds, to):
    found = letters(PLAN, message(PLAN, RELEASE), "run/task")
    assert [one.kind for one in found] == kinds
    assert {place for one in found for place in one.to} == to
    assert all(WINDOW in one.text for one in found)


def test_the_mails_have_the_subjects_of_the_plan():
    assert wording.deployment_scheduled(PLAN, RELEASE).subject.startswith("Deployment scheduled")
    assert wording.maintenance_planned(PLAN, RELEASE).subject.startswith("Maintenance window planned")


def test_users_are_told_no_version_and_no_reason():
    assert "v1.1.0" not in wording.maintenance_planned(PLAN, RELEASE).text
    mail = letters(PLAN, wording.cancelled(PLAN, RELEASE, "the migration eats rows"), "run")[-1]
    assert "eats rows" not in mail.said


def test_keys_tell_messages_and_channels_apart():
    messages = [wording.cancelled(PLAN, RELEASE, "x"), wording.reminder(PLAN, RELEASE), wording.starting(PLAN, RELEASE)]
    keys = [one.key for message in messages for one in letters(PLAN, message, "run/task")]
    assert len(set(keys)) == len(keys) == 5


def test_the_time_is_the_plans_own():
    berlin = PLAN.model_copy(update={"window": PLAN.window.model_copy(update={"timezone": "Europe/Berlin"})})
    assert wording.when(berlin, RELEASE) == "Tuesday 2026-12-01 15:00-19:00 Europe/Berlin"


@pytest.mark.plan("Slack reminder to team")
def test_the_reminder_names_the_whole_team():
    text = wording.reminder(PLAN, RELEASE).slack
    assert all(user in text for role in PLAN.team.values() for user in role.users)
