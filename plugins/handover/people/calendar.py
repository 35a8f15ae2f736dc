"""A meeting as an iCalendar invitation. Its UID says what it is about, so that a second one replaces the first."""

from __future__ import annotations

import datetime
from dataclasses import dataclass


@dataclass(frozen=True)
class Meeting:
    """``uid``: names it for ever; ``start``: seconds since the epoch; ``to``: addresses."""

    uid: str
    title: str
    text: str
    start: float
    seconds: float
    to: tuple[str, ...]


def invitation(meeting: Meeting, organizer: str, now: float) -> str:
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
    return calendar.to_ical().decode()
