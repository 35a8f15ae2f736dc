"""Days on which nothing goes to production: periods in the plan file, and events of an iCalendar file, recurring ones
too. The time is always given.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from handover.plan.parts import included

if TYPE_CHECKING:
    from handover.plan.change import Freeze

_TIMES = ("DTSTART", "DTEND", "RECURRENCE-ID", "EXDATE", "RDATE")
MOMENT = datetime.timedelta(seconds=1)


class BrokenCalendar(ValueError):
    """The calendar cannot be read, so nobody knows whether today is frozen; the text says what is wrong."""


@dataclass(frozen=True)
class FrozenSpan:
    """Nothing goes out from ``starts`` until ``ends``."""

    starts: datetime.datetime
    ends: datetime.datetime
    why: str


def frozen(freeze: Freeze, timezone: str, now: datetime.datetime) -> str | None:
    """Why nothing may be deployed at this time, or None. Raises `BrokenCalendar`.

    :param timezone: of the plan's dates, and of the calendar's times that name none
    """
    today = now.astimezone(ZoneInfo(timezone)).date()
    for period in freeze.periods:
        if period.first <= today <= period.last:
            return f"{period.why} (until {period.last:%A %Y-%m-%d})"
    return _in_calendar(freeze.calendar, timezone, now) if freeze.calendar else None


def spans(freeze: Freeze, timezone: str, first: datetime.datetime, until: datetime.datetime) -> list[FrozenSpan]:
    """Every freeze that touches this time, in the order in which they begin. Raises `BrokenCalendar`."""
    zone = ZoneInfo(timezone)
    found = [
        FrozenSpan(_midnight(period.first, zone), _midnight(period.last + datetime.timedelta(days=1), zone), period.why)
        for period in freeze.periods
    ]
    if freeze.calendar:
        found += [
            FrozenSpan(_moment(event.start, zone), _moment(event.end, zone), _why(event))
            for event in _events(freeze.calendar, first.astimezone(zone), until.astimezone(zone))
        ]
    return sorted((one for one in found if one.starts < until and one.ends > first), key=lambda one: one.starts)


def _moment(day: datetime.date, zone: ZoneInfo) -> datetime.datetime:
    """In the plan's zone. A whole day begins at midnight there; a time without a zone is of that one."""
    if not isinstance(day, datetime.datetime):
        return _midnight(day, zone)
    return day.astimezone(zone) if day.tzinfo else day.replace(tzinfo=zone)


def _midnight(day: datetime.date, zone: ZoneInfo) -> datetime.datetime:
    return datetime.datetime.combine(day, datetime.time(), zone)


def _in_calendar(name: str, timezone: str, now: datetime.datetime) -> str | None:
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    events = _events(name, local, local + MOMENT)
    return f"{_why(events[0])} (calendar {name}, until {_end(events[0], zone)})" if events else None


def _events(name: str, first: datetime.datetime, until: datetime.datetime) -> list[Any]:
    """Recurring ones too, and none that was cancelled. Raises `BrokenCalendar`."""
    import recurring_ical_events
    from icalendar import Calendar

    try:
        calendar = Calendar.from_ical(included("calendars", name).read_bytes())
        for event in calendar.walk("VEVENT"):
            _mend(event)
        found = recurring_ical_events.of(calendar).between(first, until)
        return [event for event in found if str(event.get("STATUS", "")).upper() != "CANCELLED"]
    except Exception as error:  # whatever the parsers make of a broken file
        raise BrokenCalendar(f"include/calendars/{name}: {type(error).__name__}: {error}") from error


def _mend(event: Any) -> None:
    """A whole day that ends when it begins lasts it, as who writes that means it. Raises `ValueError` for a time zone
    that nobody knows: its hours would be taken for those of another.
    """
    for key in _TIMES:
        written = event.get(key, [])
        for one in written if isinstance(written, list) else [written]:
            zone = one.params.get("TZID")
            times = [time.dt for time in one.dts] if hasattr(one, "dts") else [one.dt]
            if zone and any(isinstance(time, datetime.datetime) and time.tzinfo is None for time in times):
                raise ValueError(f"{_why(event)!r} has the unknown time zone {zone!r}: write one such as Europe/Prague")
    start, end = event.get("DTSTART"), event.get("DTEND")
    if start and end and start.dt == end.dt and not isinstance(start.dt, datetime.datetime):
        del event["DTEND"]


def _why(event: Any) -> str:
    return str(event.get("SUMMARY", "")).strip() or "an event without a summary"


def _end(event: Any, zone: ZoneInfo) -> str:
    end = event.end
    if isinstance(end, datetime.datetime):
        return f"{_moment(end, zone):%A %Y-%m-%d %H:%M %Z}"
    return f"{end - datetime.timedelta(days=1):%A %Y-%m-%d}"  # a whole day's end is the day after it
