"""A meeting as an iCalendar invitation. Its UID says what it is about, so that a second one replaces the first."""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handover.plan.model import Plan

FILE_NAME = "invite.ics"


@dataclass(frozen=True)
class Meeting:
    """``uid``: names it for ever; ``start``: seconds since the epoch; ``to``: addresses."""

    uid: str
    title: str
    text: str
    start: float
    seconds: float
    to: tuple[str, ...]


def invitation(meeting: Meeting, organizer: str, now: float) -> bytes:
    """RFC 5545, as RFC 5546 publishes it. ``now``: seconds since the epoch."""
    from icalendar import Calendar, Event, vCalAddress

    event = Event()
    event.add("uid", f"{meeting.uid}@{organizer.rpartition('@')[2]}")
    event.add("dtstamp", datetime.datetime.fromtimestamp(now, datetime.UTC))
    event.add("dtstart", datetime.datetime.fromtimestamp(meeting.start, datetime.UTC))
    event.add("duration", datetime.timedelta(seconds=meeting.seconds))
    event.add("summary", meeting.title)
    event.add("description", meeting.text)
    event.add("organizer", vCalAddress(f"mailto:{organizer}"))
    for address in meeting.to:
        event.add("attendee", vCalAddress(f"mailto:{address}"), parameters={"rsvp": "TRUE"})
    calendar = Calendar()
    calendar.add("prodid", "-//pms//deployments//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "REQUEST")
    calendar.add_component(event)
    return bytes(calendar.to_ical())


def invite(plan: Plan, meeting: Meeting, now: float) -> None:
    """One try to mail it; raises what smtplib and Airflow's hook raise."""
    from handover.people.mail import hook, message_id

    sender = plan.messages.email_from
    with tempfile.TemporaryDirectory() as folder, hook(plan) as smtp:
        path = Path(folder) / FILE_NAME
        path.write_bytes(invitation(meeting, sender, now))
        smtp.send_email_smtp(
            to=list(meeting.to), subject=meeting.title, from_email=sender, html_content=meeting.text,
            files=[str(path)], custom_headers={"Message-ID": message_id(meeting.uid, sender)},
        )  # fmt: skip
