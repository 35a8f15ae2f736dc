"""Days on which nothing goes to production: periods in the plan file, and events of an iCalendar file, recurring ones
too. The time is always given.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from handover.plan.parts import included

if TYPE_CHECKING:
    from handover.plan.change import Freeze

MOMENT = datetime.timedelta(seconds=1)


class BrokenCalendar(ValueError):
    """The calendar cannot be read, so nobody knows whether today is frozen; the text says what is wrong."""


def frozen(freeze: Freeze, timezone: str, now: datetime.datetime) -> str | None:
    """Why nothing may be deployed at this time, or None. Raises `BrokenCalendar`.

    :param timezone: of the plan's dates, and of the calendar's times that name none
    """
    today = now.astimezone(ZoneInfo(timezone)).date()
    for period in freeze.periods:
        if period.first <= today <= period.last:
            return f"{period.why} (until {period.last:%A %Y-%m-%d})"
    return _in_calendar(freeze.calendar, timezone, now) if freeze.calendar else None


def _in_calendar(name: str, timezone: str, now: datetime.datetime) -> str | None:
    import recurring_ical_events
    from icalendar import Calendar

    try:
        calendar = Calendar.from_ical(included("calendars", name).read_bytes())
        local = now.astimezone(ZoneInfo(timezone))
        events = recurring_ical_events.of(calendar).between(local, local + MOMENT)
    except Exception as error:  # whatever the parsers make of a broken file
        raise BrokenCalendar(f"include/calendars/{name}: {type(error).__name__}: {error}") from error
    if not events:
        return None
    why = str(events[0].get("SUMMARY", "")).strip() or "an event without a summary"
    return f"{why} (calendar {name}, until {_end(events[0])})"


def _end(event: object) -> str:
    end = event.end  # type: ignore[attr-defined]
    if isinstance(end, datetime.datetime):
        return f"{end:%A %Y-%m-%d %H:%M}"
    return f"{end - datetime.timedelta(days=1):%A %Y-%m-%d}"  # a whole day's end is the day after it
