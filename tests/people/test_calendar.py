"""Invitations: what a calendar reads of them, and that a second one is the same meeting."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from icalendar import Calendar

from handover.adapters.smtp import INVITE
from handover.models.message import UNDELIVERED_KEY, Letter
from handover.people.calendar import Meeting, invitation
from handover.people.channels import deliver, invite
from handover.plan.load import load_plan
from handover.plan.model import INCLUDE
from tests.support.task import Store, Ti, context_of

PLAN = load_plan(INCLUDE / "plans" / "pms.yaml")
START = datetime.datetime(2026, 12, 2, 14, tzinfo=datetime.UTC)
MEETING = Meeting(
    uid="pms-post-mortem-1", title="PMS v1.2.0: post-mortem", text="Report: https://s3/r, and; more\nlines",
    start=START.timestamp(), seconds=3600, to=("team@pms.example.com", "lead@pms.example.com"),
)  # fmt: skip


def event(text):
    (found,) = Calendar.from_ical(text).walk("VEVENT")
    return found


def test_a_calendar_reads_when_where_and_who():
    found = event(invitation(MEETING, "deployments@pms.example.com", START.timestamp() - 60))
    assert found.decoded("dtstart") == START
    assert found.decoded("duration") == datetime.timedelta(hours=1)
    assert str(found["summary"]) == MEETING.title
    assert str(found["description"]) == MEETING.text
    assert [str(one) for one in found["attendee"]] == ["mailto:team@pms.example.com", "mailto:lead@pms.example.com"]


@pytest.mark.parametrize(("written", "address", "name"), [
    ("d@example.com", "mailto:d@example.com", None), ("<d@example.com>", "mailto:d@example.com", None),
    ("Deployments <d@example.com>", "mailto:d@example.com", "Deployments"),
    ('"Team; PMS, us" <d@example.com>', "mailto:d@example.com", "Team; PMS, us"),
], ids=["alone", "in_brackets", "named", "quoted"])  # fmt: skip
def test_who_is_named_beside_an_address_is_no_part_of_it(written, address, name):
    found = event(invitation(dataclasses.replace(MEETING, to=(written,)), written, START.timestamp()))
    assert found["uid"] == "pms-post-mortem-1@example.com"
    for one in (found["organizer"], found["attendee"]):
        assert (str(one), one.params.get("CN")) == (address, name)


def test_a_second_invitation_is_the_same_meeting():
    first, second = (event(invitation(MEETING, "a@b.example", now)) for now in (1.0, 2.0))
    assert first["uid"] == second["uid"] == "pms-post-mortem-1@b.example"
    assert first["dtstamp"].dt < second["dtstamp"].dt


@pytest.mark.plan(
    "Schedule post-mortem (within 24 hours)",
    "Full post-deployment review",
    "Post-mortem meeting (if any issues)",
    "Post-mortem scheduled",
)
def test_it_is_mailed_to_everybody(told):
    assert invite(context_of(Ti()), PLAN, MEETING) == []
    (mail,) = told("smtp")
    assert mail["body"]["to"] == list(MEETING.to)
    assert mail["body"]["subject"] == MEETING.title
    assert event(mail["body"]["files"][INVITE])["uid"] == "pms-post-mortem-1@pms.example.com"


def test_a_mail_server_that_is_away_is_a_letter_for_the_redelivery_which_brings_the_same_invitation(told, monkeypatch):
    store, ti = Store(), Ti()
    with monkeypatch.context() as away:
        away.setenv("AIRFLOW_CONN_PMS_SMTP", '{"conn_type": "smtp", "host": "127.0.0.1", "port": 1}')
        assert invite(context_of(ti, store), PLAN, MEETING) == ["e-mail: ConnectionRefusedError"]
    again = Ti(tries=2)
    assert invite(context_of(again, store), PLAN, MEETING) == ["e-mail: ConnectionRefusedError"]  # nobody asks twice
    (left,), (later,) = ti.pushed[UNDELIVERED_KEY], again.pushed[UNDELIVERED_KEY]
    assert left["key"] == later["key"]
    assert deliver(PLAN, Letter.model_validate(left), look=True, again=True).delivered
    (mail,) = told("smtp")
    assert event(mail["body"]["files"][INVITE]).decoded("dtstart") == START
