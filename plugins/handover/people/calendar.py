"""A meeting as an iCalendar invitation. Its UID says what it is about, so that a second one replaces the first."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from email.utils import parseaddr
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from icalendar import vCalAddress


@dataclass(frozen=True)
class Meeting:
    """``uid``: names it for ever; ``start``: seconds since the epoch; ``to``: addresses, as mail has them."""

    uid: str
    title: str
    text: str
    start: float
    seconds: float
    to: tuple[str, ...]


def invitation(meeting: Meeting, organizer: str, now: float) -> str:
    """RFC 5545, as RFC 5546 publishes it. ``now``: seconds since the epoch."""
    from icalendar import Calendar, Event

    event = Event()
    event.add("uid", f"{meeting.uid}@{parseaddr(organizer)[1].rpartition('@')[2]}")
    event.add("dtstamp", datetime.datetime.fromtimestamp(now, datetime.UTC))
    event.add("dtstart", datetime.datetime.fromtimestamp(meeting.start, datetime.UTC))
    event.add("duration", datetime.timedelta(seconds=meeting.seconds))
    event.add("summary", meeting.title)
    event.add("description", meeting.text)
    event.add("organizer", _person(organizer))
    for address in meeting.to:
        event.add("attendee", _person(address), parameters={"rsvp": "TRUE"})
    calendar = Calendar()
    calendar.add("prodid", "-//pms//deployments//EN")
    calendar.add("version", "2.0")
    calendar.add("method", "REQUEST")
    calendar.add_component(event)
    return calendar.to_ical().decode()


def _person(written: str) -> vCalAddress:
    """Of an address as mail has it, which may have a name: ``Deployments <deployments@example.com>``."""
    from icalendar import vCalAddress

    name, address = parseaddr(written)
    return vCalAddress(f"mailto:{address}", params={"CN": name} if name else {})
